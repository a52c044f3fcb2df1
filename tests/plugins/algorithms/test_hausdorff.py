"""The modified Hausdorff distance: by hand, and the published error on Lake's runs."""

from pathlib import Path

import pytest
import torch

from metabench import Examples, Facts, Protocol, Workload
from metabench.device import Device
from metabench_plugins.algorithms.hausdorff import Hausdorff, modified_hausdorff
from metabench_plugins.datasets.lake import Lake

RUN = Protocol(20, 1, 1)


def test_the_distance_is_the_larger_of_both_mean_distances() -> None:
    a, b = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 3.0], [4.0, 0.0]])

    assert float(modified_hausdorff(a, b)) == 3.5
    assert float(modified_hausdorff(b, a)) == 3.5


def test_a_moved_drawing_is_the_same_and_an_absent_class_scores_nothing() -> None:
    facts = Facts("classification", (1, 6, 6))
    learner = Hausdorff().build(Workload(facts, None, Protocol(3, 1, 1)), None, Device())
    x = torch.zeros(1, 2, 1, 6, 6)
    x[0, 0, 0, 0, :3] = x[0, 1, 0, 2:5, 1] = 1.0  # a bar, and a pole
    query = torch.zeros(1, 1, 1, 6, 6)
    query[0, 0, 0, 4, 2:5] = 1.0

    scores = learner.predict(learner.adapt(Examples(x, torch.tensor([[2, 0]]))), query)

    assert scores[0, 0, 2] == 0.0
    assert scores[0, 0, 0] == pytest.approx(-2 / 3)  # its two ends are 1 from the pole's middle
    assert scores[0, 0, 1] == -torch.inf


@pytest.mark.slow
def test_lake_s_demo_has_this_error(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(real_data))
    dataset = Lake(size=105)
    learner = Hausdorff().build(Workload(dataset.describe(), None, RUN), None, Device())
    episodes = dataset.load(Device()).episodes("test", RUN, range(20), 0)

    scores = learner.predict(learner.adapt(episodes.support), episodes.query.x)

    error = (scores.argmax(2) != episodes.query.y).double().mean()
    assert float(error) == pytest.approx(0.3875)  # brendenlake/omniglot: "average error 38.8 %"
