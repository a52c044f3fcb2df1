"""Letters: the list follows its rule, the pictures never change, the tasks are hard enough."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from metabench import DataError, Protocol, Source
from metabench.data import TensorSource
from metabench.data.cache import digest
from metabench.device import Device
from metabench_plugins.datasets import glyphs
from metabench_plugins.datasets.glyphs import Glyphs, font_outlines, letters, likeness, outlines_digest


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TensorSource]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METABENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        loaded = Glyphs().load(Device())
        assert isinstance(loaded, TensorSource)
        yield loaded


def nearest_neighbour(source: Source, protocol: Protocol, tasks: int) -> float:
    """Share of queries whose nearest support image, pixel by pixel, is of their class."""
    drawn = source.episodes("test", protocol, range(tasks), 2026)
    nearest = torch.cdist(drawn.query.x.flatten(2), drawn.support.x.flatten(2)).argmin(-1)
    return float((drawn.support.y.gather(1, nearest) == drawn.query.y).float().mean())


def test_the_pictures_are_those_of_everybody(source: TensorSource) -> None:
    assert digest(source.examples.numpy()) == glyphs.IMAGES


def test_what_is_described_is_what_is_loaded(source: TensorSource) -> None:
    facts = Glyphs().describe()
    assert facts.classes == {split: len(index) for split, index in source.splits.items()}
    assert facts.images == {split: index.fewest for split, index in source.splits.items()}
    assert tuple(source.examples.shape[1:]) == facts.input_shape


def test_no_script_is_in_two_splits() -> None:
    scripts = {
        split: {unicodedata.name(letter).split()[0] for letter in names} for split, names in letters().items()
    }
    assert scripts == {
        "train": {"LATIN"},
        "validation": {"GREEK", "CYRILLIC"},
        "test": {"ARMENIAN", "GEORGIAN"},
    }


def test_no_letter_looks_like_one_of_another_split() -> None:
    chosen = [letter for names in letters().values() for letter in names]
    split = np.repeat(np.arange(3), [len(names) for names in letters().values()])
    alike = likeness(chosen)
    for first, second in combinations(range(3), 2):
        assert alike[np.ix_(split == first, split == second)].max() <= 0.85
    np.fill_diagonal(alike, 0)
    assert alike.max() <= 0.92


def test_equal_letters_of_two_scripts_are_not_both_kept() -> None:
    alike = likeness(["A", "Α", "А", "B"])  # Latin, Greek and Cyrillic A
    assert alike[0, 1] > 0.999
    kept = glyphs.choose(["A", "Α", "А", "B"], alike)
    assert kept == {"train": ["B"], "validation": ["Α"], "test": []}


def test_pixels_alone_do_not_solve_the_tasks(source: TensorSource) -> None:
    assert 0.38 < nearest_neighbour(source, Protocol(5, 1, 5), 400) < 0.48
    assert 0.19 < nearest_neighbour(source, Protocol(20, 1, 5), 100) < 0.27


def test_letters_stay_inside_their_picture(source: TensorSource) -> None:
    border = source.examples.numpy()[:, 0].copy()
    border[:, 1:-1, 1:-1] = 0
    ink = source.examples.numpy().reshape(len(border), -1).sum(1, dtype=np.int64)
    assert (ink > 0).all()
    assert (border.reshape(len(border), -1).sum(1, dtype=np.int64) > 0.1 * ink).mean() < 0.01


def test_other_fonts_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(glyphs, "OUTLINES", "0" * 64)
    monkeypatch.setattr(glyphs, "letters", lambda: {"train": ["A", "B"]})
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path))
    with pytest.raises(
        DataError, match=r"must be those of matplotlib's wheels.*install matplotlib from PyPI"
    ):
        Glyphs(images=12).load(Device())


def test_an_outline_is_as_its_font_file_says() -> None:
    (bar, *_), (dotted, *_) = font_outlines(["l"]), font_outlines(["i"])
    assert bar.shape == (4, 2, 2)  # DejaVu Sans draws l as one rectangle
    assert np.ptp(bar[..., 1]) == pytest.approx(glyphs.LETTER)
    assert len(dotted) == 8
    assert outlines_digest([bar]) != outlines_digest([dotted])


def test_a_variant_has_other_pictures_of_the_same_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "letters", lambda: {"train": ["A", "B"]})
    monkeypatch.setattr(glyphs, "outlines_digest", lambda outlines: glyphs.OUTLINES)
    images, variant = (np.zeros((24, 1, 28, 28), np.uint8) for _ in range(2))
    Glyphs(images=12).render(images)
    Glyphs(images=12, variant=1).render(variant)
    assert (images != variant).any()
