"""A replayed step is one graph: few operations run outside of it, and it gives the eager step's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from helpers.meta_steps import noisy_tasks
from metabench import Facts, Learner, Protocol, Workload
from metabench.device import Device
from metabench.engine import execution
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.networks.conv4 import Conv4


class Launches(TorchDispatchMode):
    """The operations that compute something, by name: each is a launch on a GPU, or several small ones."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func is not torch.ops.aten.detach.default:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def capture(run: execution.Runner, flat: execution.Flat) -> execution.Runner:
    """The step as a pretended graph: a replay computes from the static inputs into the static outputs."""
    inputs = [tensor.clone() for tensor in flat]
    outputs: Sequence[Tensor] = [tensor.clone() for tensor in run(*inputs)]

    def replay() -> None:
        with _disable_current_modes():
            for static, tensor in zip(outputs, run(*inputs), strict=True):
                static.copy_(tensor)

    return execution.Replay(inputs, outputs, replay)


def learner(mode: str) -> Learner:
    protocol = Protocol(5, 1, 1)
    workload = Workload(Facts("classification", (1, 28, 28)), protocol, protocol, 10, 4)
    torch.manual_seed(0)
    built = Maml(inner_rate=0.1).build(workload, Conv4(width=8), Device(dtype=torch.float64))
    built.execution.mode = mode
    return built


def test_replayed_step_leaves_ten_launches_at_most_outside_and_trains_as_the_eager_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execution, "_captured", capture)  # no GPU is needed to count what is not in a graph
    monkeypatch.setenv("METABENCH_KERNELS", "0")
    replayed, eager = learner("cuda-graph"), learner("eager")
    losses = []
    for step in range(3):
        tasks = noisy_tasks(Device(dtype=torch.float64))
        with Launches() as launched:
            losses.append(replayed.learn(tasks, step, 10))
            replayed.update(step, 10)
        expected = eager.learn(tasks, step, 10)
        eager.update(step, 10)
        assert torch.equal(losses[-1], expected)

    assert len(launched.names) <= 10, launched.names
    assert losses[0].tolist() != losses[1].tolist()  # the next replay does not write over kept losses
    for ours, theirs in zip(replayed.parameters(), eager.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_weight_gradient_of_a_convolution_allocates_no_kernels() -> None:
    from metabench.engine.convolution import Geometry, _backward

    tasks, outputs, channels = 3, 4, 2
    weight = torch.randn(tasks, outputs, channels, 3, 3, dtype=torch.float64)
    x = torch.randn(5, tasks * channels, 8, 8, dtype=torch.float64)
    gy = torch.randn(5, tasks * outputs, 8, 8, dtype=torch.float64)
    geometry = Geometry((1, 1), (1, 1), (1, 1), 1)
    sizes: list[int] = []

    class Kernels(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.convolution_backward.default:
                sizes.append(args[2].untyped_storage().nbytes() // 8)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Kernels():
        alone = _backward(gy, x, weight, geometry, False, True)[1]
        both = _backward(gy, x, weight, geometry, True, True)[1]

    assert sizes == [1, weight.numel()]
    assert alone is not None
    assert both is not None
    torch.testing.assert_close(alone, both, rtol=0, atol=1e-12)
