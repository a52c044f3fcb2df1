"""Lifting a module: the rules agree with the module run task by task, and what has no rule is found out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.third_party_networks import (
    TASKS,
    Attends,
    Branches,
    N,
    Pools,
    close,
    in_double,
    inputs,
    own_weights,
    task_by_task,
)
from metabench import Invalid
from metabench.engine import lift


class Skips(nn.Module):
    """A third party's residual network: everything in `forward` that such code usually has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding="same")
        self.norm = nn.GroupNorm(2, 4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.down = nn.Conv2d(4, 6, 1, stride=2)
        self.fc = nn.Linear(6 * 9, 5)
        self.ln = nn.LayerNorm(5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        y = F.leaky_relu(self.bn(self.conv(x)), 0.2, inplace=True)
        x = x + 0.5 * y
        x = F.avg_pool2d(self.down(x), 3, stride=1, padding=1)
        x = x.view(x.size(0), -1)
        return self.ln(self.fc(x))


def second_order(output: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    """The gradient of a function of the gradient."""
    leaves = list(weights.values())
    factors = torch.linspace(-1, 1, output.numel(), dtype=output.dtype)
    loss = (output.flatten() * factors).sum() + output.square().mean()
    first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
    return list(
        torch.autograd.grad(sum((g.square().sum() for g in first), loss), leaves, materialize_grads=True)
    )


@pytest.mark.parametrize(
    ("module", "path"),
    [(Skips(), "batched"), (Pools(), "batched"), (Attends(), "vmap"), (Branches(), "loop")],
    ids=lambda case: case if isinstance(case, str) else type(case).__name__,
)
def test_a_third_partys_module_agrees_with_each_task_alone_to_second_order(
    module: nn.Module, path: str
) -> None:
    module = in_double(module)
    lifted, x, weights = lift(module), inputs(2, 6, 6), own_weights(module)
    actual, expected = lifted(x, weights), task_by_task(module, x, weights)
    assert lifted.path.removesuffix(", kernels") == path
    assert torch.allclose(actual, expected, rtol=1e-10)
    assert close(second_order(actual, weights), second_order(expected, weights))


@pytest.mark.parametrize("module", [Skips(), Pools(), Attends(), Branches()], ids=lambda m: type(m).__name__)
def test_shared_weights_keep_each_tasks_own_statistics(module: nn.Module) -> None:
    module = in_double(module)
    x = inputs(2, 6, 6)
    assert torch.allclose(lift(module)(x), task_by_task(module, x, {}), rtol=1e-10)


def test_some_weights_may_be_shared_and_others_a_tasks_own() -> None:
    module = in_double(Skips())
    x = inputs(2, 6, 6)
    for names in (["fc.weight"], ["bn.bias", "conv.weight"], ["stem.bias", "ln.weight"]):
        weights = own_weights(module, names)
        assert torch.allclose(lift(module)(x, weights), task_by_task(module, x, weights), rtol=1e-10)


def test_parts_run_on_their_own() -> None:
    from metabench_plugins.networks.conv4 import Conv4

    module = in_double(Conv4(width=3).build((1, 14, 14), 5))
    lifted, x, weights = lift(module), inputs(1, 14, 14), own_weights(module)
    features = lifted(x, weights, part="features")
    assert features.shape == (TASKS, N, 3)
    assert torch.allclose(lifted(features, weights, part="head"), lifted(x, weights), rtol=1e-12)
    without = lift(in_double(Conv4(width=3).build((1, 14, 14), None)))
    assert torch.equal(without(x, part="features"), without(x))


def test_statistics_of_the_first_examples_shield_the_others() -> None:
    module = in_double(Skips())
    lifted, x = lift(module), inputs(2, 6, 6)
    whole = lifted(x, statistics=2)
    assert torch.allclose(whole[:, [0, 1, 3]], lifted(x[:, [0, 1, 3]], statistics=2), rtol=1e-10)
    assert torch.allclose(whole[:, :2], lifted(x[:, :2]), rtol=1e-10)
    assert not torch.allclose(whole, lifted(x), rtol=1e-3)


def test_support_statistics_need_rules() -> None:
    module = in_double(Attends())
    with pytest.raises(Invalid, match="set statistics to 'queries'"):
        lift(module)(inputs(2, 6, 6), statistics=2)


def test_a_bias_before_a_batch_norm_has_no_gradient_and_changes_nothing() -> None:
    module = in_double(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2)))
    x, weights = inputs(2, 6, 6), own_weights(module)
    actual = lift(module)(x, weights)
    assert torch.autograd.grad(actual.sum(), weights["0.bias"], allow_unused=True)[0] is None
    assert torch.allclose(actual, task_by_task(module, x, weights), rtol=1e-9)


def test_running_statistics_are_dropped() -> None:
    module = Skips()
    lift(module)
    assert module.bn.running_mean is None
    assert not any("running" in name for name in module.state_dict())


def test_one_weight_under_two_names_is_one_weight() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.b = nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.b(torch.tanh(self.a(x)))
            return y

    module = in_double(Tied())
    x, weights = inputs(4), own_weights(module)
    assert torch.allclose(lift(module)(x, weights), task_by_task(module, x, weights), rtol=1e-12)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3, 2)])
def test_batch_norm_is_right_to_second_order(shape: tuple[int, ...]) -> None:
    from metabench.engine.normalisation import batch_norm

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    w, b = (torch.rand(4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda *a: batch_norm(*a, 1e-5), (x, w, b))
    assert torch.autograd.gradgradcheck(lambda *a: batch_norm(*a, 1e-5), (x, w, b))


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_is_right_to_second_order(equal: bool, groups: int) -> None:
    from metabench.engine.convolution import Geometry, task_convolution

    generator = torch.Generator().manual_seed(0)
    geometry = Geometry((2, 1), (1, 0), (1, 1), groups)
    x = torch.randn(2, 3 * 2, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    shape = (4, 2 // groups, 3, 2)
    w = torch.randn(*(shape if equal else (3, *shape)), generator=generator, dtype=torch.float64)
    w.requires_grad_()

    def run(x: Tensor, w: Tensor) -> Tensor:
        return task_convolution(x, w.expand(3, *shape), geometry)

    assert torch.autograd.gradcheck(run, (x, w))
    assert torch.autograd.gradgradcheck(run, (x, w))
