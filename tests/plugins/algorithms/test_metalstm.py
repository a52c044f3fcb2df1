"""The LSTM meta-learner: updates by the paper's equations, first-order gradients, learning."""

import math

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from helpers.problems import (
    CURVES,
    FLOAT64,
    NORMED,
    TEST,
    Buried,
    Lines,
    assert_gradient_is,
    build,
    train,
)
from metabench import Algorithm, Episodes, Network, Protocol
from metabench_plugins.algorithms.metalstm import MetaLstm, MetaLstmLearner
from metabench_plugins.networks.mlp import Mlp


def learner_of(algorithm: Algorithm, network: Network = NORMED) -> MetaLstmLearner:
    learner = build(algorithm, network, TEST, device=FLOAT64)
    assert isinstance(learner, MetaLstmLearner)
    return learner


def scaled(x: Tensor) -> Tensor:
    """Andrychowicz et al. 2016, appendix A, for one number."""
    if abs(float(x)) >= math.exp(-10):
        return torch.stack([x.abs().log() / 10, x.sign()])
    return torch.stack([torch.full_like(x, -1.0), math.exp(10) * x])


def updated(
    learner: MetaLstmLearner, start: dict[str, Tensor], task: Episodes, steps: int
) -> dict[str, Tensor]:
    """One task's weights, updated one coordinate at a time by the equations of section 3.1."""
    updater, module = learner.updater, learner.network.module
    weights = start
    memory: dict[tuple[str, int], tuple[Tensor, Tensor, Tensor, Tensor]] = {}
    for _ in range(steps):
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        loss = F.cross_entropy(functional_call(module, leaves, (task.support.x[0],)), task.support.y[0])
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        stepped = {}
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            flat = []
            for k, (theta, g) in enumerate(zip(weight.flatten(), gradient.flatten(), strict=True)):
                zero = torch.zeros(updater.reader.hidden_size, dtype=theta.dtype)
                h, c, f, i = memory.get((name, k), (zero, zero, theta.new_zeros(()), theta.new_zeros(())))
                seen = torch.cat([scaled(g), scaled(loss.detach())])
                h, c = updater.reader(seen, (h, c))
                f = updater.forget(torch.cat([h, theta[None], f[None]])).sigmoid().squeeze()
                i = updater.insert(torch.cat([h, theta[None], i[None]])).sigmoid().squeeze()
                memory[name, k] = (h, c, f, i)
                flat.append(f * theta - i * g)
            stepped[name] = torch.stack(flat).view_as(weight)
        weights = stepped
    return weights


def test_the_gradient_is_that_of_a_plain_loop_over_tasks_and_coordinates() -> None:
    learner = learner_of(
        MetaLstm(steps=2, hidden=3, inner_rate=0.3, train_statistics="queries"),
        Mlp(hidden=(2,), batch_norm=True),
    )
    batch = Buried(FLOAT64).episodes("train", TEST, range(2), seed=0)

    def task_loss(task: Episodes) -> Tensor:
        module = learner.network.module
        weights = updated(learner, dict(module.named_parameters()), task, steps=2)
        return F.cross_entropy(functional_call(module, weights, (task.query.x[0],)), task.query.y[0])

    assert_gradient_is(learner, batch, task_loss)


def test_an_update_at_the_start_is_nearly_a_gradient_step() -> None:
    learner = learner_of(MetaLstm(inner_rate=0.2))
    batch = Buried(FLOAT64).episodes("test", TEST, range(1), seed=0)
    weights = {n: w.detach().requires_grad_() for n, w in learner.network.module.named_parameters()}
    loss = F.cross_entropy(
        functional_call(learner.network.module, weights, (batch.support.x[0],)), batch.support.y[0]
    )
    gradients = torch.autograd.grad(loss, list(weights.values()))

    with torch.no_grad():
        adapted = learner.adapt(batch.support, 1).weights

    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        step = (adapted[name][0] - weight).detach()
        expected = -0.2 * gradient - (1 - 1 / (1 + math.exp(-5))) * weight.detach()
        assert float((step - expected).abs().max()) < 0.02 * float(expected.abs().max())


def test_a_meta_gradient_that_is_too_long_is_shortened_and_keeps_its_direction() -> None:
    learner = learner_of(MetaLstm(clip_norm=1e-3))
    learner.learn(Buried(FLOAT64).episodes("train", TEST, range(2), seed=0), 0, 1)
    before = _flat_gradient(learner)

    learner.update(0, 1)

    assert float(before.norm()) > 1e-3
    torch.testing.assert_close(_flat_gradient(learner), before * 1e-3 / before.norm(), rtol=1e-4, atol=0)


def _flat_gradient(learner: MetaLstmLearner) -> Tensor:
    return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


def test_it_learns_to_update() -> None:
    algorithm = MetaLstm(inner_rate=0.05, rate=3e-3, steps=3)
    test = Protocol(1, 5, 10)
    learner = build(algorithm, Mlp(hidden=(10,)), test, facts=CURVES, device=FLOAT64)
    batch = Lines().episodes("test", test, range(60), seed=2026)

    def error(updates: int) -> float:
        with torch.no_grad():
            adapted = learner.adapt(batch.support, updates)
            return float((learner.predict(adapted, batch.query.x) - batch.query.y).square().mean())

    untrained = error(3)
    train(learner, algorithm, Lines(), test, steps=300)

    assert error(3) < 0.4 * untrained
    assert error(3) < error(2) < error(1) < error(0)
