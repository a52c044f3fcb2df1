"""The ranks that share one cell's tasks: joining, one flat all-reduce of the gradients, gathering of values.

torchrun starts the ranks and tells each its place through the environment; `Ranks` joins them. There is no
wrapper around the module: a meta-gradient is not the gradient of one forward pass, so it is averaged as a
whole after the learner has written it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import reduce

import torch
import torch.distributed as dist
from torch import Tensor

SHORT = 15
"""So many values of each rank are gathered in one exchange; more of them take a second one."""

FOLLOWER_SECONDS = 3.0
"""How long a rank that lost another one waits before it fails too: torchrun tells times in whole seconds."""


class Ranks:
    """This process's place among the ranks of a cell: `rank` of `world_size`, `local_rank` on its machine.

    backend: what torch calls the way the ranks talk ("gloo", "nccl", or "cpu:gloo,cuda:nccl");
    timeout_seconds: how long a rank waits for the others before it raises, which ends the cell.
    """

    def __init__(self, backend: str, timeout_seconds: float) -> None:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
        self.backend = backend
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()
        self.local_rank = local_rank()
        self._flat = torch.empty(0)

    @torch.no_grad()
    def average_gradients(self, parameters: Sequence[Tensor], weight: float) -> None:
        """Replaces each `.grad` by the sum over ranks of `weight * grad`, in one all-reduce.

        A missing `.grad` counts as zeros; one that is missing on every rank stays missing, since an
        optimizer treats zeros otherwise than nothing. Gradients are written in place where they exist, so
        that a captured graph finds them where it left them.
        """
        if not parameters:
            return
        flat, slots, present = self._buffer(parameters)
        absent = [one.grad is None for one in parameters]
        for one, slot in zip(parameters, slots, strict=True):
            if one.grad is None:
                slot.zero_()
            else:
                slot.copy_(one.grad.detach())
        # beside the gradients travels, for each of them, by how many ranks it is present; it is written on
        # the device, since a copy from the host would wait until all that is queued there has run
        present.fill_(1.0)
        for number, gone in enumerate(absent):
            if gone:
                present[number].zero_()
        flat[: flat.numel() - len(absent)].mul_(weight)
        dist.all_reduce(flat)
        found = present.tolist() if any(absent) else [1.0] * len(absent)  # reading it waits for the device
        for one, slot, ranks in zip(parameters, slots, found, strict=True):
            if one.grad is not None:
                one.grad.copy_(slot)
            elif ranks:
                one.grad = slot.to(one.dtype, copy=True)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Each rank's values, however many it has, in the order of the ranks, on every rank."""
        own = torch.tensor([len(values), *values], dtype=torch.float64)
        room = 1 + SHORT
        everyone = self._all_gather(_fitted(own, room))
        longest = max(int(each[0]) for each in everyone)
        if longest > SHORT:
            rest = self._all_gather(_fitted(own[room:], longest - SHORT))
            everyone = [torch.cat(parts) for parts in zip(everyone, rest, strict=True)]
        return [each[1 : 1 + int(each[0])].tolist() for each in everyone]

    def slowest(self, seconds: float) -> float:
        """The largest of all ranks' `seconds`, on every rank."""
        value = torch.tensor([seconds], dtype=torch.float64)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return float(value)

    def agree(self, flag: bool) -> bool:
        """Rank 0's `flag`, on every rank."""
        value = torch.tensor([int(flag)])
        dist.broadcast(value, src=0)
        return bool(value)

    def close(self, error: BaseException | None = None) -> None:
        """Leaves the ranks. After an error nothing is torn down in common: the others may be gone."""
        if error is not None:
            if _peer_is_gone(error):  # torchrun ends this rank meanwhile, and names the one that fell first
                time.sleep(FOLLOWER_SECONDS)
            report_error(error)
        elif dist.is_initialized():
            dist.destroy_process_group()

    def _buffer(self, parameters: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], Tensor]:
        """The flat buffer, a view of it for each parameter, and the view with one flag per parameter."""
        sizes = [one.numel() for one in parameters]
        total = sum(sizes) + len(sizes)
        dtype = reduce(torch.promote_types, (one.dtype for one in parameters))
        place = parameters[0].device
        if (self._flat.numel(), self._flat.dtype, self._flat.device) != (total, dtype, place):
            self._flat = torch.empty(total, dtype=dtype, device=place)
        *parts, present = torch.split(self._flat, [*sizes, len(sizes)])
        return self._flat, [p.view(one.shape) for p, one in zip(parts, parameters, strict=True)], present

    def _all_gather(self, mine: Tensor) -> list[Tensor]:
        everyone = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(everyone, mine)
        return everyone


def _fitted(values: Tensor, size: int) -> Tensor:
    """The first `size` values, filled up with zeros."""
    return torch.nn.functional.pad(values[:size], (0, max(0, size - values.numel())))


def _peer_is_gone(error: BaseException) -> bool:
    said = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


def local_rank() -> int:
    """This process's number among the ranks of its machine, as torchrun gave it (0 without torchrun)."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def report_error(error: BaseException) -> None:
    """Tells torchrun what ended this rank, so that its last lines name the rank that failed first.

    Does nothing where torchrun did not start this process.
    """
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
