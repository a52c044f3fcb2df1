"""Perceptrons by kernels: steps, losses and gradients of every order are those of torch's operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Examples
from metabench.engine import ExamplesLoss, expand_weights, inner_steps, lift, sums_over_tasks
from metabench.engine.kernels import binding, kernels_for
from metabench.engine.perceptron import MOST_WEIGHTS

TASKS, EXAMPLES = 5, 19  # more examples than a register has numbers, and no multiple of it

pytestmark = pytest.mark.skipif(
    kernels_for(torch.zeros(1, dtype=torch.float64)) is None,
    reason="a C++ compiler is needed for the kernels",
)


def perceptron(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def loss_on(module: nn.Module, kind: str) -> ExamplesLoss:
    torch.manual_seed(1)
    lifted = lift(module)
    inputs = next(layer.in_features for layer in module.modules() if isinstance(layer, nn.Linear))
    x = torch.randn(TASKS, EXAMPLES, inputs, dtype=torch.float64)
    outputs = lifted(x).shape[-1]
    if kind == "regression":
        y = torch.randn(TASKS, EXAMPLES, outputs, dtype=torch.float64)
        return ExamplesLoss(
            lifted,
            "regression",
            Examples(x, y),
            lambda w: F.mse_loss(lifted(x, w), y, reduction="none").mean((1, 2)),
        )
    y = torch.randint(outputs, (TASKS, EXAMPLES))
    return ExamplesLoss(
        lifted,
        "classification",
        Examples(x, y),
        lambda w: F.cross_entropy(lifted(x, w).mT, y, reduction="none").mean(1),
    )


def meta_gradient(
    loss: ExamplesLoss, module: nn.Module, rates: dict[str, Tensor] | float, first_order: bool
) -> tuple[Tensor, ...]:
    """The gradient of the loss after three steps, with respect to weights and rates, [T, …] each."""
    learned = rates.values() if isinstance(rates, dict) else ()
    start = {
        name: w.detach().expand(TASKS, *w.shape).requires_grad_() for name, w in module.named_parameters()
    }
    adapted = inner_steps(loss, start, rates, 3, first_order=first_order)
    return torch.autograd.grad(loss.once(adapted).sum(), [*start.values(), *learned])


@pytest.fixture
def by_operations(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Turn the kernels off from here on."""
    return lambda: monkeypatch.setenv("METABENCH_KERNELS", "0")


@pytest.mark.parametrize("learned_rates", [False, True])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("widths", [(3, 5), (1, 40, 40, 2), (7, 9, 33, 17, 4)], ids=str)
def test_meta_gradient_is_that_of_torchs_operations(
    widths: tuple[int, ...],
    kind: str,
    first_order: bool,
    learned_rates: bool,
    by_operations: Callable[[], None],
) -> None:
    module = perceptron(*widths)
    loss = loss_on(module, kind)
    by_name = {n: torch.full_like(w, 0.1).requires_grad_() for n, w in module.named_parameters()}
    rates = by_name if learned_rates else 0.1

    quick = meta_gradient(loss, module, rates, first_order)
    assert loss.network.path == "batched, kernels"
    by_operations()
    plain = meta_gradient(loss, module, rates, first_order)

    for ours, theirs in zip(quick, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("read", [False, True], ids=["steps and loss at once", "steps by themselves"])
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_of_the_modules_own_weights_is_that_of_torchs_operations(
    read: bool, first_order: bool, by_operations: Callable[[], None]
) -> None:
    """All tasks start from the same weights, and have the same rates: their gradients are summed."""
    module = perceptron(1, 20, 20, 2)
    loss = loss_on(module, "regression")
    rates = {n: torch.full((), 0.1, dtype=w.dtype).requires_grad_() for n, w in module.named_parameters()}
    wanted = [*module.parameters(), *rates.values()]

    def gradient() -> tuple[Tensor, ...]:
        adapted = inner_steps(loss, expand_weights(module, TASKS), rates, 3, first_order=first_order)
        extra = adapted["0.weight"].square().sum() if read else 0
        return torch.autograd.grad(loss.once(adapted).sum() + extra, wanted)

    quick = gradient()
    by_operations()

    for ours, theirs in zip(quick, gradient(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_sums_over_tasks_are_those_of_each_weight() -> None:
    module = perceptron(3, 9, 2)
    with torch.no_grad():
        adapted = inner_steps(loss_on(module, "regression"), expand_weights(module, TASKS), 0.1, 2)

    for name, summed in sums_over_tasks(adapted).items():
        torch.testing.assert_close(summed, adapted[name].sum(0), rtol=1e-13, atol=1e-13)


def test_third_derivative_is_that_of_torchs_operations(by_operations: Callable[[], None]) -> None:
    module = perceptron(2, 6, 3)
    loss = loss_on(module, "classification")

    def third(weight: Tensor) -> Tensor:
        rest = {n: w.expand(TASKS, *w.shape) for n, w in module.named_parameters()}
        adapted = inner_steps(loss, rest | {"0.weight": weight}, 0.3, 2)
        (first,) = torch.autograd.grad(loss.once(adapted).sum(), weight, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), weight)
        return second

    weight = module[0].weight.detach().expand(TASKS, 6, 2).requires_grad_()
    quick = third(weight)
    by_operations()

    torch.testing.assert_close(quick, third(weight), rtol=1e-11, atol=1e-13)


def test_steps_without_a_graph_are_the_steps_with_one() -> None:
    module = perceptron(3, 8, 2)
    loss = loss_on(module, "regression")
    start = {name: w.expand(TASKS, *w.shape) for name, w in module.named_parameters()}

    recorded = inner_steps(loss, start, 0.1, 4)
    with torch.no_grad():
        forgotten = inner_steps(loss, start, 0.1, 4)

    assert all(torch.equal(recorded[name], forgotten[name]) for name in start)
    assert all(recorded[name].requires_grad and not forgotten[name].requires_grad for name in start)


def test_result_is_the_same_on_any_number_of_threads() -> None:
    module = perceptron(3, 40, 2)
    loss = loss_on(module, "regression")
    rates = {n: torch.full_like(w, 0.1).requires_grad_() for n, w in module.named_parameters()}
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(meta_gradient(loss, module, rates, False))
    finally:
        torch.set_num_threads(before)

    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class Reversed(nn.Module):
    """A perceptron whose last layer is its first attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.first(x)))
        return y


def test_steps_return_weights_in_the_order_in_which_they_are_given() -> None:
    """Who sums them up goes by `parameters()`, which need not be the order in which layers run."""
    module = Reversed().double()
    start = {name: w.expand(TASKS, *w.shape) for name, w in module.named_parameters()}

    adapted = inner_steps(loss_on(module, "regression"), start, 0.1, 1)

    assert list(adapted) == list(start) == ["last.weight", "last.bias", "first.weight", "first.bias"]


def test_a_whole_number_is_a_rate() -> None:
    module = perceptron(3, 8, 2)
    loss = loss_on(module, "regression")
    start = {name: w.expand(TASKS, *w.shape) for name, w in module.named_parameters()}

    by_int, by_float = (inner_steps(loss, start, rate, 1) for rate in (1, 1.0))

    assert all(torch.equal(by_int[name], by_float[name]) for name in start)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.full((TASKS, EXAMPLES), 2), "out of bounds"),
        (torch.zeros(TASKS, EXAMPLES, dtype=torch.int32), "Long"),
    ],
    ids=["no such class", "int32"],
)
def test_targets_that_torch_refuses_reach_no_kernel(y: Tensor, message: str) -> None:
    network = lift(perceptron(3, 8, 2))
    x = torch.randn(TASKS, EXAMPLES, 3, dtype=torch.float64)
    start = {name: w.expand(TASKS, *w.shape) for name, w in network.module.named_parameters()}

    def plain(weights: Mapping[str, Tensor]) -> Tensor:
        return F.cross_entropy(network(x, weights).mT, y, reduction="none").mean(1)

    with pytest.raises((IndexError, RuntimeError), match=message):
        ExamplesLoss(network, "classification", Examples(x, y), plain).once(start)


@pytest.mark.parametrize("tasks", [1, TASKS + 1])
def test_weights_of_another_number_of_tasks_reach_no_kernel(tasks: int) -> None:
    module = perceptron(3, 8, 2)
    loss = loss_on(module, "regression")
    start = {name: w.expand(tasks, *w.shape) for name, w in module.named_parameters()}

    with pytest.raises(RuntimeError):
        inner_steps(loss, start, 0.1, 1)


def test_kernels_are_loaded_when_a_perceptron_is_lifted() -> None:
    """Compiling them takes seconds, which would count as those of the first step."""
    binding._loaded.cache_clear()

    lift(perceptron(3, 8, 2))

    assert binding._loaded.cache_info().currsize == 1


class Twice(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(torch.relu(self.layer(x)))
        return y


class Skip(nn.Module):
    """A sum of two layers' outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        y: Tensor = self.second(x) + x
        return y


@pytest.mark.parametrize(
    "module",
    [
        Twice(),
        Skip(),
        nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)),
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)),
        nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 3, bias=False)),
        nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 3)),
        nn.Sequential(nn.Linear(MOST_WEIGHTS, 1)),
    ],
    ids=["twice", "skip", "tanh", "no ReLU", "ends in ReLU", "no bias", "norm", "large"],
)
def test_other_networks_are_no_perceptrons(module: nn.Module) -> None:
    assert lift(module).perceptron is None


def test_functions_and_layers_make_the_same_perceptron() -> None:
    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(F.relu(self.first(x)))
            return y

    network = lift(Functions()).perceptron

    assert network is not None
    assert network.names == ("first.weight", "first.bias", "last.weight", "last.bias")
    assert network.widths == (4, 6, 2)
    flat = lift(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))).perceptron
    assert flat is not None
    assert flat.widths == (4, 2)
