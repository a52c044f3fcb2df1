"""FLOPs of a meta-step agree with a count by hand, and counting changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from metabench.contracts import Examples, Learner
from metabench.device import Device
from metabench.plugins import load
from metabench.records import Protocol, Workload
from metabench.settings import make
from metabench.worker.flops import counter, flops_per_step

TASKS, IMAGES, INPUTS, OUTPUTS, SIDE, KERNEL = 4, 3, 2, 5, 8, 3
BY_HAND = 2 * TASKS * IMAGES * SIDE * SIDE * OUTPUTS * INPUTS * KERNEL * KERNEL


def grouped() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(IMAGES, TASKS * INPUTS, SIDE, SIDE, requires_grad=True)
    w = torch.randn(TASKS * OUTPUTS, INPUTS, KERNEL, KERNEL, requires_grad=True)
    return x, w, F.conv2d(x, w, padding=1, groups=TASKS)


def test_convolution_in_groups_costs_its_products() -> None:
    with counter() as counted:
        grouped()

    assert counted.get_total_flops() == BY_HAND


def test_both_gradients_of_a_convolution_in_groups_cost_as_much_as_it_does() -> None:
    with counter() as counted:
        grouped()[2].sum().backward()

    assert counted.get_total_flops() == 3 * BY_HAND


@pytest.mark.parametrize("transposed", [False, True])
def test_convolution_of_one_group_is_counted_as_torch_does(transposed: bool) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def work() -> None:
        x = torch.randn(3, 4, 9, 9, requires_grad=True)
        w = torch.randn(4, 6, 3, 3) if transposed else torch.randn(6, 4, 3, 3)
        w.requires_grad_()
        y = F.conv_transpose2d(x, w, stride=2) if transposed else F.conv2d(x, w, stride=2)
        y.sum().backward()

    with counter() as ours, FlopCounterMode(display=False) as theirs:
        work()

    assert ours.get_total_flops() == theirs.get_total_flops() > 0


def built(
    algorithm: str, network: str, dataset: str, protocol: Protocol, **settings: Any
) -> tuple[Learner, Any]:
    registry, device = load(), Device(dtype=torch.float64)
    data = make(registry.find("dataset", dataset).cls)
    body = make(registry.find("network", network).cls)
    workload = Workload(data.describe(), protocol, protocol, 10, 3, 0)
    torch.manual_seed(0)
    learner = make(registry.find("algorithm", algorithm).cls, settings).build(workload, body, device)
    return learner, data.load(device).episodes("train", protocol, range(3), 0)


def test_second_order_step_of_an_mlp_is_counted_by_hand() -> None:
    tasks, points, hidden = 3, 10, 40  # 3 tasks of 10 support and 10 query points; 1 → 40 → 40 → 1
    learner, batch = built("maml", "mlp", "sinusoid", Protocol(1, points, points))
    forward = 2 * tasks * points * (1 * hidden + hidden * hidden + hidden * 1)
    first = 2 * tasks * points * 1 * hidden  # the first layer's share; its input, the data, needs no gradient
    one_pass = forward + forward + (forward - first)  # values, gradients of weights, gradients of inputs
    # the gradients of the support pass are differentiated for each of their factors: those of weights for
    # the incoming gradient and the input, those of inputs for the incoming gradient and the weight
    second = forward + (forward - first) + 2 * (forward - first)
    through_values = forward + (forward - first)

    assert flops_per_step(learner, batch) == 2 * one_pass + second + through_values


def test_counting_leaves_the_learner_and_its_gradient_unchanged() -> None:
    learner, batch = built("maml", "mlp", "sinusoid", Protocol(1, 5, 5))
    learner.learn(batch, 0, 10)
    learner.update(0, 10)
    before = [p.detach().clone() for p in learner.parameters()]
    gradients = [p.grad.clone() for p in learner.parameters() if p.grad is not None]
    random = torch.get_rng_state()

    first = flops_per_step(learner, batch)

    assert first == flops_per_step(learner, batch)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, learner.parameters(), strict=True))
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("algorithm", ["maml", "protonet"])
def test_flops_grow_with_the_tasks(algorithm: str) -> None:
    protocol = Protocol(3, 1, 2)
    learner, batch = built(algorithm, "conv4", "glyphs", protocol)
    first_task = type(batch)(
        *(type(p)(*(t[:1] for t in p)) if isinstance(p, Examples) else p[:1] for p in batch)
    )

    assert flops_per_step(learner, batch) == 3 * (flops_per_step(learner, first_task) or 0)


class HiddenStep(Learner):
    """A learner whose step torch does not see."""

    path = "batched, graph"

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of a captured step was asked for")

    parameters = learn = update = adapt = predict = __getattr__  # type: ignore[assignment]
    state_dict = load_state_dict = training_state = load_training_state = __getattr__  # type: ignore[assignment]


def test_compiled_step_is_counted_as_it_is_written() -> None:
    protocol = Protocol(1, 5, 5)
    eager, batch = built("maml", "mlp", "sinusoid", protocol)
    compiled, _ = built("maml", "mlp", "sinusoid", protocol, execution="compiled")

    assert flops_per_step(compiled, batch) == flops_per_step(eager, batch)
    assert compiled.path == "batched, compiled"


def test_step_that_cannot_be_seen_has_no_count() -> None:
    _, batch = built("maml", "mlp", "sinusoid", Protocol(1, 5, 5))

    assert flops_per_step(HiddenStep(), batch) is None
