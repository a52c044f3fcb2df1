"""Classes of a script or notebook, which no package provides: how they travel to workers, their source."""

from __future__ import annotations

import ast
import base64
import hashlib
import inspect
import io
import linecache
import pickle
import sys
from collections import ChainMap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, dataclass
from types import CodeType, FunctionType
from typing import Any, ClassVar

from metabench.errors import RequestError
from metabench.records.code import INSTALLED

LOCAL = "(local)"
"""What such a class has in the place of its distribution; no distribution can be called so."""
DIGITS = 12
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Carried:
    """A class as it travels: pickled by value, with the folders that its imports are found in.

    source: its text and that of what it uses of its own module, for reading.
    """

    pickled: str
    search: tuple[str, ...]
    source: str

    @property
    def version(self) -> str:
        """A digest of the source, or where it is not known of the pickle: other code is another cell."""
        return hashlib.sha256((self.source or self.pickled).encode()).hexdigest()[:DIGITS]


def carry(component: type, origin: Any = None) -> Carried:
    """Return a class as it travels to a worker; raises RequestError where that is impossible.

    origin: the object whose source is kept, where the class was made around one.
    """
    try:
        import cloudpickle
    except ImportError as error:
        raise RequestError(
            f"{component.__name__} is of no installed package, and travels to workers by cloudpickle, which "
            "is absent: pip install 'metabench[objects]'"
        ) from error
    origin = component if origin is None else origin
    origin = origin if isinstance(origin, (type, FunctionType)) else type(origin)
    module = sys.modules.get(getattr(origin, "__module__", ""), None)
    by_value = module is not None and module.__name__ != "__main__" and not is_installed(origin)
    if by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        pickled = _pickled(cloudpickle.Pickler, component)
    except Exception as error:  # of whatever the class refers to
        raise RequestError(f"{component.__name__} cannot travel to a worker: {error}") from error
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    return Carried(
        base64.b64encode(pickled).decode(), tuple(filter(None, sys.path)), source_of_object(origin)
    )


def _pickled(pickler: Any, component: type) -> bytes:
    class Pickler(pickler):  # type: ignore[misc]  # cloudpickle has no types
        """Keeps the marker of a dataclass field without default the one object that it is compared with."""

        dispatch_table: ClassVar[Any] = ChainMap(
            {type(MISSING): lambda marker: "MISSING"}, pickler.dispatch_table
        )

    file = io.BytesIO()
    Pickler(file).dump(component)
    return file.getvalue()


def received(pickled: str, search: tuple[str, ...]) -> type:
    """Return the class that `carry` packed; a worker alone calls this, with what its parent packed."""
    sys.path += [folder for folder in search if folder not in sys.path]
    component: type = pickle.loads(base64.b64decode(pickled))
    return component


def is_installed(item: Any) -> bool:
    """Return whether a class or function is of a package that is installed, and imported by its name."""
    module = sys.modules.get(getattr(item, "__module__", None) or "")
    file = getattr(module, "__file__", None) or ""
    return bool(INSTALLED & {*file.replace("\\", "/").split("/")})


def source_of_object(item: Any) -> str:
    """Return the source of a class or function, and of what it uses of its own module; empty if not known."""
    parts: dict[str, None] = {}
    waiting, seen = [item], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        parts[_text(part)] = None
        for name, value in _uses(part):
            if isinstance(value, (type, FunctionType)):
                waiting.append(value)
            else:
                parts[f"{name} = {value!r}"] = None
    return "\n\n".join(filter(None, parts))


def _text(item: Any) -> str:
    with suppress(OSError, TypeError):
        return inspect.getsource(item)
    for function in _functions(item):  # a class of a notebook: its methods know the cell
        text = "".join(linecache.getlines(function.__code__.co_filename))
        with suppress(SyntaxError):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ClassDef) and node.name == item.__name__:
                    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                    return "\n".join(text.splitlines()[first - 1 : node.end_lineno]) + "\n"
    return ""


def _functions(item: Any) -> list[FunctionType]:
    if isinstance(item, FunctionType):
        return [item]
    members = vars(item).values() if isinstance(item, type) else ()
    return [value for value in members if isinstance(value, FunctionType)]


def _uses(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield the classes, functions and plain values of its own module that a class or function uses."""
    home = getattr(item, "__module__", None)
    for base in item.__bases__ if isinstance(item, type) else ():
        if base.__module__ == home:
            yield base.__name__, base
    for function in _functions(item):
        if function.__module__ != home:
            continue
        for name in sorted(_names(function.__code__)):
            value = function.__globals__.get(name)
            of_home = isinstance(value, (type, FunctionType)) and value.__module__ == home
            if of_home or (name in function.__globals__ and isinstance(value, PLAIN)):
                yield name, value


def _names(code: CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names, *(name for part in inner for name in _names(part))}
