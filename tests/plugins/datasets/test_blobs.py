"""Gaussian classes: of the size, shape and distance that the settings say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from metabench import Invalid, Protocol
from metabench.data import draws
from metabench.data.cache import digest
from metabench.device import Device
from metabench_plugins.datasets.blobs import Blobs, bell


def accuracy(apart: float) -> float:
    """Of the nearest support example."""
    drawn = Blobs(apart=apart).load(Device()).episodes("test", Protocol(5, 1, 5), range(200), 0)
    nearest = torch.cdist(drawn.query.x, drawn.support.x).argmin(-1)
    return float((nearest == drawn.query.y).float().mean())


@pytest.mark.parametrize("shape", [(16,), (3, 20, 20), (2, 7)])
def test_inputs_have_their_shape_mean_and_deviation(shape: tuple[int, ...]) -> None:
    dataset = Blobs(shape=shape, apart=1.5)
    x = dataset.load(Device()).episodes("train", Protocol(50, 1, 15), range(4), 0).query.x
    assert x.shape[2:] == dataset.describe().input_shape == shape
    assert float(x.mean()) == pytest.approx(0, abs=0.1)
    assert float(x.std()) == pytest.approx(1, abs=0.06)


def test_draws_are_nearly_normal() -> None:
    values = bell(draws.streams(1, range(50)), 1001)
    assert values.shape == (50, 1001)
    assert stats.kstest(values.ravel()[::5], "norm").statistic < 0.02
    assert values.std() == pytest.approx(1, rel=0.01)


def test_classes_further_apart_are_easier() -> None:
    assert accuracy(0.0) == pytest.approx(0.2, abs=0.03)
    assert 0.5 < accuracy(1.0) < accuracy(3.0)
    assert accuracy(3.0) > 0.95


def test_examples_of_a_class_are_independent() -> None:
    values = Blobs(shape=(400,), classes=30, apart=0.0).examples(30).reshape(600, -1).astype(float)
    correlation = np.corrcoef(values)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 0.35  # 1/sqrt(400) = 0.05 is one deviation


def test_the_numbers_of_classes_and_examples_are_the_settings() -> None:
    dataset = Blobs(classes=7, held_out=4, images=3)
    loaded = dataset.load(Device())
    assert dataset.describe().classes == {"train": 7, "validation": 4, "test": 4}
    with pytest.raises(Invalid, match=r"ways must be at most 7, .*got 8"):
        loaded.episodes("train", Protocol(8, 1, 1), [0], 0)
    with pytest.raises(Invalid, match=r"at most 3, the images of .*got 4"):
        loaded.episodes("train", Protocol(2, 2, 2), [0], 0)


def test_the_examples_never_change_and_a_variant_has_others() -> None:
    assert digest(Blobs().examples(10))[:16] == "4e32a2e8250e2180"
    assert (Blobs().examples(3) != Blobs(variant=1).examples(3)).any()


def test_more_than_memory_is_refused() -> None:
    with pytest.raises(Invalid, match="GiB, more than the free memory"):
        Blobs(shape=(3, 1000, 1000), classes=10**6).load(Device())
