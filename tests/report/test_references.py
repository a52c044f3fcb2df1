"""Published figures stand only beside results that were measured as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from helpers.results import made_cell, made_result
from metabench import Spec
from metabench.report.references import Reference, published
from metabench.results.rows import row_of

MLP = {"hidden": [256, 128, 64, 64], "batch_norm": True}


def figures(
    algorithm: str = "maml",
    network: tuple[str, Mapping[str, Any]] = ("conv4", {"width": 64}),
    data: Mapping[str, Any] | None = None,
    dataset: str = "omniglot",
    **settings: Any,
) -> list[float]:
    """The published accuracies (%) of a 5-way 1-shot cell."""
    cell = made_cell(algorithm, dataset=dataset, settings=settings or {"first_order": False})
    standard = {"split": "vinyals", "rotations": True, "size": 28}
    cell = replace(cell, network=Spec(*network), dataset=Spec(dataset, {**standard, **(data or {})}))
    row, _ = row_of(made_result(cell))
    row |= {f"{kind}_name": row[kind] for kind in ("network", "dataset")}
    return [round(100 * reference.accuracy, 2) for reference in published(row)]


def test_the_papers_network_has_the_papers_figure() -> None:
    assert figures()[0] == 98.7
    assert figures(network=("mlp", MLP))[0] == 89.7
    assert figures(network=("l2l-omniglot-cnn", {"width": 64, "layers": 4}), algorithm="l2l-maml")[0] == 98.7


@pytest.mark.parametrize(
    "network",
    [
        ("conv4", {"width": 16}),
        ("conv4", {"width": 128}),
        ("mlp", {**MLP, "hidden": [40, 40]}),
        ("mlp", {**MLP, "batch_norm": False}),
        ("l2l-omniglot-cnn", {"width": 32, "layers": 4}),
    ],
    ids=str,
)
def test_another_size_of_network_has_none(network: tuple[str, Mapping[str, Any]]) -> None:
    assert not figures(network=network)


@pytest.mark.parametrize("data", [{"split": "lake"}, {"rotations": False}, {"size": 84}], ids=str)
def test_another_form_of_the_data_has_none(data: Mapping[str, Any]) -> None:
    assert not figures(data=data)


def test_the_width_tells_figures_of_one_network_apart() -> None:
    assert figures(network=("conv4", {"width": 32}), dataset="mini-imagenet")[0] == 48.7
    assert figures(network=("conv4", {"width": 64}), dataset="mini-imagenet")[0] == 46.47


def test_first_order_has_figures_of_its_own() -> None:
    assert figures(first_order=True) == [98.3]
    assert figures("anil", first_order=True) == [96.06]
    assert not figures("anil", first_order=False)
    assert not figures("metasgd", first_order=True)


def test_a_result_agrees_within_two_points_or_the_interval() -> None:
    narrow, wide = Reference(0.9, 0.001, "paper", "x"), Reference(0.5, 0.03, "paper", "x")

    assert narrow.agrees(0.92)
    assert not narrow.agrees(0.921)
    assert wide.agrees(0.529)
