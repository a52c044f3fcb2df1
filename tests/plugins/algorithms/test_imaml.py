"""Implicit MAML."""

from __future__ import annotations

import pytest
import torch

from helpers.problems import POINT_WAYS, POINT_WIDTH, points, points_learner
from helpers.reference_loop import imaml_gradient, tasks_of
from metabench.engine.implicit import conjugate_gradient
from metabench_plugins.algorithms.imaml import Imaml
from metabench_plugins.networks.mlp import Mlp


def test_conjugate_gradient_solves_each_tasks_own_system() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 5, 5, generator=generator, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(5)
    b = torch.randn(3, 5, generator=generator, dtype=torch.float64)

    def times(v: list[torch.Tensor]) -> list[torch.Tensor]:
        whole = (matrix @ torch.cat([v[0], v[1]], 1)[..., None])[..., 0]
        return [whole[:, :2], whole[:, 2:]]

    solution = torch.cat(conjugate_gradient(times, [b[:, :2], b[:, 2:]], 8), 1)
    assert torch.allclose(solution, torch.linalg.solve(matrix, b), rtol=1e-8)


def test_conjugate_gradient_ends_before_a_system_that_is_almost_singular() -> None:
    b = torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    matrix = torch.tensor([2.0, 1e-9], dtype=torch.float64)

    (solution,) = conjugate_gradient(lambda v: [matrix * v[0]], [b], 8)

    assert torch.equal(solution[0], b[0])
    assert solution.abs().max() < 10


def test_enough_solver_steps_give_the_exact_implicit_gradient() -> None:
    imaml = Imaml(inner_rate=0.1, steps=3, solver_steps=60, proximal=2.0, damping=0.0)
    learner = points_learner(imaml, network=Mlp(hidden=(3,)), dtype=torch.float64)
    episodes = points(2, 0, torch.float64)
    learner.learn(episodes, 0, 1)
    module = learner.network.module
    exact = [imaml_gradient(module, task, 0.1, 3, 2.0, 0.0, None) for task in tasks_of(episodes)]
    for name, parameter in module.named_parameters():
        expected = torch.stack([gradient[name] for gradient in exact]).mean(0)
        assert torch.allclose(parameter.grad, expected, rtol=1e-7, atol=1e-10)
    assert sum(p.numel() for p in module.parameters()) == POINT_WIDTH * 3 + 3 + 3 * POINT_WAYS + POINT_WAYS


def test_the_pull_keeps_weights_near_the_start() -> None:
    support = points(4, 0).support
    start = points_learner(Imaml()).network.module.head.weight.detach()
    learners = [points_learner(Imaml(proximal=p, steps=20, inner_rate=0.02)) for p in (0.01, 10.0)]
    with torch.no_grad():
        ends = [learner.adapt(support).weights["head.weight"] for learner in learners]
    far, near = (float((end - start).norm()) for end in ends)
    assert near < 0.5 * far


def test_a_pull_of_nothing_is_refused() -> None:
    from metabench import SettingError
    from metabench.settings import complete

    with pytest.raises(SettingError, match="proximal"):
        complete(Imaml, {"proximal": 0})
