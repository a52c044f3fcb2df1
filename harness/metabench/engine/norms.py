"""Batch norms of a network: whether each takes its batch's statistics or holds statistics of its own.

A batch norm in training mode takes the statistics of its batch. In eval mode it is *fixed*: it takes those
that it holds, which a pretrained network brings along, or which `measure_population` computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase


def is_fixed(layer: _NormBase) -> bool:
    """Return whether a norm takes statistics that it holds, whatever its batch is."""
    return not layer.training and layer.running_mean is not None


def drop_running_statistics(module: nn.Module) -> list[_BatchNorm]:
    """Make every norm that is not fixed use its batch's statistics alone; return the batch norms of these."""
    for layer in module.modules():
        if isinstance(layer, _NormBase) and not is_fixed(layer):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and not is_fixed(layer)]


def hold_statistics(norms: Sequence[_BatchNorm], like: Tensor) -> None:
    """Fix batch norms to mean 0 and variance 1, as buffers of `like`'s type, until they are measured."""
    for layer in norms:
        layer.running_mean = like.new_zeros(layer.num_features)
        layer.running_var = like.new_ones(layer.num_features)
        layer.eval()


def measure_population(module: nn.Module, norms: Sequence[_BatchNorm], batches: Iterable[Tensor]) -> None:
    """Let batch norms hold the mean over batches of their inputs' mean and unbiased variance.

    batches: inputs [m, *input] of the module, each normalised by its own statistics. Torch computes running
    statistics so with `momentum=None`. Nothing but the held statistics changes.
    """
    totals = [_Total(layer) for layer in norms]
    hooks = [total.layer.register_forward_pre_hook(total.add) for total in totals]
    try:
        for layer in norms:
            layer.train()
        with torch.no_grad():
            for x in batches:
                module(x)
    finally:
        for hook, layer in zip(hooks, norms, strict=True):
            hook.remove()
            layer.eval()
    for total in totals:
        total.hold_mean()


class _Total:
    """The sums of a batch norm's input statistics over its calls."""

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer
        self.calls = 0
        self.means = self.variances = torch.zeros(())

    def add(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        assert self.layer.running_mean is not None  # since `hold_statistics`
        x = inputs[0].to(self.layer.running_mean.dtype)
        variance, mean = torch.var_mean(x, (0, *range(2, x.dim())), correction=1)
        first = self.calls == 0
        self.means = mean if first else self.means + mean
        self.variances = variance if first else self.variances + variance
        self.calls += 1

    def hold_mean(self) -> None:
        if self.calls:
            self.layer.running_mean = self.means / self.calls
            self.layer.running_var = self.variances / self.calls
