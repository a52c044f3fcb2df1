"""The order of a task's examples: the same everywhere, different for each task, and telling nothing."""

import hashlib

import numpy as np
import torch

from metabench import Episodes, Examples
from metabench.data.order import orders, shuffled


def tasks(count: int = 400, ways: int = 5, queries: int = 3) -> Episodes:
    """Tasks whose examples lie class by class and hold their own task, place and label."""

    def half(examples: int) -> Examples:
        y = (torch.arange(examples) % ways).expand(count, -1)
        place = torch.arange(examples).expand(count, -1)
        task = torch.arange(count)[:, None].expand(-1, examples)
        return Examples(torch.stack([task, place, y], 2).float(), y)

    classes = torch.arange(ways).expand(count, -1)
    return Episodes(half(ways), half(ways * queries), classes, torch.arange(count))


def test_orders_are_golden_and_do_not_depend_on_the_slice() -> None:
    whole = orders("test", range(1000), 2026, 5, 75)
    part = orders("test", [7, 900], 2026, 5, 75)
    assert np.array_equal(whole.support[[7, 900]], part.support)
    assert np.array_equal(whole.query[[7, 900]], part.query)
    digest = hashlib.sha256(whole.support.tobytes() + whole.query.tobytes()).hexdigest()
    assert digest[:16] == "b3749f5bfc9a93d3"


def test_examples_keep_their_labels_and_their_task() -> None:
    drawn = shuffled(tasks(), "train", range(400), 3)
    for half, original in ((drawn.support, tasks().support), (drawn.query, tasks().query)):
        assert torch.equal(half.x[..., 2].long(), half.y)
        assert (half.x[..., 0] == torch.arange(400)[:, None]).all()
        assert torch.equal(half.x[..., 1].sort(1).values, original.x[..., 1])


def test_a_place_tells_nothing_of_the_label() -> None:
    drawn = shuffled(tasks(), "test", range(400), 2026)
    for half in (drawn.support, drawn.query):
        for label in range(5):
            share = (half.y == label).double().mean(0)
            assert float((share - 0.2).abs().max()) < 0.1  # 5 standard deviations of 400 draws
    same = (drawn.query.y[:, :5] == drawn.support.y).double().mean()
    assert abs(float(same) - 0.2) < 0.05


def test_splits_seeds_and_tasks_have_orders_of_their_own() -> None:
    first = orders("test", range(50), 1, 25, 25)
    for other in (orders("train", range(50), 1, 25, 25), orders("test", range(50), 2, 25, 25)):
        assert not (first.query == other.query).all(1).any()
    assert len({row.tobytes() for row in first.query}) == 50
    assert not (first.support == first.query).all(1).any()
