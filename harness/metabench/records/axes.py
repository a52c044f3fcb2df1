"""Axes of cells and of results: what is chosen by `axis=value,value`, and what axes say in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence

from metabench.errors import RequestError, did_you_mean
from metabench.records.cell import Cell
from metabench.records.protocol import BATCHES
from metabench.records.row import Series

AXES = (
    "suite", "version", "group", "method", "algorithm", "label", "network", "dataset", "ways", "shots",
    "queries", "train", "steps", "step_tasks", "backend", "ranks", "threads", "seed", "metric", "status",
    "machine", "date", "plugin",
)  # fmt: skip
"""The fields of a row that results can be filtered, sorted and pivoted by."""

Values = Callable[[str], Sequence[str | None]]
"""The value that each of several items has on an axis, None where an item lacks the axis."""


def series_of(group: str) -> Series:
    """Return what series the cells of a suite's group belong to.

    Groups whose name begins with "scaling" are series over hardware, which have tables of their own: those
    with "weak" in their name keep the tasks per rank, the others the meta-batch. Groups that begin with
    "throughput" are series over sizes, in which nothing is learned. Neither has a place in a ranking.
    """
    if group.startswith("scaling"):
        return "weak-scaling" if "weak" in group else "scaling"
    return "throughput" if group.startswith("throughput") else ""


def unit_of_work(train: str) -> str:
    """Return what the tasks of a training step are; train: the axis of that name."""
    return "examples" if train.startswith(BATCHES) else "tasks"


def select(cells: Sequence[Cell], only: Sequence[str], skip: Sequence[str]) -> list[Cell]:
    """Return the cells that match every axis of `only` and none of `skip`; each reads `axis=value,value`.

    An axis is one of a cell's, such as `dataset`, or a component's setting: `algorithm.first_order=true`.
    Raises RequestError where an axis does not exist or no cell has one of its values.
    """
    if not only and not skip:
        return list(cells)
    items = [_axes(cell) for cell in cells]
    axes = {axis for item in items for axis in item}
    kept = matching(len(cells), axes, lambda axis: [item.get(axis) for item in items], only, skip, "cell")
    return [cells[i] for i in kept]


def matching(
    count: int,
    axes: Collection[str],
    values: Values,
    only: Sequence[str],
    skip: Sequence[str],
    noun: str,
    plain: Values | None = None,
) -> list[int]:
    """Return the positions of the items that match every axis of `only` and none of `skip`.

    count: of the items; noun: what they are called in messages; plain: values that stand for all that share
    them, where no item has just that value. Values of an axis that is given twice are joined.

    Raises RequestError for an axis that does not exist, or a value that no item has.
    """

    def condition(text: str) -> tuple[str, set[str]]:
        axis, equals, right = text.partition("=")
        if not equals or axis not in axes:
            raise RequestError(f"{text!r} is not axis=value; {did_you_mean(axis, axes)}")
        return axis, _asked(axis, right, values, noun, plain)

    wanted: dict[str, set[str]] = {}
    for axis, asked in map(condition, only):
        wanted.setdefault(axis, set()).update(asked)
    kept = list(range(count))
    for axis, asked in wanted.items():
        column = values(axis)
        kept = [i for i in kept if column[i] in asked]
    for axis, asked in map(condition, skip):
        column = values(axis)
        kept = [i for i in kept if column[i] not in asked]
    return kept


def _asked(axis: str, text: str, values: Values, noun: str, plain: Values | None) -> set[str]:
    """Return the values of `axis` that `text` asks for; raises RequestError for one that no item has."""
    own = values(axis)
    present = {value for value in own if value is not None}
    members: dict[str, set[str]] = {}
    if plain is not None:
        for name, value in zip(plain(axis), own, strict=True):
            if name is not None and value is not None:
                members.setdefault(name, set()).add(value)
    asked: set[str] = set()
    for value in values_of(text, present):
        if value not in present and value not in members:
            raise RequestError(f"no {noun} has {axis} {value!r}; {did_you_mean(value, present)}")
        asked |= {value} if value in present else members[value]
    return asked


def values_of(text: str, present: Collection[str]) -> list[str]:
    """Return the values of `value,value`; a value that is `present` may hold commas itself.

    >>> values_of("maml (steps=1, rate=2),reptile", {"maml (steps=1, rate=2)", "reptile"})
    ['maml (steps=1, rate=2)', 'reptile']
    """
    words, values = text.split(","), []
    while words:
        ends = range(len(words), 1, -1)
        end = next((end for end in ends if ",".join(words[:end]) in present), 1)
        values.append(",".join(words[:end]))
        words = words[end:]
    return values


def _axes(cell: Cell) -> dict[str, str]:
    """Return the axes of a cell and every setting of its components."""
    return {
        "algorithm": cell.algorithm.name,
        "network": cell.network.name if cell.network else "none",
        "dataset": cell.dataset.name,
        "test_dataset": cell.tested.name,
        "backend": cell.backend.name,
        "ranks": str(cell.ranks),
        "threads": str(cell.backend.settings.get("threads", "none")),
        **cell.test.spans,
        "train": str(cell.train or "none"),
        "steps": str(cell.budget.steps),
        "step_tasks": str(cell.budget.tasks),
        "metric": cell.evaluation.metric,
        "seed": str(cell.seed),
        "group": cell.group,
        "label": cell.label,
        "id": cell.id,
    } | _settings(cell)


def _settings(cell: Cell) -> dict[str, str]:
    """Return every setting of the cell's components, as `algorithm.first_order` → `true`."""
    return {
        f"{kind}.{name}": value if isinstance(value, str) else json.dumps(value)
        for kind, spec in cell.components().items()
        for name, value in spec.settings.items()
    }
