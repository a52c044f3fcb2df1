"""The networks: shapes of features and outputs, settings, and inputs that do not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metabench import Invalid, Network
from metabench.engine import lift
from metabench_plugins.networks.conv4 import Conv4
from metabench_plugins.networks.mlp import Mlp
from metabench_plugins.networks.resnet12 import ResNet12

CASES = [
    (Mlp(), (1,), 40),
    (Mlp(hidden=(16,), batch_norm=True), (2, 5), 16),
    (Conv4(), (1, 28, 28), 64),
    (Conv4(width=8), (3, 84, 84), 8),
    (Conv4(width=8, downsample="pool"), (1, 28, 28), 8),
    (Conv4(width=8, readout="flatten"), (1, 28, 28), 8 * 2 * 2),
    (Conv4(width=8, downsample="pool", readout="flatten"), (3, 84, 84), 8 * 5 * 5),
    (ResNet12(width=4), (1, 28, 28), 40),
    (ResNet12(width=2), (3, 84, 84), 20),
]


@pytest.mark.parametrize(("network", "shape", "width"), CASES)
def test_features_and_head_have_the_stated_widths(
    network: Network, shape: tuple[int, ...], width: int
) -> None:
    x = torch.randn(3, *shape)
    module, without = network.build(shape, 7), network.build(shape, None)
    assert module.get_submodule("features")(x).shape == (3, width)
    assert module(x).shape == (3, 7)
    assert without(x).shape == (3, width)
    assert isinstance(without.get_submodule("head"), nn.Identity)


@pytest.mark.parametrize(("network", "shape", "width"), CASES)
def test_every_network_runs_by_rules(network: Network, shape: tuple[int, ...], width: int) -> None:
    module = network.build(shape, 3).double()
    lifted = lift(module)
    x = torch.randn(2, 3, *shape, dtype=torch.float64)
    expected = torch.stack([module(task) for task in x])
    assert torch.allclose(lifted(x), expected, rtol=1e-8)
    assert lifted.path.removesuffix(", kernels") == "batched", lifted.reason


@pytest.mark.parametrize(
    ("network", "shape", "reason"),
    [
        (Conv4(), (1,), "needs images"),
        (Conv4(downsample="pool"), (1, 14, 14), "too small"),
        (ResNet12(), (3, 12, 12), "too small"),
        (ResNet12(), (10,), "needs images"),
        (Mlp(hidden=()), (1,), "no hidden layer"),
    ],
)
def test_inputs_that_do_not_fit_are_named(network: Network, shape: tuple[int, ...], reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        network.build(shape, 5)


def test_resnet12_has_the_papers_widths() -> None:
    module = ResNet12().build((3, 84, 84), None)
    widths = [m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [w for w in (64, 160, 320, 640) for _ in range(4)]
