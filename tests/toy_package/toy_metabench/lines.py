"""Tasks that are straight lines, and a linear network for them."""

from dataclasses import dataclass

import torch
from torch import nn

from metabench import Dataset, Episodes, Examples, Facts, Invalid, Network, Source, setting


@dataclass(frozen=True, kw_only=True)
class ToyLines(Dataset):
    """Regression of straight lines."""

    name = "toy-lines"
    steepness: float = setting(2.0, "largest slope", above=0)

    def describe(self):
        endless = dict.fromkeys(("train", "validation", "test"), 0)
        return Facts("regression", (1,), 1, endless, endless)

    def load(self, device):
        return _Lines(self.steepness, device)


class _Lines(Source):
    def __init__(self, steepness, device):
        self.steepness, self.device = steepness, device

    def episodes(self, split, protocol, indices, seed):
        tasks = [self._task(split, protocol, index, seed) for index in indices]
        x, y = (
            torch.stack(parts).to(self.device.torch, self.device.dtype) for parts in zip(*tasks, strict=True)
        )
        n = protocol.shots
        none = torch.zeros(len(tasks), 0, dtype=torch.long)
        return Episodes(
            Examples(x[:, :n], y[:, :n]), Examples(x[:, n:], y[:, n:]), none, torch.tensor(list(indices))
        )

    def _task(self, split, protocol, index, seed):
        number = ["train", "validation", "test"].index(split)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index * 3 + number)
        slope, shift = torch.rand(2, generator=generator, dtype=torch.float64) * 2 - 1
        x = torch.rand(protocol.shots + protocol.queries, 1, generator=generator, dtype=torch.float64)
        return x, self.steepness * slope * x + shift

    def manifest(self, split, protocol, indices, seed):
        tasks = [self._task(split, protocol, index, seed) for index in indices]
        return {
            "x": torch.stack([x for x, _ in tasks]).numpy(),
            "y": torch.stack([y for _, y in tasks]).numpy(),
        }


@dataclass(frozen=True, kw_only=True)
class ToyLinear(Network):
    """One linear layer."""

    name = "toy-linear"
    narrow: bool = setting(False, "have an output too few, which only a built network shows")

    def build(self, input_shape, outputs):
        if self.narrow:
            raise Invalid("toy-linear: its output is narrower than the target")
        module = nn.Module()
        module.features = nn.Identity()
        module.head = nn.Linear(input_shape[0], outputs or 1)
        return module


class _Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.query = nn.Linear(width, 4)
        self.value = nn.Linear(width, 4)

    def forward(self, x):
        return torch.softmax(self.query(x), -1) * self.value(x)


@dataclass(frozen=True, kw_only=True)
class ToyAttention(Network):
    """Attention over hidden units, whose softmax the engine has no rule for."""

    name = "toy-attention"

    def build(self, input_shape, outputs):
        module = nn.Sequential()
        module.features = _Attention(input_shape[0])
        module.head = nn.Linear(4, outputs)
        return module
