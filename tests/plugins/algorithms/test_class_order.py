"""Learners that fit each task's classes alike: renamed classes rename the scores."""

from __future__ import annotations

import pytest
import torch

from helpers.problems import FLOAT64, NORMED, TEST, Buried, build
from metabench import Algorithm, Examples
from metabench.learning import STATISTICS
from metabench_plugins.algorithms.baseline import Baseline
from metabench_plugins.algorithms.matchingnet import MatchingNet
from metabench_plugins.algorithms.nearest_neighbour import NearestNeighbour
from metabench_plugins.algorithms.protonet import ProtoNet
from metabench_plugins.algorithms.r2d2 import R2D2
from metabench_plugins.algorithms.relationnet import RelationNet
from metabench_plugins.algorithms.simpleshot import SimpleShot

ALGORITHMS = [
    *(ProtoNet(statistics=statistics) for statistics in STATISTICS),
    MatchingNet(context=True),
    RelationNet(),
    R2D2(),
    SimpleShot(),
    Baseline(),
    NearestNeighbour(),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_renamed_classes_rename_the_scores(algorithm: Algorithm) -> None:
    learner = build(algorithm, NORMED, TEST, device=FLOAT64)
    batch = Buried(FLOAT64).episodes("test", TEST, range(3), seed=0)
    renamed = Examples(batch.support.x, (batch.support.y + 1) % TEST.ways)

    with torch.no_grad():
        scores, of_renamed = (
            learner.predict(learner.adapt(support), batch.query.x) for support in (batch.support, renamed)
        )

    torch.testing.assert_close(scores, of_renamed.roll(-1, 2), rtol=1e-9, atol=1e-9)
