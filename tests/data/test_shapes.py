"""Protocols with ranges: the shape of each task, its tensors, and the rule of Meta-Dataset by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metabench import Device, Invalid, Protocol, UnevenProtocol, VariedProtocol
from metabench.data import draws
from metabench.data.manifests import drawn_digest, tasks_digest
from metabench.data.order import draw_episodes
from metabench.data.shapes import draw_shape, groups, shape_of
from metabench.testing.fakes import REGRESSION, TinyClasses, TinyCurves

SOURCE = TinyClasses(images=20).load(Device(dtype=torch.float64))
NUMBERS = range(400)


def varied(sampling: str = "uniform") -> VariedProtocol:
    return VariedProtocol(6, 4, 3, least_ways=2, least_shots=1, least_queries=2, sampling=sampling)


def shots_of(shape: Protocol) -> tuple[int, ...]:
    return shape.class_shots if isinstance(shape, UnevenProtocol) else (shape.shots,) * shape.ways


def test_a_fixed_protocol_is_the_shape_of_every_task() -> None:
    protocol = Protocol(3, 2, 1)

    assert shape_of(SOURCE, "test", protocol, 7, 0) is protocol
    assert groups(SOURCE, "test", protocol, range(4), 0) == [(protocol, range(4))]


@pytest.mark.parametrize("sampling", ["uniform", "uneven"])
def test_numbers_are_uniform_in_their_ranges_both_ends_included(sampling: str) -> None:
    shapes = [shape_of(SOURCE, "test", varied(sampling), index, 0) for index in NUMBERS]

    for values, least, most in (
        ([shape.ways for shape in shapes], 2, 6),
        ([shape.queries for shape in shapes], 2, 3),
        ([shots for shape in shapes for shots in shots_of(shape)], 1, 4),
    ):
        counts = np.bincount(values, minlength=most + 1)[least:]
        assert counts.sum() == len(values)
        expected = len(values) / (most - least + 1)
        assert (abs(counts - expected) < 6 * math.sqrt(expected)).all()
    assert any(len(set(shots_of(shape))) > 1 for shape in shapes) == (sampling == "uneven")


def test_a_shape_depends_on_split_seed_and_number_alone() -> None:
    shapes = [shape_of(SOURCE, "test", varied(), index, 0) for index in NUMBERS]

    assert shapes[::-1] == [shape_of(SOURCE, "test", varied(), index, 0) for index in NUMBERS[::-1]]
    assert shapes != [shape_of(SOURCE, "test", varied(), index, 1) for index in NUMBERS]
    assert shapes != [shape_of(SOURCE, "train", varied(), index, 0) for index in NUMBERS]


@pytest.mark.parametrize("sampling", ["uniform", "uneven", "meta-dataset"])
def test_tasks_of_a_group_have_its_shape_and_no_padding(sampling: str) -> None:
    seen: list[int] = []
    for shape, numbers in groups(SOURCE, "test", varied(sampling), range(30), 0):
        episodes = draw_episodes(SOURCE, "test", shape, numbers, 0)
        shots = shots_of(shape)
        assert episodes.support.x.shape[:2] == (len(numbers), sum(shots))
        assert episodes.index.tolist() == list(numbers)
        for support_y, query_y in zip(episodes.support.y, episodes.query.y, strict=True):
            assert support_y.bincount().tolist() == list(shots)
            assert query_y.bincount().tolist() == [shape.queries] * shape.ways
        seen += numbers
    assert sorted(seen) == list(range(30))


def test_support_examples_are_of_the_class_that_their_label_says_and_no_queries() -> None:
    shape = UnevenProtocol(4, 3, 2, (3, 1, 2, 1))
    manifest = SOURCE.manifest("test", shape, [5, 9], 0)
    index = SOURCE.splits["test"]  # type: ignore[attr-defined]

    episodes = SOURCE.episodes("test", shape, [5, 9], 0)

    assert manifest["shots"].tolist() == [[3, 1, 2, 1]] * 2
    for task in range(2):
        labels = episodes.support.y[task].tolist()
        classes = manifest["classes"][task][labels]
        rows = manifest["support"][task]
        assert ((rows >= index.first[classes]) & (rows < (index.first + index.count)[classes])).all()
        assert torch.equal(episodes.support.x[task], SOURCE.examples[rows])  # type: ignore[attr-defined]
        assert len({*rows, *manifest["query"][task]}) == 7 + 8


def test_the_rule_of_meta_dataset_is_that_of_its_section_3_2() -> None:
    protocol = VariedProtocol(12, 100, 10, least_ways=5, least_queries=10, sampling="meta-dataset")
    images = 20
    for index in range(50):
        u = draws.uniform(draws.streams(draws.key("shape", "test", 3), [index]), 3 + 12)[0]

        shape = draw_shape(protocol, "test", index, 3, images)

        ways = 5 + math.floor(u[0] * 8)
        queries = min(10, images // 2)
        beta = 1 - u[2]
        support = min(500, sum(math.ceil(beta * min(100, images - queries)) for _ in range(ways)))
        alpha = math.log(0.5) + u[3 : 3 + ways] * (math.log(2) - math.log(0.5))
        share = np.exp(alpha) * images / (np.exp(alpha) * images).sum()
        shots = np.minimum(np.floor(share * (support - ways)).astype(int) + 1, images - queries)
        assert (shape.ways, shape.queries) == (ways, queries)
        assert shots_of(shape) == tuple(shots)


def test_the_rule_of_meta_dataset_needs_a_number_of_images() -> None:
    with pytest.raises(Invalid, match="finite number of images"):
        draw_shape(varied("meta-dataset"), "test", 0, 0)


def test_a_regression_has_tasks_of_different_shots() -> None:
    protocol = VariedProtocol(1, 9, REGRESSION.queries, least_shots=2, least_queries=REGRESSION.queries)
    source = TinyCurves().load(Device())

    sizes = {
        draw_episodes(source, "test", shape, numbers, 0).support.x.shape[1]
        for shape, numbers in groups(source, "test", protocol, range(60), 0)
    }

    assert sizes == set(range(2, 10))


def test_the_digest_of_tasks_covers_every_shape() -> None:
    fixed = Protocol(3, 2, 2)
    plain = tasks_digest(SOURCE.manifest("test", fixed, range(10), 0))
    assert drawn_digest(SOURCE, "test", fixed, 10, 0) == plain

    digests = {
        drawn_digest(SOURCE, "test", varied(s), 10, seed) for s in ("uniform", "uneven") for seed in (0, 1)
    }

    assert len(digests) == 4
    assert drawn_digest(SOURCE, "test", varied(), 10, 0) in digests


def test_words_and_names_show_ranges() -> None:
    protocol = VariedProtocol(20, 10, 10, least_ways=5, least_queries=10, sampling="meta-dataset")

    assert str(protocol) == "5–20-way 1–10-shot, meta-dataset"
    assert protocol.short == "5-20w1-10s"
    assert str(VariedProtocol(5, 10, 5, least_ways=5, least_queries=5)) == "5-way 1–10-shot"
    assert protocol.with_ways(16).spans == {"ways": "16", "shots": "1–10", "queries": "10"}
