"""Inner steps and meta-steps: orders of the derivative, closed forms, compilation, chunks."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from helpers.meta_gradients import (
    ALGORITHMS,
    NETWORKS,
    RATE,
    TOLERANCE,
    episodes_of,
    gradients_of,
    kind_of,
    learner_of,
    reference,
    relative_error,
)
from metabench import Episodes, Examples, Facts, Invalid, Protocol, Skip, Workload
from metabench.device import Device
from metabench.engine import expand_weights, inner_steps
from metabench.engine.adapt import tasks_at_once
from metabench.learning import Headed
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.algorithms.mamlpp import MamlPlusPlus
from metabench_plugins.networks.mlp import Mlp

COMPILED = [
    ("maml", "mlp"),
    *(
        pytest.param(name, "mlp", marks=pytest.mark.slow)
        for name in ALGORITHMS
        if name not in ("maml", "reptile")
    ),
    pytest.param("maml", "conv4", marks=pytest.mark.slow),
]
"""Reptile has no meta-gradient to compile."""


@pytest.mark.parametrize("name", ["maml", "anil", "boil", "metasgd", "protomaml"])
def test_first_order_differs_from_second_order_and_equals_its_own_loop(name: str) -> None:
    kind = kind_of(name, "conv4")
    episodes = episodes_of(kind, NETWORKS["conv4"][1])
    by_order = []
    for first_order in (True, False):
        algorithm = ALGORITHMS[name](inner_rate=RATE, steps=2, first_order=first_order)  # type: ignore[call-arg]
        learner = learner_of(algorithm, "conv4", kind)
        learner.learn(episodes, 0, 10)
        by_order.append(gradients_of(learner))
        assert relative_error(by_order[-1], reference(learner, algorithm, episodes)) < TOLERANCE
    assert relative_error(by_order[0], by_order[1]) > 1e-3


@pytest.mark.parametrize("step", [0, 2, 5, 9])
def test_mamlpp_equals_its_plain_loop_in_each_phase_of_training(step: int) -> None:
    algorithm = MamlPlusPlus(inner_rate=RATE, steps=3, multi_step_share=0.4, first_order_share=0.3)
    learner = learner_of(algorithm, "conv4", "classification")
    episodes = episodes_of("classification", NETWORKS["conv4"][1])
    learner.learn(episodes, step, 10)
    assert relative_error(gradients_of(learner), reference(learner, algorithm, episodes, step)) < TOLERANCE


def test_linear_regression_step_equals_its_closed_form() -> None:
    """ŷ = X w, L = ‖X w − y‖² / n: w' = w − α H w + α c, so the gradient is (I − α H)ᵀ ∇L(w'; queries)."""
    generator = torch.Generator().manual_seed(0)
    alpha, n, d = 0.05, 6, 3
    x, y, xq, yq = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (d, 1, d, 1))
    torch.manual_seed(0)
    module = Headed(nn.Identity(), d, 1).double()
    hessian = 2 / n * x.T @ x
    weight = module.head.weight[0].detach()
    with torch.no_grad():
        module.head.bias.zero_()
    stepped = weight - alpha * (hessian @ weight - 2 / n * x.T @ y[:, 0])
    expected = (torch.eye(d) - alpha * hessian) @ (2 / n * xq.T @ (xq @ stepped - yq[:, 0]))

    start = {"head.weight": expand_weights(module, 1)["head.weight"]}
    adapted = inner_steps(lambda w: (x @ w["head.weight"].mT - y).square().mean((1, 2)), start, alpha, 1)
    loss = (xq @ adapted["head.weight"].mT - yq).square().mean()
    (gradient,) = torch.autograd.grad(loss, module.head.weight)
    assert torch.allclose(adapted["head.weight"][0, 0], stepped, rtol=1e-12)
    assert torch.allclose(gradient[0], expected, rtol=1e-12)


def test_no_graph_is_kept_where_gradients_are_not_recorded() -> None:
    learner = learner_of(Maml(inner_rate=RATE, steps=2), "conv4", "classification")
    episodes = episodes_of("classification", NETWORKS["conv4"][1])
    with torch.no_grad():
        state = learner.adapt(episodes.support)
    assert not any(w.requires_grad for w in state.weights.values())
    recorded = learner.adapt(episodes.support)
    for name, weight in state.weights.items():
        assert torch.allclose(recorded.weights[name], weight, rtol=1e-10)
    assert all(p.grad is None for p in learner.parameters())


@pytest.mark.skipif(shutil.which("g++") is None, reason="a C++ compiler is needed to compile on the CPU")
@pytest.mark.parametrize(("name", "network"), COMPILED)
@pytest.mark.timeout(1200)
def test_compiled_meta_step_equals_the_plain_loop_and_follows_the_weights(name: str, network: str) -> None:
    kind = kind_of(name, network)
    episodes = episodes_of(kind, NETWORKS[network][1], tasks=4)
    settings = {"multi_step_share": 0.0, "first_order_share": 0.0} if name == "maml++" else {}
    algorithm = ALGORITHMS[name](inner_rate=RATE, steps=2, execution="compiled", chunk=2, **settings)
    learner = learner_of(algorithm, network, kind)
    for step in range(2):
        learner.learn(episodes, step, 10)
        assert relative_error(gradients_of(learner), reference(learner, algorithm, episodes)) < TOLERANCE
        learner.update(step, 10)
    assert learner.path == "batched, compiled"


def test_a_cuda_graph_is_skipped_without_cuda() -> None:
    with pytest.raises(Skip, match="CUDA device"):
        learner_of(Maml(execution="cuda-graph"), "mlp", "regression")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("network", ["mlp", "conv4"])
def test_a_captured_meta_step_equals_the_eager_one(network: str) -> None:
    facts = Facts("classification", NETWORKS[network][1])
    protocol = Protocol(3, 2, 2)
    by_execution = []
    for execution in ("eager", "cuda-graph"):
        torch.manual_seed(0)
        algorithm = Maml(inner_rate=RATE, steps=2, execution=execution)
        learner = algorithm.build(
            Workload(facts, protocol, protocol), NETWORKS[network][0], Device("cuda", torch.float64)
        )
        for seed in (3, 4):
            episodes = episodes_of("classification", NETWORKS[network][1], seed=seed)
            on_device = type(episodes)(
                *(Examples(*(t.cuda() for t in part)) for part in episodes[:2]),
                *(t.cuda() for t in episodes[2:]),
            )
            learner.learn(on_device, 0, 10)
        by_execution.append(gradients_of(learner))
    assert relative_error(by_execution[1], by_execution[0]) < TOLERANCE


def test_other_ways_in_training_are_refused() -> None:
    workload = Workload(Facts("classification", (4,)), Protocol(5, 1, 1), Protocol(3, 1, 1))
    with pytest.raises(Invalid, match="5 ways does not fit a test with 3"):
        Maml().build(workload, Mlp(), Device())


def test_no_network_is_refused() -> None:
    workload = Workload(Facts("classification", (1, 28, 28)), Protocol(5, 1, 1), Protocol(5, 1, 1))
    with pytest.raises(Invalid, match="name one in the cell"):
        Maml().build(workload, None, Device())


@pytest.mark.parametrize(("switch", "sizes"), [("1", (16, 4)), ("0", (8, 2))], ids=["kernels", "torch"])
def test_chunks_on_the_cpu_hold_fifty_images_or_a_hundred_for_the_kernels(
    switch: str, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABENCH_KERNELS", switch)
    for shots, expected in zip((1, 5), sizes, strict=True):
        n = 5 * shots
        examples = Examples(torch.zeros(32, n, 1, 28, 28), torch.zeros(32, n))
        episodes = Episodes(examples, examples, torch.zeros(32, 5), torch.arange(32))
        lifted = learner_of(Maml(), "conv4", "classification").network
        assert tasks_at_once(episodes, lifted) == expected
