"""Backends and devices with one fault each, and sound ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from metabench import (
    Backend,
    setting,
)
from metabench.device import Device


class FaultyDevice(Device):
    """The CPU, with a fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.turn = fault, 0

    def clock(self) -> float:
        if self.fault == "queued":
            return 1.0
        self.turn -= self.fault == "backwards"
        return self.turn if self.turn else super().clock()

    def average_gradients(self, parameters: Sequence[Tensor], weight: float) -> None:
        for parameter in parameters:
            if self.fault == "gradients" and parameter.grad is not None:
                parameter.grad.mul_(0.5)
            if self.fault == "zeros" and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        return [] if self.fault == "gather" else super().gather(values)

    def peak_memory(self) -> dict[str, float]:
        return {} if self.fault == "memory" else super().peak_memory()

    def environment(self) -> dict[str, Any]:
        return {"device": torch.device("cpu")} if self.fault == "facts" else super().environment()


@dataclass(frozen=True, kw_only=True)
class FaultyBackend(Backend):
    """The CPU, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    @property
    def world_size(self) -> int:
        return 2 if self.fault == "ranks" else 1

    def available(self) -> str | None:
        return {"mute": "", "absent": "there is no such card"}.get(self.fault)

    def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        return (["true"] if self.fault == "command" else list(argv)), {"OMP_NUM_THREADS": "1"}

    def open(self) -> Device:
        if self.fault == "does not open":
            raise OSError("no card in slot 3")
        return FaultyDevice(self.fault)
