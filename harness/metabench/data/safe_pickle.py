"""Read pickles of numpy arrays and plain containers, and of nothing that can run code or read memory."""

from __future__ import annotations

import collections
import io
import pickle
import re
from pathlib import Path
from typing import IO, Any

import numpy as np

from metabench.errors import DataError

_ARRAY = object()  # stands for numpy.ndarray, which a pickle could otherwise call with any size
_DTYPE = re.compile(r"[<>|=]?[biufcSUO]\d{1,9}")  # a type code without fields, such as u1
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


def read_pickle(source: Path | bytes, encoding: str = "latin1") -> Any:
    """Return the arrays, numbers, strings, lists, tuples, dicts and sets of a pickle.

    encoding: of strings that Python 2 wrote. Raises DataError if the pickle names anything else, before
    that is imported, or if it is damaged.
    """
    title = source.name if isinstance(source, Path) else "the pickle"
    try:
        if isinstance(source, bytes):
            return _Plain(io.BytesIO(source), encoding).load()
        with source.open("rb") as file:
            return _Plain(file, encoding).load()
    except DataError as error:
        raise DataError(f"{title} {error}") from None
    except MemoryError:
        raise DataError(f"{title} holds or declares more than fits in memory") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{title} is no whole pickle ({reason}); remove it and fetch it again") from error


class _Plain(pickle.Unpickler):
    def __init__(self, file: IO[bytes], encoding: str) -> None:
        super().__init__(file, encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        if module in _ARRAY_MODULES and name == "_reconstruct":
            return _empty_array
        if module in _ARRAY_MODULES and name == "scalar":
            return _scalar
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _from_buffer
        if (module, name) == ("numpy", "ndarray"):
            return _ARRAY
        if (module, name) == ("numpy", "dtype"):
            return _dtype
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset"):
            return {"set": set, "frozenset": frozenset}[name]
        if (module, name) == ("_codecs", "encode"):
            return _latin1  # how Python 3 writes bytes in the old protocols
        raise DataError(f"names {module}.{name}, and only arrays and plain containers are read from a pickle")


class _Array(np.ndarray):
    """An array whose type is checked before a pickle's state gives it values."""

    def __setstate__(self, state: Any) -> None:
        _require_plain(state[-3])
        super().__setstate__(state)


def _empty_array(kind: Any, shape: Any, code: Any) -> Any:
    if kind is not _ARRAY:
        raise DataError("makes an array of a class other than numpy.ndarray")
    return np.empty(0, dtype=np.int8).view(_Array)  # its type and shape are set by the state that follows


def _dtype(code: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    """Return a new type of its own: a pickle's state must not change the types of everybody."""
    if not isinstance(code, str) or not _DTYPE.fullmatch(code):
        raise DataError(f"holds the type {code!r}, which is no plain number, string or object")
    return np.dtype(code, copy=True)


def _require_plain(kind: Any) -> None:
    """Refuse types that a pickle's state has changed: their fields may lie anywhere in memory."""
    plain = (
        isinstance(kind, np.dtype) and kind.names is None and kind.fields is None and kind.subdtype is None
    )
    if not plain or np.dtype(kind.str).itemsize != kind.itemsize or kind.itemsize < 0:
        raise DataError("holds an array of a structured type; only numbers, strings and objects are read")


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> Any:
    _require_plain(kind)
    if kind.hasobject:
        raise DataError("holds an array of objects in one block")
    return np.frombuffer(content, dtype=kind).reshape(shape, order=order)


def _scalar(kind: np.dtype[Any], content: Any = b"") -> Any:
    _require_plain(kind)
    if kind.hasobject:
        raise DataError("holds a scalar that is no plain number")
    content = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(content, dtype=kind, count=1)[0]


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise DataError(f"encodes text by {encoding!r}")
    return text.encode("latin1")
