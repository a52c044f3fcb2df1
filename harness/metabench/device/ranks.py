"""The ranks that share one cell's tasks: joining, one flat all-reduce of the gradients, gathering of values.

torchrun starts the ranks and sets each one's number in its environment; `Ranks` joins them. No wrapper
around the module is needed: a meta-gradient is not the gradient of one forward pass, so it is averaged as a
whole after the learner has computed it.
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
"""The most values of each rank that one exchange gathers; more of them take a second exchange."""

FOLLOWER_SECONDS = 3.0
"""How long a rank waits before it fails because another did: torchrun compares times in whole seconds."""


class Ranks:
    """This process among the ranks of a cell: `rank` of `world_size`, `local_rank` on its machine.

    backend: torch's name for the communication ("gloo", "nccl", or "cpu:gloo,cuda:nccl");
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
        """Replace each `.grad` by the sum over ranks of `weight * grad`, in one all-reduce.

        A missing `.grad` counts as zeros; if it is missing on every rank it stays missing, since an
        optimizer treats zeros differently. Gradients are written in place where they exist, so that a
        captured graph reads and writes the same memory.
        """
        if not parameters:
            return
        flat, slots, present = self._buffer(parameters)
        absent = [parameter.grad is None for parameter in parameters]
        for parameter, slot in zip(parameters, slots, strict=True):
            if parameter.grad is None:
                slot.zero_()
            else:
                slot.copy_(parameter.grad.detach())
        # The same all-reduce counts for each gradient the ranks that have it. The flags are written on the
        # device, since a copy from the host would wait until everything queued there has run.
        present.fill_(1.0)
        for number, is_absent in enumerate(absent):
            if is_absent:
                present[number].zero_()
        flat[: flat.numel() - len(absent)].mul_(weight)
        dist.all_reduce(flat)
        counts = present.tolist() if any(absent) else [1.0] * len(absent)  # reading it waits for the device
        for parameter, slot, ranks in zip(parameters, slots, counts, strict=True):
            if parameter.grad is not None:
                parameter.grad.copy_(slot)
            elif ranks:
                parameter.grad = slot.to(parameter.dtype, copy=True)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return each rank's values, however many it has, in the order of the ranks, on every rank."""
        own = torch.tensor([len(values), *values], dtype=torch.float64)
        size = 1 + SHORT
        gathered = self._all_gather(_fitted(own, size))
        longest = max(int(row[0]) for row in gathered)
        if longest > SHORT:
            rest = self._all_gather(_fitted(own[size:], longest - SHORT))
            gathered = [torch.cat(parts) for parts in zip(gathered, rest, strict=True)]
        return [row[1 : 1 + int(row[0])].tolist() for row in gathered]

    def slowest(self, seconds: float) -> float:
        """Return the largest of all ranks' `seconds`, on every rank."""
        value = torch.tensor([seconds], dtype=torch.float64)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return float(value)

    def agree(self, flag: bool) -> bool:
        """Return rank 0's `flag`, on every rank."""
        value = torch.tensor([int(flag)])
        dist.broadcast(value, src=0)
        return bool(value)

    def close(self, error: BaseException | None = None) -> None:
        """Leave the ranks; after an error without waiting for the others, which may be gone."""
        if error is not None:
            if _peer_is_gone(error):  # torchrun ends this rank meanwhile, and names the one that failed first
                time.sleep(FOLLOWER_SECONDS)
            report_error(error)
        elif dist.is_initialized():
            dist.destroy_process_group()

    def _buffer(self, parameters: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], Tensor]:
        """The flat buffer, a view of it for each parameter, and the view with one flag per parameter."""
        sizes = [parameter.numel() for parameter in parameters]
        total = sum(sizes) + len(sizes)
        dtype = reduce(torch.promote_types, (parameter.dtype for parameter in parameters))
        device = parameters[0].device
        if (self._flat.numel(), self._flat.dtype, self._flat.device) != (total, dtype, device):
            self._flat = torch.empty(total, dtype=dtype, device=device)
        *parts, present = torch.split(self._flat, [*sizes, len(sizes)])
        slots = [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]
        return self._flat, slots, present

    def _all_gather(self, own: Tensor) -> list[Tensor]:
        gathered = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(gathered, own)
        return gathered


def _fitted(values: Tensor, size: int) -> Tensor:
    """The first `size` values, padded with zeros."""
    return torch.nn.functional.pad(values[:size], (0, max(0, size - values.numel())))


def _peer_is_gone(error: BaseException) -> bool:
    messages = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, RuntimeError) and any(message in str(error) for message in messages)


def local_rank() -> int:
    """Return this process's number among the ranks of its machine, as torchrun set it (else 0)."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def report_error(error: BaseException) -> None:
    """Report to torchrun what this rank failed with, so that its last lines name the rank that failed first.

    Does nothing where torchrun did not start this process.
    """
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
