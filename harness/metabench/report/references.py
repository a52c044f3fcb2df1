"""Published accuracies to set beside measured ones, each with its source (references.csv).

A result agrees with a reference where they differ by at most the larger of 2 points and the interval
that the reference reports: independent reproductions of one method differ by 1 to 3 points.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

TOLERANCE = 0.02

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


@dataclass(frozen=True)
class Reference:
    """A published accuracy, as a share, with its interval if reported; kind: paper or reproduction."""

    accuracy: float
    half_width: float | None
    kind: str
    source: str

    @property
    def tolerance(self) -> float:
        """How far a result may be from it and still agree."""
        return max(TOLERANCE, self.half_width or 0.0)

    def agrees(self, accuracy: float) -> bool:
        """Whether an accuracy (a share) lies within the tolerance."""
        return abs(accuracy - self.accuracy) <= self.tolerance + 1e-9

    def __str__(self) -> str:
        half = f" ± {self.half_width * 100:.1f}" if self.half_width else ""
        return f"{self.accuracy * 100:.1f}{half} % ({self.kind}: {self.source})"


def published(row: Mapping[str, Any]) -> tuple[Reference, ...]:
    """The references of a row's data set, protocol, algorithm and network; papers first.

    Only trained cells have one, whose data set and network have the settings that the figures were measured
    with. First-order variants have names of their own (`fomaml`). The library learn2learn's own
    algorithms (`l2l-…`) are measured against the same papers.
    """
    task = row["dataset_name"], int(row["ways"]), int(row["shots"])
    if row["metric"] != "accuracy" or not row["steps"] or not row["train"] or task not in _tasks():
        return ()
    data = json.loads(row["dataset_settings"])
    if not _as_meant(data, DATA.get(row["dataset_name"], {})):
        return ()
    names = _algorithm(row["algorithm"], json.loads(row["algorithm_settings"]))
    network = _network(row["network_name"], json.loads(row["network_settings"]))
    return _known().get((*task, names, network), ())


def _algorithm(name: str, settings: Mapping[str, Any]) -> str:
    name = name.removeprefix("l2l-")
    return f"fo{name}" if settings.get("first_order") else name


def _network(name: str, settings: Mapping[str, Any]) -> str:
    """The network's name in references.csv, empty where its settings are not those of any."""
    for known, component, meant in NETWORKS:
        if component == name and _as_meant(settings, meant):
            return known
    return ""


def _as_meant(settings: Mapping[str, Any], meant: Mapping[str, Any]) -> bool:
    return all(settings.get(name, value) == value for name, value in meant.items())


@cache
def _tasks() -> frozenset[tuple[str, int, int]]:
    """The data sets, ways and shots of which anything is known."""
    return frozenset(key[:3] for key in _known())


@cache
def _known() -> dict[tuple[str, int, int, str, str], tuple[Reference, ...]]:
    found: dict[tuple[str, int, int, str, str], list[Reference]] = {}
    text = files("metabench.report").joinpath("references.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        key = (row["dataset"], int(row["ways"]), int(row["shots"]), row["algorithm"], row["network"])
        half = float(row["ci95_pct"]) / 100 if row["ci95_pct"] else None
        one = Reference(float(row["accuracy_pct"]) / 100, half, row["kind"], row["source"])
        found.setdefault(key, []).append(one)
    return {key: tuple(sorted(each, key=lambda r: r.kind != "paper")) for key, each in found.items()}
