"""Sums of sines: what the docstring says, tasks by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metabench import Invalid, Protocol
from metabench.device import Device
from metabench_plugins.datasets.harmonics import Harmonics

PROTOCOL = Protocol(1, 8, 6)


def test_targets_are_the_sum_of_their_sines() -> None:
    source = Harmonics(components=4).load(Device(dtype=torch.float64))
    drawn, manifest = (
        source.episodes("train", PROTOCOL, range(5), 0),
        source.manifest("train", PROTOCOL, range(5), 0),
    )
    for task in range(5):
        x = drawn.query.x[task, :, 0].numpy()
        y = sum(
            manifest["amplitude"][task, k]
            * np.sin((k + 1) * manifest["frequency"][task] * x + manifest["phase"][task, k])
            for k in range(4)
        )
        assert np.allclose(drawn.query.y[task, :, 0].numpy(), y, atol=1e-12)


def test_slices_give_the_tasks_of_the_whole() -> None:
    source = Harmonics(noise=0.1).load(Device())
    whole, part = (source.episodes("test", PROTOCOL, tasks, 5) for tasks in (range(8), [6]))
    assert torch.equal(whole.support.y[6:7], part.support.y)
    assert torch.equal(whole.query.y[6:7], part.query.y)


def test_higher_components_are_weaker() -> None:
    manifest = Harmonics().load(Device()).manifest("train", PROTOCOL, range(2000), 0)
    assert manifest["amplitude"].mean(0) == pytest.approx([1.25, 0.625, 1.25 / 3], rel=0.03)


def test_more_ways_than_one_make_no_sense() -> None:
    with pytest.raises(Invalid, match="ways must be 1, got 2"):
        Harmonics().load(Device()).manifest("train", Protocol(2, 1, 1), [0], 0)
