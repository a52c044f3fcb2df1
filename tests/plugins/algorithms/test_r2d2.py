"""R2-D2: the ridge against its normal equations, its gradient, and learning."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.problems import (
    EASY,
    FLOAT64,
    PLAIN,
    TEST,
    Buried,
    assert_gradient_is,
    build,
    builder_of,
    train,
)
from metabench import Episodes, Protocol
from metabench.device import Device
from metabench_plugins.algorithms.r2d2 import R2D2, R2D2Learner, ridge

learner_of = builder_of(R2D2Learner)


@pytest.mark.parametrize("examples", [3, 9, 30], ids=["fewer than features", "as many", "more"])
def test_ridge_solves_the_normal_equations(examples: int) -> None:
    x, y = torch.randn(4, examples, 9, dtype=torch.float64), torch.randn(4, examples, 5, dtype=torch.float64)
    penalty = torch.tensor(0.3, dtype=torch.float64)

    weights = ridge(x, y, penalty)

    for inputs, targets, solution in zip(x, y, weights, strict=True):
        normal = inputs.T @ inputs + 0.3 * torch.eye(9, dtype=torch.float64)
        torch.testing.assert_close(
            solution, torch.linalg.inv(normal) @ inputs.T @ targets, rtol=1e-10, atol=1e-12
        )


def test_ridge_is_where_the_penalised_error_is_least() -> None:
    x, y = torch.randn(1, 6, 9, dtype=torch.float64), torch.randn(1, 6, 5, dtype=torch.float64)
    weights = ridge(x, y, torch.tensor(0.7, dtype=torch.float64)).requires_grad_()

    cost = (x @ weights - y).square().sum() + 0.7 * weights.square().sum()

    (gradient,) = torch.autograd.grad(cost, weights)
    assert float(gradient.abs().max()) < 1e-12


@pytest.mark.parametrize("shots", [1, 8], ids=["Woodbury", "normal equations"])
def test_the_gradient_is_that_of_a_plain_loop_over_tasks(shots: int) -> None:
    algorithm = R2D2(statistics="joined", train_statistics="joined", train_ways=4, penalty=0.5, scale=2.0)
    test = Protocol(5, shots, 3)
    learner = learner_of(algorithm, test)
    features = learner.lifted.module.get_submodule("features")
    batch = Buried(FLOAT64).episodes("train", algorithm.train_protocol(test), range(3), seed=0)
    n = 4 * shots

    def task_loss(task: Episodes) -> Tensor:
        embedded = features(torch.cat([task.support.x[0], task.query.x[0]]))
        inputs = torch.cat([embedded, torch.ones(len(embedded), 1, dtype=embedded.dtype)], 1)
        s, q = inputs[:n], inputs[n:]
        normal = s.T @ s + learner.solver.log_penalty.exp() * torch.eye(17, dtype=s.dtype)
        weights = torch.linalg.inv(normal) @ s.T @ F.one_hot(task.support.y[0], 4).to(s.dtype)
        scores = learner.solver.log_scale.exp() * (q @ weights) + learner.solver.shift
        return F.cross_entropy(scores, task.query.y[0])

    assert_gradient_is(learner, batch, task_loss)


def test_the_penalty_and_the_scale_are_learned_and_stay_positive() -> None:
    algorithm = R2D2(train_ways=10, rate=0.05)
    learner = learner_of(algorithm, EASY)

    train(learner, algorithm, Buried(FLOAT64), EASY, steps=10)

    assert float(learner.solver.log_penalty.detach()) != 0.0
    assert float(learner.solver.log_scale.detach().exp()) > 1.0  # the easier the tasks, the larger


def test_the_solver_keeps_its_precision_where_the_network_computes_in_bfloat16() -> None:
    learner = build(R2D2(train_ways=0), PLAIN, TEST)
    batch = Buried(Device()).episodes("train", TEST, range(4), seed=0)
    exact = learner.learn(batch, 0, 1)

    with torch.autocast("cpu", torch.bfloat16):
        short = learner.learn(batch, 0, 1)
        scores = learner.predict(learner.adapt(batch.support), batch.query.x)

    assert scores.dtype == torch.float32
    assert not torch.equal(short, exact)
    # bfloat16 keeps 8 bits, and the features come out of 3 rounded layers; the solver adds nothing to it
    torch.testing.assert_close(short, exact, rtol=3 * 2**-8, atol=0.0)
