"""Each number format computes in what it says, trains, and tells in the environment what was switched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.reference_loop import adapted_loss
from metabench import Episodes, Examples, Facts, Protocol, Workload
from metabench.device import Device
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.networks.conv4 import Conv4

TASKS, WAYS, SHOTS, RATE = 4, 5, 4, 0.1
BF16 = torch.bfloat16


def test_weights_that_change_under_autocast_change_the_prediction() -> None:
    device = Device(autocast=BF16)
    layer = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    x, y = torch.ones(8, 4), torch.full((8, 1), 3.0)
    outcomes = []

    with device.numerics():
        for _ in range(2):
            optimizer.zero_grad()
            prediction = F.linear(x, layer.weight)
            F.mse_loss(prediction, y).backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            outcomes.append(float(prediction.detach()[0]))
        with torch.no_grad():
            outcomes.append(float(F.linear(x, layer.weight)[0]))

    assert prediction.dtype == BF16
    assert min(abs(a - b) for a, b in ((outcomes[0], outcomes[1]), (outcomes[1], outcomes[2]))) > 1.0, (
        outcomes
    )


class _Convolutions(TorchDispatchMode):
    """Notes the types of the tensors that convolutions and their gradients are given."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[tuple[str, torch.dtype]] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function).split(".")[1]
        if "convolution" in name:
            self.types |= {(name, argument.dtype) for argument in args if isinstance(argument, Tensor)}
        return function(*args, **(kwargs or {}))


def noisy_tasks(dtype: torch.dtype) -> Episodes:
    """Tasks of noisy images, five classes each: the same in every type, up to its rounding."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(WAYS).repeat_interleave(SHOTS).repeat(TASKS, 1)
    means = torch.randn(TASKS, WAYS, 1, 28, 28, generator=generator).repeat_interleave(SHOTS, 1)
    support, query = (
        Examples((means + 0.5 * torch.randn(means.shape, generator=generator)).to(dtype), y.clone())
        for _ in range(2)
    )
    return Episodes(support, query, torch.zeros(TASKS, WAYS), torch.arange(TASKS))


def engine_and_plain(device: Device, steps: int) -> tuple[Tensor, Tensor, _Convolutions]:
    """The engine's meta-gradient, the plain loop's (torch's own convolution), and what the engine called."""
    torch.manual_seed(0)
    protocol = Protocol(WAYS, SHOTS, SHOTS)
    workload = Workload(Facts("classification", (1, 28, 28)), protocol, protocol, 10, TASKS)
    learner: Any = Maml(steps=steps, inner_rate=RATE).build(workload, Conv4(width=16), device)
    module, seen, episodes = learner.network.module, _Convolutions(), noisy_tasks(device.dtype)
    with device.numerics():
        with seen:
            learner.learn(episodes, 0, 10)
        plain = sum(
            adapted_loss(module, Episodes(
                Examples(*(t[i] for t in episodes.support)), Examples(*(t[i] for t in episodes.query)),
                episodes.classes[i], episodes.index[i],
            ), RATE, steps)
            for i in range(TASKS)
        )  # fmt: skip
        gradients = torch.autograd.grad(plain / TASKS, list(module.parameters()))
    ours = torch.cat([p.grad.flatten() for p in learner.parameters()])
    return ours, torch.cat([g.flatten() for g in gradients]), seen


@pytest.mark.parametrize("steps", [1, 2])
def test_convolutions_of_many_tasks_compute_in_bf16_to_second_order(steps: int) -> None:
    exact, plain, in_float64 = engine_and_plain(Device(dtype=torch.float64), steps)

    ours, torchs, seen = engine_and_plain(Device(autocast=BF16), steps)

    names = ("convolution", "convolution_backward")
    assert seen.types == {(name, BF16) for name in names}
    assert in_float64.types == {(name, torch.float64) for name in names}
    assert ours.dtype == torch.float32
    assert lost(plain, exact) < 1e-12  # the same work, by the engine and by one task at a time
    # Rounded to 8 bits, many inputs of a ReLU change sides: a fifth to a third of the gradient's norm is
    # lost. The engine must not lose more than autocast's own convolutions do; measured: 0.92 to 1.06 of it.
    assert lost(ours, exact) < 1.25 * lost(torchs, exact)


def lost(rounded: Tensor, exact: Tensor) -> float:
    """The norm of what rounding changed, as a fraction of the exact gradient's norm."""
    return float((rounded - exact).norm() / exact.norm())


TF32, IEEE = ("tf32", ["high", True, True]), ("ieee", ["highest", False, False])
SWITCHED = """
import json, os, warnings
warnings.simplefilter("error")
import torch
from metabench.device import Device
from metabench_plugins.backends._numerics import set_numerics
told = []
for precision in ("tf32", "float32", "bf16", "tf32"):
    set_numerics(precision, False)
    older = [torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32,
             torch.backends.cudnn.allow_tf32]  # each raises where it contradicts the newer switches
    told.append({"environment": Device().environment(), "older": older})
print(json.dumps(told))
"""


def test_environment_tells_how_every_library_computes_products() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWITCHED], capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)

    for outcome, (gpu, older) in zip(outcomes, (TF32, IEEE, IEEE, TF32), strict=True):
        products = outcome["environment"]["float32_products"]
        assert {products["cuda.matmul"], products["cudnn.conv"]} == {gpu}
        assert {products["mkldnn.matmul"], products["mkldnn.conv"]} == {"ieee"}
        assert outcome["older"] == older
        assert outcome["environment"]["cudnn_benchmark"] is False
