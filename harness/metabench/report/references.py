"""Published accuracies to compare measured ones with, each with its source (references.csv)."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from metabench.records.row import Row
from metabench.records.summary import Reference

DATA: Mapping[str, Mapping[str, Any]] = {
    "omniglot": {"split": "vinyals", "rotations": True, "size": 28},
}
"""The settings of a data set under which the published figures were measured."""

NETWORKS: Sequence[tuple[str, str, Mapping[str, Any]]] = (
    ("conv4", "conv4", {"width": 64}),
    ("conv4-32", "conv4", {"width": 32}),
    ("mlp", "mlp", {"hidden": [256, 128, 64, 64], "batch_norm": True}),
    ("resnet12", "resnet12", {"width": 64}),
    ("conv4", "l2l-omniglot-cnn", {"width": 64, "layers": 4}),
    ("conv4", "l2l-cnn4", {"width": 64}),
    ("conv4-32", "l2l-cnn4", {"width": 32}),
    ("mlp", "l2l-omniglot-fc", {"hidden": [256, 128, 64, 64]}),
    ("resnet12", "l2l-resnet12", {"avg_pool": True}),
)
"""What the networks of references.csv are here: its name for it, the component, and the settings."""


def published(row: Row) -> tuple[Reference, ...]:
    """Return the references of a row's data set, protocol, algorithm and network; papers first.

    Only trained cells have one, whose data set and network have the settings that the figures were measured
    with. First-order variants have names of their own (`fomaml`). The library learn2learn's own
    algorithms (`l2l-…`) are measured against the same papers.
    """
    task = row["dataset_name"], row["ways"], row["shots"]
    if row["metric"] != "accuracy" or not row["steps"] or not row["train"] or task not in _tasks():
        return ()
    data = json.loads(row["dataset_settings"])
    if not _as_meant(data, DATA.get(row["dataset_name"], {})):
        return ()
    names = _algorithm(row["algorithm"], json.loads(row["algorithm_settings"]))
    network = _network(row["network_name"], json.loads(row["network_settings"]))
    return _references().get((*task, names, network), ())


def _algorithm(name: str, settings: Mapping[str, Any]) -> str:
    name = name.removeprefix("l2l-")
    return f"fo{name}" if settings.get("first_order") else name


def _network(name: str, settings: Mapping[str, Any]) -> str:
    """Return the network's name in references.csv, empty where its settings are not those of any."""
    for published_name, component, meant in NETWORKS:
        if component == name and _as_meant(settings, meant):
            return published_name
    return ""


def _as_meant(settings: Mapping[str, Any], meant: Mapping[str, Any]) -> bool:
    return all(settings.get(name, value) == value for name, value in meant.items())


@cache
def _tasks() -> frozenset[tuple[str, int, int]]:
    """Return the data sets, ways and shots of which anything is published."""
    return frozenset(key[:3] for key in _references())


@cache
def _references() -> dict[tuple[str, int, int, str, str], tuple[Reference, ...]]:
    references: dict[tuple[str, int, int, str, str], list[Reference]] = {}
    text = files("metabench.report").joinpath("references.csv").read_text(encoding="utf-8")
    for line in csv.DictReader(text.splitlines()):
        key = (line["dataset"], int(line["ways"]), int(line["shots"]), line["algorithm"], line["network"])
        half = float(line["ci95_pct"]) / 100 if line["ci95_pct"] else None
        reference = Reference(float(line["accuracy_pct"]) / 100, half, line["kind"], line["source"])
        references.setdefault(key, []).append(reference)
    return {key: tuple(sorted(listed, key=lambda r: r.kind != "paper")) for key, listed in references.items()}
