"""A device that every machine has: tensors on it compute on the CPU, and refuse to meet tensors of the CPU.

Most components that fail on a GPU fail because one tensor was left on the CPU. Here they fail on a laptop:

    with elsewhere() as device:
        ...  # what is built for `device` must make its tensors there
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from metabench.device.device import Device
from metabench.testing.contract_error import ContractError, Subject

PLACE = torch.device("lazy")
"""A type of device that torch knows on every machine, and for which it needs neither driver nor library."""
_aten = torch.ops.aten
_MOVES = frozenset({_aten._to_copy.default, _aten.copy_.default})
_INDEXES = frozenset({
    _aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default,
})  # fmt: skip


class StrayError(RuntimeError):
    """A tensor of the CPU met one of the device, as no GPU allows; the text says where in the code."""


@contextmanager
def elsewhere(dtype: torch.dtype = torch.float64) -> Iterator[Device]:
    """The pretended device, on which tensors can be made within this context.

    Raises StrayError at the operation where a tensor of the CPU meets one of the device. As on a GPU,
    single numbers of the CPU may (tensors without axes), and tensors of the CPU may index.
    """
    lifting = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device) shows its move to the mode
    try:
        with _Mode():  # type: ignore[no-untyped-call]  # torch types none of its modes
            yield Device(str(PLACE), dtype)
    finally:
        torch._C._set_only_lift_cpu_tensors(lifting)


def check_no_strays(subject: Subject, run: Callable[[Device], None], dtype: torch.dtype) -> None:
    """Raises ContractError where `run` mixes tensors of the CPU with those of the device that it is given.

    What fails there for another reason proves nothing: a pretended device has no generators of its own, say.
    """
    try:
        with elsewhere(dtype) as device:
            run(device)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, ContractError):  # what `run` itself found out of place
            raise
        if isinstance(cause, StrayError):
            raise ContractError(f"{subject.title}: on a GPU it would fail: {cause}") from error


class _There(Tensor):
    """A tensor of the pretended device; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> _There:
        made: _There = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=PLACE,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own has no types
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return _compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.held.numpy(force=True)
        _stray("a tensor of the device is asked for as numpy array", "call .cpu() on it first")

    def __array__(self, *given: Any, **named: Any) -> Any:
        return self.numpy()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # the same
        return repr(self.held)


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the same
    """Sees the operations that make tensors on the device as well."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The operation on the held tensors; its results lie where a real device would have them."""
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    asked = kwargs.get("device")
    there = any(isinstance(one, _There) for one in tensors)
    if func in _MOVES:
        there = isinstance(args[0], _There)
    elif there:
        _refuse_strays(func, args, tensors)
    if asked is not None:
        there = torch.device(asked).type == PLACE.type
        if there and kwargs.get("generator") is not None:
            _stray(f"{func} draws on the device from a generator of the CPU", "draw first, then move")
    placed = {**kwargs, "device": torch.device("cpu")} if asked is not None and there else kwargs
    found = func(*tree_map(_held, args), **tree_map(_held, placed))
    if not there:
        return found
    if func is _aten._to_copy.default and any(found is one for one in tensors):
        found = found.clone()
    moved = tree_map(_there, found)
    return return_and_correct_aliasing(func, args, kwargs, moved)  # type: ignore[no-untyped-call]


def _held(one: Any) -> Any:
    return one.held if isinstance(one, _There) else one


def _there(one: Any) -> Any:
    return _There(one) if isinstance(one, Tensor) else one


def _refuse_strays(func: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    if func in _INDEXES and isinstance(args[0], _There):
        return
    strays = [one for one in tensors if not isinstance(one, _There) and one.dim()]
    if strays:
        shapes = ", ".join(str(tuple(one.shape)) for one in strays)
        _stray(
            f"in {func} a tensor of the CPU, {shapes}, meets one of the device",
            "make it there (device=x.device), or register it as a buffer of the module",
        )


def _stray(what: str, advice: str) -> NoReturn:
    own = Path(__file__).parent, Path(torch.__file__).parent
    frames = [
        frame
        for frame in traceback.extract_stack()
        if not any(folder in Path(frame.filename).parents for folder in own)
    ]
    place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: " if frames else ""
    raise StrayError(f"{place}{what}; {advice}")
