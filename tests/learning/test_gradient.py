"""What a learner of its own may override, and what follows it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.problems import PLAIN, POINTS, POINTS_TEST, points
from metabench import Workload
from metabench.device import Device
from metabench_plugins.algorithms.maml import Maml, MamlLearner


class OwnRun(MamlLearner):
    """Scales the logits of queries where it runs the network."""

    def run(self, *arguments: Any, **options: Any) -> Tensor:
        return 3 * super().run(*arguments, **options)


class OwnPredict(MamlLearner):
    """Scales the logits of queries where it predicts."""

    def predict(self, *arguments: Any) -> Tensor:
        return 3 * super().predict(*arguments)


class OwnLoss(MamlLearner):
    """Weighs the cross entropy."""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 3 * super().loss(prediction, target)


@pytest.mark.parametrize("cls", [MamlLearner, OwnRun, OwnPredict, OwnLoss])
def test_the_meta_objective_is_the_loss_of_what_the_learner_predicts(cls: type[MamlLearner]) -> None:
    settings, workload = Maml(inner_rate=0.1), Workload(POINTS, POINTS_TEST, POINTS_TEST, steps=1)
    learner = cls(settings, settings.module(PLAIN, workload, Device()), workload)
    episodes = points(4, 0)

    losses = learner.learn(episodes, 0, 1)

    with torch.no_grad():
        predictions = learner.predict(learner.adapt(episodes.support), episodes.query.x)
    torch.testing.assert_close(losses, learner.loss(predictions, episodes.query.y))
