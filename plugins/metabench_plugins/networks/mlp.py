"""A multi-layer perceptron: two hidden layers of 40 for the sinusoid of Finn et al. 2017, section 5.1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from metabench import Invalid, Network, setting
from metabench.learning import Headed


@dataclass(frozen=True, kw_only=True)
class Mlp(Network):
    """Fully connected layers with ReLU between them; inputs of any shape are flattened.

    Departure from the networks of Finn et al. 2017: weights start uniform as torch's do, where theirs are
    normal with a deviation of 0.01, cut at two deviations, and biases 0.
    """

    name: ClassVar[str] = "mlp"

    hidden: tuple[int, ...] = setting((40, 40), "width of each hidden layer", at_least=1)
    batch_norm: bool = setting(False, "normalise each hidden layer by its batch's statistics")

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Build it, with weights uniform as torch's `nn.Linear` samples them."""
        if not self.hidden:
            raise Invalid("mlp has no hidden layer: its features would be the input; set hidden to [40, 40]")
        layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) != 1 else []
        width = math.prod(input_shape)
        for next_width in self.hidden:
            layers.append(nn.Linear(width, next_width))
            if self.batch_norm:
                layers.append(nn.BatchNorm1d(next_width, track_running_stats=False))
            layers.append(nn.ReLU())
            width = next_width
        return Headed(nn.Sequential(*layers), width, outputs)
