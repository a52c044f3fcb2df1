"""A pretended device for every machine: its tensors compute on the CPU, and refuse tensors of the CPU.

Most components that fail on a GPU fail by a device mismatch: a tensor was left on the CPU. Here they
fail on a laptop:

    with pretend_device() as device:
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

PRETENDED = torch.device("lazy")
"""A type of device that torch has on every machine, without driver or library."""
_aten = torch.ops.aten
_MOVES = frozenset({_aten._to_copy.default, _aten.copy_.default})
_INDEXES = frozenset({
    _aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default,
})  # fmt: skip


class StrayError(RuntimeError):
    """A device mismatch: a tensor of the CPU met one of the device; the text names the line of code."""


@contextmanager
def pretend_device(dtype: torch.dtype = torch.float64) -> Iterator[Device]:
    """Yield the pretended device, on which tensors can be made within this context.

    Raises StrayError at the operation where a tensor of the CPU meets one of the device. As on a GPU,
    single numbers of the CPU may (tensors without axes), and tensors of the CPU may index.
    """
    lifting = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device) shows its move to the mode
    try:
        with _Mode():  # type: ignore[no-untyped-call]  # torch types none of its modes
            yield Device(str(PRETENDED), dtype)
    finally:
        torch._C._set_only_lift_cpu_tensors(lifting)


def check_no_strays(subject: Subject, run: Callable[[Device], None], dtype: torch.dtype) -> None:
    """Raise ContractError where `run` mixes tensors of the CPU with those of its device.

    A failure for another reason proves nothing: a pretended device has no RNGs of its own, for example.
    """
    try:
        with pretend_device(dtype) as device:
            run(device)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, ContractError):  # raised by `run` itself
            raise
        if isinstance(cause, StrayError):
            raise ContractError(f"{subject.title}: on a GPU it would fail: {cause}") from error


class _There(Tensor):
    """A tensor of the pretended device; `held` has its elements."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> _There:
        tensor: _There = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=PRETENDED,
        )  # fmt: skip
        tensor.held = held
        return tensor

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
        _stray("a tensor of the device is converted to a numpy array", "call .cpu() on it first")

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        return self.numpy()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # the same
        return repr(self.held)


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the same
    """Intercepts the operations that create tensors on the device."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run the operation on the held tensors; place its results where a real device would."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    requested = kwargs.get("device")
    there = any(isinstance(tensor, _There) for tensor in tensors)
    if func in _MOVES:
        there = isinstance(args[0], _There)
    elif there:
        _refuse_strays(func, args, tensors)
    if requested is not None:
        there = torch.device(requested).type == PRETENDED.type
        if there and kwargs.get("generator") is not None:
            _stray(f"{func} samples on the device from an RNG of the CPU", "sample first, then move")
    placed = {**kwargs, "device": torch.device("cpu")} if requested is not None and there else kwargs
    result = func(*tree_map(_held, args), **tree_map(_held, placed))
    if not there:
        return result
    if func is _aten._to_copy.default and any(result is tensor for tensor in tensors):
        result = result.clone()
    wrapped = tree_map(_there, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)  # type: ignore[no-untyped-call]


def _held(value: Any) -> Any:
    return value.held if isinstance(value, _There) else value


def _there(value: Any) -> Any:
    return _There(value) if isinstance(value, Tensor) else value


def _refuse_strays(func: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    if func in _INDEXES and isinstance(args[0], _There):
        return
    strays = [tensor for tensor in tensors if not isinstance(tensor, _There) and tensor.dim()]
    if strays:
        shapes = ", ".join(str(tuple(stray.shape)) for stray in strays)
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
