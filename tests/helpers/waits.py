"""Count the operations that make the host wait for a GPU, and the copies that do not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
_READS = {_aten._local_scalar_dense.default, _aten.nonzero.default, _aten.is_nonzero.default,
          _aten.masked_select.default, _aten.equal.default}  # fmt: skip
_INDEXES = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default,
            _aten._index_put_impl_.default}  # fmt: skip


class Waits(TorchDispatchMode):
    """waits: operations for which the host waits on a GPU, by name; queued: copies it does not wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.queued = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        there = any(isinstance(a, Tensor) and a.device.type != "cpu" for a in tree_leaves((args, kwargs)))
        if func is _aten._to_copy.default:
            self._note_copy(func, args[0].device, kwargs.get("device"), kwargs.get("non_blocking", False))
        elif func is _aten.copy_.default:
            self._note_copy(func, args[1].device, args[0].device, args[2] if len(args) > 2 else False)
        elif there and (func in _READS or (func in _INDEXES and _index_waits(args[1]))):
            self.waits.append(str(func))
        return func(*args, **kwargs)

    def _note_copy(self, func: Any, source: torch.device, target: Any, queued: bool) -> None:
        if target is None or source.type == torch.device(target).type:
            return
        if queued:
            self.queued += 1
        else:
            self.waits.append(f"{func} from {source} to {target}")


def _index_waits(indices: Any) -> bool:
    """Whether an index comes from the host, or is a mask, whose elements are counted first."""
    present = [index for index in indices if isinstance(index, Tensor)]
    return any(index.device.type == "cpu" or index.dtype == torch.bool for index in present)
