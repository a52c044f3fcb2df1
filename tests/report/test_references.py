"""Published figures stand only beside results that were measured as they were."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest

from helpers.results import made_cell, made_result
from metabench import Protocol, Spec
from metabench.learning.statistics import STATISTICS
from metabench.records.row import Row
from metabench.records.summary import FROM_MEMORY
from metabench.report.references import NETWORKS, published, unlike
from metabench.results.rows import row_of

MLP = {"hidden": [256, 128, 64, 64], "batch_norm": True}
STRIDED = {"width": 64, "downsample": "stride", "readout": "mean"}
POOLED = {"width": 64, "downsample": "pool", "readout": "flatten"}


def row(
    algorithm: str = "maml",
    network: tuple[str, Mapping[str, Any]] = ("conv4", STRIDED),
    data: Mapping[str, Any] | None = None,
    dataset: str = "omniglot",
    train_ways: int = 5,
    **settings: Any,
) -> Row:
    """The row of a 5-way 1-shot cell, as MAML's authors ran it unless it says otherwise."""
    own = {"first_order": False, "steps": 1, "test_steps": 3, "statistics": "queries"}
    cell = made_cell(algorithm, dataset=dataset, settings={**own, **settings})
    standard = {"split": "vinyals", "rotations": True, "size": 28}
    cell = replace(
        cell,
        network=Spec(*network),
        dataset=Spec(dataset, {**standard, **(data or {})}),
        train=Protocol(train_ways, 1, 5),
    )
    flat, _ = row_of(made_result(cell))
    return flat | {f"{kind}_name": flat[kind] for kind in ("network", "dataset")}  # type: ignore[literal-required, return-value]


def figures(*of: Any, **settings: Any) -> list[float]:
    """The published accuracies (%) of `row` of these arguments."""
    return [round(100 * reference.accuracy, 2) for reference in published(row(*of, **settings))]


def test_the_paper_s_conditions_have_the_paper_s_figure() -> None:
    assert figures() == [98.7]
    assert figures(network=("mlp", MLP)) == [89.7]
    assert figures("protonet", ("conv4", POOLED), train_ways=60, statistics="population") == [98.8]


def test_learn2learn_s_own_figure_is_that_of_one_step_in_the_test() -> None:
    network = ("l2l-omniglot-cnn", {"width": 64, "layers": 4})
    assert figures("l2l-maml", network, test_steps=None) == [99.1]


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"network": ("conv4", {**POOLED, "readout": "mean"})}, "network conv4, not conv4-"),
        ({"network": ("conv4", {**STRIDED, "width": 16})}, "network conv4, not conv4-stride-mean"),
        ({"network": ("mlp", {**MLP, "batch_norm": False})}, "network mlp, not "),
        ({"data": {"shift": 2}}, "augmented"),
        ({"train_ways": 20}, "trained 20-way, not 5-way"),
        ({"statistics": "support"}, "test statistics support, not queries"),
        ({"test_steps": 10}, "10 inner steps in the test, not 3"),
    ],
    ids=str,
)
def test_another_condition_is_named_in_the_figure_s_place(changed: dict[str, Any], difference: str) -> None:
    assert 98.7 not in figures(**changed)
    assert difference in unlike(row(**changed))


@pytest.mark.parametrize("data", [{"split": "lake"}, {"rotations": False}, {"size": 84}], ids=str)
def test_another_form_of_the_data_has_none(data: Mapping[str, Any]) -> None:
    assert not figures(data=data)
    assert not unlike(row(data=data))


def test_the_width_tells_figures_of_one_network_apart() -> None:
    narrow = {**POOLED, "width": 32}
    assert figures(network=("conv4", narrow), dataset="mini-imagenet", test_steps=10) == [48.7, 48.3]


def test_first_order_has_figures_of_its_own() -> None:
    assert figures(first_order=True) == [98.3]
    assert figures("anil", first_order=True) == [96.06]
    assert not figures("anil")


def test_reptile_s_figures_with_and_without_transduction_are_apart() -> None:
    network = ("conv4", {**STRIDED, "readout": "flatten"})
    settings = {"steps": 5, "test_steps": 50}
    assert figures("reptile", network, **settings) == [97.68]
    assert figures("reptile", network, **settings, statistics="support") == [95.39]


def test_the_vector_module_of_relation_networks_is_not_the_published_one() -> None:
    network = ("conv4", {**POOLED, "halvings": 2})
    assert figures("relationnet", network, module="convolution") == [99.6]
    assert not figures("relationnet", network, module="vector")
    assert "not conv4-maps" in unlike(row("relationnet", module="convolution"))


def test_every_line_of_the_file_has_known_words() -> None:
    text = files("metabench.report").joinpath("references.csv").read_text(encoding="utf-8")
    known = {
        "kind": {"paper", "reproduction"},
        "checked": {"checked", "quoted", FROM_MEMORY},
        "augmented": {"", "yes", "no"},
        "statistics": {"", *STATISTICS},
        "network": {"", *(name for name, _, _ in NETWORKS)},
    }
    for line in csv.DictReader(text.splitlines()):
        assert all(line[name] in words for name, words in known.items()), line
        assert 0 < float(line["accuracy_pct"]) < 100
        assert line["source"]
