"""Published accuracies, each with its conditions and its source (references.csv).

A result is set beside a figure only where it was measured under the figure's conditions: the data set with
its settings, the task, the algorithm, the network with its read-out, augmentation, the ways of training,
whose statistics batch norm takes in the test, and the inner steps of the test. A condition that the file
leaves empty is not known, and is not compared.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from metabench.records.row import Row
from metabench.records.summary import Reference

DATA: Mapping[str, Mapping[str, Any]] = {
    "omniglot": {"split": "vinyals", "rotations": True, "size": 28},
    "omniglot → lake": {"split": "lake"},
    "lake": {"size": 105},
}
"""The settings of a data set under which the published figures were measured."""

POOLED = {"downsample": "pool", "readout": "flatten", "halvings": 4}
STRIDED = {"downsample": "stride", "readout": "mean", "halvings": 4}
NETWORKS: Sequence[tuple[str, str, Mapping[str, Any]]] = (
    ("conv4", "conv4", {"width": 64}),
    ("conv4-stride-mean", "conv4", {"width": 64, **STRIDED}),
    ("conv4-stride-flatten", "conv4", {"width": 64, **STRIDED, "readout": "flatten"}),
    ("conv4-maps", "conv4", {"width": 64, **POOLED, "halvings": 2}),
    ("conv4-pool-flatten", "conv4", {"width": 64, **POOLED}),
    ("conv4-32-pool-flatten", "conv4", {"width": 32, **POOLED}),
    ("mlp", "mlp", {"hidden": [256, 128, 64, 64], "batch_norm": True}),
    ("resnet12", "resnet12", {"width": 64}),
    ("conv4", "l2l-omniglot-cnn", {"width": 64, "layers": 4}),
    ("conv4-stride-mean", "l2l-omniglot-cnn", {"width": 64, "layers": 4}),
    ("conv4", "l2l-cnn4", {"width": 64}),
    ("conv4-pool-flatten", "l2l-cnn4", {"width": 64}),
    ("conv4-32-pool-flatten", "l2l-cnn4", {"width": 32}),
    ("mlp", "l2l-omniglot-fc", {"hidden": [256, 128, 64, 64]}),
    ("resnet12", "l2l-resnet12", {"avg_pool": True}),
)
"""What the networks of references.csv are here: its name for it, the component, and the settings."""

AUGMENTATION = ("flip", "shift", "rotation", "jitter", "resized_crop")
"""The settings of data sets that change training images, where they are not 0 or off."""

TRAIN_WAYS = re.compile(r"(\d+)-way")


@dataclass(frozen=True)
class Published:
    """A figure with its conditions; an empty text or 0 is a condition that is not known."""

    reference: Reference
    network: str
    augmented: str
    train_ways: int
    statistics: str
    test_steps: int
    tasks: int

    def differences(self, row: Row) -> Iterator[str]:
        """Yield what differs from the conditions in a row, each as "ours, not theirs"."""
        settings = json.loads(row["algorithm_settings"])
        networks = _networks(row["network_name"], json.loads(row["network_settings"]))
        if self.network and self.network not in networks:
            yield f"network {networks[-1] if networks else row['network_name']}, not {self.network}"
        if self.augmented and self.augmented != _augmented(json.loads(row["dataset_settings"])):
            yield "augmented" if self.augmented == "no" else "not augmented"
        ways = TRAIN_WAYS.match(row["train"])
        if self.train_ways and ways and int(ways[1]) != self.train_ways:
            yield f"trained {ways[1]}-way, not {self.train_ways}-way"
        statistics = settings.get("statistics", self.statistics)
        if self.statistics and statistics != self.statistics:
            yield f"test statistics {statistics}, not {self.statistics}"
        steps = _test_steps(settings)
        if self.test_steps and steps is not None and steps != self.test_steps:
            yield f"{steps} inner steps in the test, not {self.test_steps}"


def published(row: Row) -> tuple[Reference, ...]:
    """Return the references whose conditions a row meets; papers first.

    Only what is trained, or needs no training, has one. First-order variants have names of their own
    (`fomaml`), and Relation Network over vectors is another method than the published one. The library
    learn2learn's own algorithms (`l2l-…`) are measured against the same papers.
    """
    return tuple(figure.reference for figure in _figures(row) if not list(figure.differences(row)))


def unlike(row: Row) -> str:
    """Return the nearest figure of a row that meets the conditions of none, and what differs; else ""."""
    figures = _figures(row)
    differences = [list(figure.differences(row)) for figure in figures]
    if not figures or not all(differences):
        return ""
    nearest = min(range(len(figures)), key=lambda place: len(differences[place]))
    reference = figures[nearest].reference
    source = reference.source.partition(" (")[0]
    return f"unlike {reference.accuracy * 100:.1f} % ({source}): {'; '.join(differences[nearest])}"


def _figures(row: Row) -> Sequence[Published]:
    """Return the figures of a row's data set, task and algorithm, whatever their other conditions."""
    task = row["dataset_name"], row["ways"], row["shots"]
    if row["metric"] != "accuracy" or (row["train"] and not row["steps"]) or task not in _tasks():
        return ()
    data = json.loads(row["dataset_settings"])
    if not _as_meant(data, DATA.get(row["dataset_name"], {})):
        return ()
    name = _algorithm(row["algorithm"], json.loads(row["algorithm_settings"]))
    return _published().get((*task, name), ())


def _algorithm(name: str, settings: Mapping[str, Any]) -> str:
    name = name.removeprefix("l2l-")
    if name == "relationnet" and settings.get("module") != "convolution":
        return "relationnet over vectors"
    return f"fo{name}" if settings.get("first_order") else name


def _networks(name: str, settings: Mapping[str, Any]) -> list[str]:
    """Return the names that references.csv has for a network, the most exact one last."""
    return [
        published_name
        for published_name, component, meant in NETWORKS
        if component == name and _as_meant(settings, meant)
    ]


def _augmented(settings: Mapping[str, Any]) -> str:
    return "yes" if any(settings.get(name) for name in AUGMENTATION) else "no"


def _test_steps(settings: Mapping[str, Any]) -> int | None:
    """Return the inner steps of the test, None where an algorithm has none."""
    steps = settings.get("test_steps")
    return settings.get("steps") if steps is None else steps


def _as_meant(settings: Mapping[str, Any], meant: Mapping[str, Any]) -> bool:
    return all(settings.get(name, value) == value for name, value in meant.items())


@cache
def _tasks() -> frozenset[tuple[str, int, int]]:
    """Return the data sets, ways and shots of which anything is published."""
    return frozenset(key[:3] for key in _published())


@cache
def _published() -> dict[tuple[str, int, int, str], tuple[Published, ...]]:
    figures: dict[tuple[str, int, int, str], list[Published]] = {}
    text = files("metabench.report").joinpath("references.csv").read_text(encoding="utf-8")
    for line in csv.DictReader(text.splitlines()):
        key = (line["dataset"], int(line["ways"]), int(line["shots"]), line["algorithm"])
        figures.setdefault(key, []).append(_figure(line))
    return {
        key: tuple(sorted(listed, key=lambda figure: figure.reference.kind != "paper"))
        for key, listed in figures.items()
    }


def _figure(line: Mapping[str, str]) -> Published:
    def count(name: str) -> int:
        return int(line[name] or 0)

    half = float(line["ci95_pct"]) / 100 if line["ci95_pct"] else None
    reference = Reference(
        float(line["accuracy_pct"]) / 100, half, line["kind"], line["source"], line["checked"], count("steps")
    )
    return Published(
        reference, line["network"], line["augmented"], count("train_ways"), line["statistics"],
        count("test_steps"), count("tasks"),
    )  # fmt: skip
