"""Nearest neighbour: predictions by hand, for both kinds of task."""

import pytest
import torch

from helpers.problems import (
    FLOAT64,
    TEST,
    Buried,
    build,
)
from metabench import Examples, Facts, Invalid, Protocol
from metabench_plugins.algorithms.nearest_neighbour import NearestNeighbour


def test_a_query_gets_the_class_of_the_nearest_example() -> None:
    support = Examples(torch.tensor([[[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]]), torch.tensor([[1, 0, 1]]))
    learner = build(NearestNeighbour(), None, Protocol(3, 1, 1), facts=Facts("classification", (2,)))

    scores = learner.predict(learner.adapt(support), torch.tensor([[[3.0, 0.0], [0.0, 2.0]]]))

    assert scores[0, 0].tolist() == [-1.0, -3.0, -torch.inf]
    assert scores[0, 1].tolist() == pytest.approx([-(20**0.5), -1.0, -torch.inf])


def test_cosine_ignores_length() -> None:
    support = Examples(torch.tensor([[[0.1, 0.0], [5.0, 5.0]]]), torch.tensor([[0, 1]]))
    learner = build(
        NearestNeighbour(distance="cosine"), None, Protocol(2, 1, 1), facts=Facts("classification", (2,))
    )

    scores = learner.predict(learner.adapt(support), torch.tensor([[[9.0, 1.0]]]))

    assert scores.argmax(2).tolist() == [[0]]


def test_regression_predicts_the_nearest_target() -> None:
    x = torch.tensor([[[0.0], [1.0], [2.0]]])
    support = Examples(x, torch.tensor([[[5.0, 50.0], [6.0, 60.0], [7.0, 70.0]]]))
    learner = build(NearestNeighbour(), None, Protocol(1, 3, 2), facts=Facts("regression", (1,), outputs=2))

    values = learner.predict(learner.adapt(support), torch.tensor([[[0.2], [9.0]]]))

    assert values.tolist() == [[[5.0, 50.0], [7.0, 70.0]]]


def test_training_is_refused() -> None:
    learner = build(NearestNeighbour(), None, TEST, device=FLOAT64)
    batch = Buried(FLOAT64).episodes("train", TEST, range(2), seed=0)

    assert list(learner.parameters()) == []
    assert learner.state_dict() == {}
    with pytest.raises(Invalid, match="trains nothing: give its cell a budget of 0 steps"):
        learner.learn(batch, 0, 1)
