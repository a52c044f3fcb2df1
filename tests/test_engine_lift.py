"""Lifting a module: the rules agree with the module run task by task, and what has no rule is found out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from metabench import Invalid
from metabench.engine import lift

TASKS, N = 3, 4


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


class Pools(nn.Module):
    """Pooling as functions, shapes by `shape`, a mean and no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, dilation=2, padding=2)
        self.fc = nn.Linear(4, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.tanh(self.conv(x)), 2)
        x = x.reshape(x.shape[0], x.shape[1], -1)
        return self.fc(x.mean(-1))


class Branches(nn.Module):
    """Code that depends on the data: no rule, and no vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x.flatten(1)[:, :8])
        return x if float(x.detach().sum()) > 1e9 else x * x.sigmoid()


class Attends(nn.Module):
    """Operations without a rule that vmap can do, around an affine batch norm (trap of second order)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        share = torch.softmax(x.flatten(2), -1)
        return self.fc((share * x.flatten(2)).sum(-1))


class Counts(nn.Module):
    """A layer with state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(72, 5)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        y: Tensor = self.fc(torch.cumsum(x.flatten(1), 1))
        return y


def in_double(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    module = module.double()
    for p in module.parameters():
        p.data.uniform_(-1, 1)
    return module


def inputs(*shape: int) -> Tensor:
    chance = torch.Generator().manual_seed(1)
    return torch.randn(TASKS, N, *shape, generator=chance, dtype=torch.float64)


def own_weights(module: nn.Module, names: list[str] | None = None) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(2)
    return {
        n: torch.rand(TASKS, *p.shape, generator=chance, dtype=torch.float64).sub(0.5).requires_grad_()
        for n, p in module.named_parameters()
        if names is None or n in names
    }


def task_by_task(module: nn.Module, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    return torch.stack(
        [functional_call(module, {n: w[t] for n, w in weights.items()}, (x[t],)) for t in range(TASKS)]
    )


def second_order(output: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    """The gradient of a function of the gradient."""
    leaves = list(weights.values())
    slope = torch.linspace(-1, 1, output.numel(), dtype=output.dtype)
    loss = (output.flatten() * slope).sum() + output.square().mean()
    first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
    return list(
        torch.autograd.grad(sum((g.square().sum() for g in first), loss), leaves, materialize_grads=True)
    )


def close(found: list[Tensor], wanted: list[Tensor]) -> bool:
    largest = max(float(w.abs().max()) for w in wanted)
    return all(float((f - w).abs().max()) < 1e-10 * largest for f, w in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("module", "path"),
    [(Skips(), "batched"), (Pools(), "batched"), (Attends(), "vmap"), (Branches(), "loop")],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_a_third_partys_module_agrees_with_each_task_alone_to_second_order(
    module: nn.Module, path: str
) -> None:
    module = in_double(module)
    lifted, x, weights = lift(module), inputs(2, 6, 6), own_weights(module)
    found, wanted = lifted(x, weights), task_by_task(module, x, weights)
    assert lifted.path == path
    assert torch.allclose(found, wanted, rtol=1e-10)
    assert close(second_order(found, weights), second_order(wanted, weights))


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
    with pytest.raises(Invalid, match="set queries to 'together'"):
        lift(module)(inputs(2, 6, 6), statistics=2)


def test_the_reason_for_the_generic_path_is_named() -> None:
    assert "softmax" in lift(Attends()).reason
    assert lift(Pools()).reason == ""


def test_a_bias_before_a_batch_norm_has_no_gradient_and_changes_nothing() -> None:
    module = in_double(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2)))
    x, weights = inputs(2, 6, 6), own_weights(module)
    found = lift(module)(x, weights)
    assert torch.autograd.grad(found.sum(), weights["0.bias"], allow_unused=True)[0] is None
    assert torch.allclose(found, task_by_task(module, x, weights), rtol=1e-9)


def test_running_statistics_are_dropped() -> None:
    module = Skips()
    lift(module)
    assert module.bn.running_mean is None
    assert not any("running" in name for name in module.state_dict())


def test_a_layer_that_drops_numbers_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match="'1' drops numbers at random"):
        lift(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)))
    lift(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0)))


def test_a_layer_that_changes_its_state_is_refused_and_left_as_it_was() -> None:
    module = in_double(Counts())
    with pytest.raises(Invalid, match="changes its buffer 'seen'"):
        lift(module)(inputs(2, 6, 6))
    assert float(module.seen) == 0


class Written(nn.Module):
    """A convolution and a head around code that a test gives."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.fc = nn.Linear(64, 5)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.between(self, x).flatten(1))
        return y


@pytest.mark.parametrize("share", [0.5, 1e-9])  # of the second nothing may be dropped in a run
def test_a_function_that_drops_numbers_is_refused(share: float) -> None:
    module = in_double(Written(lambda m, x: F.dropout(m.conv(x), share)))
    with pytest.raises(Invalid, match="something else at each run"):
        lift(module)(inputs(2, 6, 6))


def test_randomness_of_another_generator_is_refused() -> None:
    chance = np.random.default_rng(0)
    module = in_double(Written(lambda m, x: m.conv(x).cumsum(2) * chance.random()))
    with pytest.raises(Invalid, match="something else at each run"):
        lift(module)(inputs(2, 6, 6))


class Once(torch.autograd.Function):
    """Twice its input, with a gradient that has none itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gy: Tensor) -> Tensor:
        return 2 * gy


def test_a_network_without_a_second_derivative_is_refused_with_the_reason() -> None:
    module = in_double(Written(lambda m, x: Once.apply(m.conv(x))))
    with pytest.raises(Invalid, match=r"cannot be differentiated twice.*once_differentiable"):
        lift(module)(inputs(2, 6, 6))


class Reversed(torch.autograd.Function):
    """Its input, with a gradient of the other sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Tensor:
        return -gy


def without_gradient(m: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = m.conv(x)
    return y


@pytest.mark.parametrize("between", [lambda m, x: Reversed.apply(m.conv(x)), without_gradient])
def test_a_networks_own_gradient_is_kept(between: Callable[[nn.Module, Tensor], Tensor]) -> None:
    module = in_double(Written(between))
    lifted, x, weights = lift(module), inputs(2, 6, 6), own_weights(module)
    found, wanted = (
        torch.autograd.grad(y.square().sum(), list(weights.values()), materialize_grads=True)
        for y in (lifted(x, weights), task_by_task(module, x, weights))
    )
    assert "autograd.Function" in lifted.reason
    assert close(list(found), list(wanted))


def test_each_part_is_decided_on_its_own() -> None:
    class Parted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Flatten(), nn.Softmax(1))
            self.head = Branches()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.features(x))
            return y

    module = in_double(Parted())
    lifted, x = lift(module), inputs(2, 6, 6)
    features = lifted(x, part="features")
    assert lifted.path == "vmap"
    assert torch.allclose(lifted(features, part="head"), task_by_task(module, x, {}), rtol=1e-12)
    assert lifted.path == "loop"


def test_one_task_alone_does_not_force_the_loop() -> None:
    module = in_double(Attends())
    lifted, x = lift(module), inputs(2, 6, 6)
    weights = {name: weight[:1] for name, weight in own_weights(module).items()}
    assert lifted(x[:1], weights).shape == (1, N, 5)
    assert lifted.path == "vmap"


@pytest.mark.parametrize(
    "between",
    [
        lambda m, x: F.relu(input=m.conv(x)),
        lambda m, x: m.conv(input=x),
        lambda m, x: F.leaky_relu(negative_slope=0.2, input=m.conv(x)),
        lambda m, x: F.max_pool2d(input=m.conv(x), kernel_size=1),
    ],
)
def test_a_rule_takes_its_input_by_keyword(between: Callable[[nn.Module, Tensor], Tensor]) -> None:
    module = in_double(Written(between))
    lifted, x, weights = lift(module), inputs(2, 6, 6), own_weights(module)
    assert torch.allclose(lifted(x, weights), task_by_task(module, x, weights), rtol=1e-10)
    assert lifted.path == "batched"


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda m, x: m.conv(x).flatten(2).unflatten(2, (4, 4)), "unflatten"),
        (lambda m, x: m.conv(x).flatten(2).mean(2, dtype=torch.float64).repeat(1, 16), "repeat|dtype"),
        (lambda m, x: m.conv(x).view(-1, 2).view(-1, 64), "reshape to"),
        (lambda m, x: m.conv(x).reshape(shape=(x.shape[0], 64)), "reshape|shape"),
        (lambda m, x: torch.add(m.conv(x), other=m.conv(x)), "add"),
        (lambda m, x: m.conv(x).view(torch.int64).view(torch.float64), "reshape to"),
    ],
)  # fmt: skip
def test_arguments_that_a_rule_does_not_cover_take_the_generic_path(
    between: Callable[[nn.Module, Tensor], Tensor], reason: str
) -> None:
    module = in_double(Written(between))
    lifted, x = lift(module), inputs(2, 6, 6)
    assert torch.allclose(lifted(x), task_by_task(module, x, {}), rtol=1e-10)
    assert lifted.path in ("vmap", "loop")
    assert re.search(reason, lifted.reason)


def test_a_subclass_of_a_layer_has_no_rule_of_its_parent() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    module = in_double(nn.Sequential(nn.Flatten(), Doubled(72, 3)))
    x = inputs(2, 6, 6)
    lifted = lift(module)
    assert torch.allclose(lifted(x), task_by_task(module, x, {}), rtol=1e-12)
    assert lifted.path == "vmap"


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

    chance = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=chance, dtype=torch.float64, requires_grad=True)
    w, b = (torch.rand(4, generator=chance, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda *a: batch_norm(*a, 1e-5), (x, w, b))
    assert torch.autograd.gradgradcheck(lambda *a: batch_norm(*a, 1e-5), (x, w, b))


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_is_right_to_second_order(equal: bool, groups: int) -> None:
    from metabench.engine.convolution import Geometry, task_convolution

    chance = torch.Generator().manual_seed(0)
    geometry = Geometry((2, 1), (1, 0), (1, 1), groups)
    x = torch.randn(2, 3 * 2, 4, 4, generator=chance, dtype=torch.float64, requires_grad=True)
    shape = (4, 2 // groups, 3, 2)
    w = torch.randn(*(shape if equal else (3, *shape)), generator=chance, dtype=torch.float64)
    w.requires_grad_()

    def run(x: Tensor, w: Tensor) -> Tensor:
        return task_convolution(x, w.expand(3, *shape), geometry)

    assert torch.autograd.gradcheck(run, (x, w))
    assert torch.autograd.gradgradcheck(run, (x, w))
