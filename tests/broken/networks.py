"""Networks with one fault each, and a sound one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from metabench import (
    Invalid,
    Network,
    setting,
)
from metabench.learning import Headed


@dataclass(frozen=True, kw_only=True)
class FaultyNetwork(Network):
    """One layer, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        size = int(np.prod(input_shape))
        if self.fault == "refuses":
            raise Invalid("does not fit")
        if self.fault == "crashes":
            raise ValueError("boom")
        layer = nn.Linear(size, 6)
        if self.fault == "own seed":
            torch.manual_seed(0)
            layer = nn.Linear(size, 6)
        features: list[nn.Module] = [nn.Flatten(), layer, nn.Tanh()]
        if self.fault == "running":
            features.append(nn.BatchNorm1d(6))
        if self.fault == "dropout":
            features.append(nn.Dropout())
        if self.fault == "unused":
            features[1] = _Unused(layer)
        if self.fault == "stray constant":
            features.append(_Shift())
        width = (outputs or 6) + 1 if self.fault == "narrow" else 6
        if self.fault == "flat":
            return nn.Sequential(*features, nn.Linear(6, outputs or 1))
        if self.fault == "keeps head":
            outputs = outputs or 6
        headed = Headed(nn.Sequential(*features), 6, outputs)
        if self.fault == "narrow":
            headed.head = nn.Linear(6, width)
        return headed


class _Unused(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.spare = layer, nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


class _Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.by = torch.ones(6)  # no buffer: .to(device) leaves it where it is

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by
