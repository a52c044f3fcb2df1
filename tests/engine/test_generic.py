"""Networks without rules: they take the generic path, with the reason, or are refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.third_party_networks import (
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


def test_the_reason_for_the_generic_path_is_named() -> None:
    assert "softmax" in lift(Attends()).reason
    assert lift(Pools()).reason == ""


def test_a_layer_that_drops_elements_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match="'1' drops elements at random"):
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
    with pytest.raises(Invalid, match="another output at each run"):
        lift(module)(inputs(2, 6, 6))


def test_randomness_of_another_generator_is_refused() -> None:
    rng = np.random.default_rng(0)
    module = in_double(Written(lambda m, x: m.conv(x).cumsum(2) * rng.random()))
    with pytest.raises(Invalid, match="another output at each run"):
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
    actual, expected = (
        torch.autograd.grad(y.square().sum(), list(weights.values()), materialize_grads=True)
        for y in (lifted(x, weights), task_by_task(module, x, weights))
    )
    assert "autograd.Function" in lifted.reason
    assert close(list(actual), list(expected))


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


@pytest.mark.parametrize(
    ("wrong_in", "path"), [({torch.float32}, "vmap"), ({torch.float32, torch.float64}, "loop")]
)
def test_rounding_does_not_force_the_loop(
    wrong_in: set[torch.dtype], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metabench.engine import generic

    mapped = generic._mapped
    monkeypatch.setattr(  # as where vmap's order of summation moves an input of a ReLU across 0
        generic, "_mapped", lambda *given: (y := mapped(*given)) * (1.02 if y.dtype in wrong_in else 1.0)
    )
    module = in_double(Attends()).float()
    lifted = lift(module)

    assert lifted(inputs(2, 6, 6).float()).dtype == torch.float32
    assert lifted.path == path
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_network_that_cannot_compute_in_float64_is_looped_where_float32_disagrees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from metabench.engine import generic

    mapped = generic._mapped
    monkeypatch.setattr(generic, "_mapped", lambda *given: mapped(*given) * 1.02)
    lifted = lift(in_double(Written(lambda m, x: m.conv(x.float()).cumsum(2))).float())

    lifted(inputs(2, 6, 6).float())

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
    assert lifted.path.removesuffix(", kernels") == "batched"


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
