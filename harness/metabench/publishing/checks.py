"""Checks of one result file, from the file and the plugins that are installed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from metabench.publishing.findings import Faults, Finding
from metabench.publishing.installation import Installation
from metabench.publishing.score_checks import DIGEST, further_faults, metric_facts, score_faults
from metabench.publishing.seal import seal_holds
from metabench.publishing.training_checks import beyond, times_of, training_faults
from metabench.records.carried import LOCAL
from metabench.records.cell import COMPONENTS, Cell, Status
from metabench.records.identity import RULE
from metabench.records.metric_scores import component_slots
from metabench.records.result import SCHEMA, Result
from metabench.records.schema_check import schema_violations
from metabench.records.upgrade import upgrade
from metabench.results.cache import RESERVED

NEEDED = ("machine", "processor", "cores", "system", "python", "packages", "suite_digest")
"""What every result says of its environment."""
MEASURED = ("before", "after")
"""What an ok result says besides: the machine's condition before and after the cell."""
FIELDS = frozenset({*Result.__dataclass_fields__, "digest", "mean", "seal"})
ELSEWHERE: Mapping[str, tuple[Any, ...]] = {
    "nnodes": (None, 0, 1), "rdzv_endpoint": (None, ""), "rdzv_id": (None, ""),
}  # fmt: skip
"""Settings with which backends once connected to other machines, and the values with which they did not."""


def check_result(
    path: Path, document: Mapping[str, Any], result: Result, installation: Installation
) -> list[Finding]:
    """What is wrong with the result in a file, and what a reader must know of it."""
    findings = [
        Finding(str(path), check, what) for check, what in _faults(path, document, result, installation)
    ]
    findings += [
        Finding(
            str(path),
            "plugins",
            f"its {slot} is of a script or notebook: it cannot be published",
            serious=False,
        )
        for slot, source in result.cell.plugins.items()
        if source.startswith(LOCAL)
    ]
    status, reason = result.status, result.reason or "no reason"
    if status is Status.SKIPPED:
        findings.append(Finding(str(path), "outcome", f"will be shown as skipped: {reason}", serious=False))
    elif status is not Status.OK and status not in result.cell.expect:
        findings.append(Finding(str(path), "outcome", f"{status}: {reason}", serious=not status.honest))
    return findings


def _faults(path: Path, document: Mapping[str, Any], result: Result, installation: Installation) -> Faults:
    yield from _document_faults(document)
    yield from _identity_faults(path, document, result)
    yield from _time_faults(result)
    yield from _plugin_faults(result.cell, installation)
    yield from _default_faults(result.cell, installation)
    for name in connections(result.cell):
        yield "connection", f"the backend's setting {name!r} would connect to another machine"
    if result.status is Status.SKIPPED:
        return
    yield from _environment_faults(result)
    metric = metric_facts(installation, result.cell, result.scores)
    yield from training_faults(result, metric)
    if result.status is not Status.OK:
        return
    if result.exit_code not in (None, 0) or result.signal is not None:
        yield "outcome", f"ok, but the worker ended with {result.signal or result.exit_code}"
    if result.scores is None:
        yield "scores", "an ok result without scores"
    else:
        yield from score_faults(document, result.cell, result.scores, metric)
        yield from further_faults(result.cell, result.scores, installation)
    yield from _clock_faults(result)
    yield from _figure_faults(result)


def _document_faults(document: Mapping[str, Any]) -> Faults:
    for violation in schema_violations(upgrade(document, SCHEMA)):
        yield "schema", violation
    for name in sorted(set(document) - FIELDS):
        yield "schema", f"has a field {name[:60]!r} that no result has"


def _identity_faults(path: Path, document: Mapping[str, Any], result: Result) -> Faults:
    cell = result.cell
    if document["schema"] == SCHEMA and cell.digest_rule != RULE:
        yield "cell digest", f"by rule {cell.digest_rule}, results of schema {SCHEMA} have rule {RULE}"
    if document.get("digest") != cell.digest:
        yield "cell digest", "does not follow from the cell's settings: one of them was edited"
    if path.name != f"{cell.id}.json":
        yield "cell digest", f"the file should be called {cell.id}.json"
    if not seal_holds(document):
        yield "seal", "the file was changed after metabench wrote it"
    if not DIGEST.fullmatch(str(result.environment.get("suite_digest") or "0" * 64)):
        yield "suite digest", "is no SHA-256"


def _time_faults(result: Result) -> Faults:
    try:
        started = datetime.fromisoformat(result.started)
        started = started if started.tzinfo else started.replace(tzinfo=UTC)
        ended = started + timedelta(seconds=result.wall_seconds)
    except (ValueError, OverflowError):
        yield "clock", f"started at {result.started or 'no time'!r}, and took {result.wall_seconds:.3g} s"
        return
    if ended > datetime.now(UTC) + timedelta(days=1):
        yield "clock", f"started at {result.started} and took {result.wall_seconds:.3g} s: not yet over"


def _plugin_faults(cell: Cell, installation: Installation) -> Faults:
    """Components made by another distribution than the one that provides them here."""
    for slot, kind, spec in component_slots(cell):
        source, installed = cell.plugins.get(slot), installation.component(kind, spec.name)
        if source is None or installed is None:
            continue
        here = installed["source"]
        if source.rpartition(" ")[0] != here.rpartition(" ")[0]:
            yield "plugins", f"{kind} {spec.name!r} is from {source!r}, here it is provided by {here!r}"


def _default_faults(cell: Cell, installation: Installation) -> Faults:
    """Settings that are no default though the file says so, or are one though it does not.

    Of a component of another version than is installed here, nothing is said: its defaults may be others.
    """
    if cell.digest_rule != RULE:
        return  # its digest counts every setting
    parts = [(kind, spec) for kind, spec in cell.components().items() if kind in COMPONENTS]
    for (kind, spec), here in zip(parts, installation.completed(parts), strict=True):
        installed = installation.component(kind, spec.name)
        if installed is None or cell.plugins.get(kind) != installed["source"]:
            continue
        for name in sorted({*spec.defaults} ^ ({*here.defaults} & spec.settings.keys())):
            does = "is no default, as its cell says" if name in spec.defaults else "is a default, unmarked"
            yield "cell digest", f"setting {name!r} of {kind} {spec.name!r} {does}"


def without_connections(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A backend's settings without those of `ELSEWHERE` that connect nothing: older results have them."""
    return {
        name: value
        for name, value in settings.items()
        if name not in ELSEWHERE or value not in ELSEWHERE[name]
    }


def connections(cell: Cell) -> list[str]:
    """The settings of a cell's backend that would make this machine talk to another."""
    settings = cell.backend.settings
    return [name for name, local in ELSEWHERE.items() if settings.get(name) not in local]


def _environment_faults(result: Result) -> Faults:
    environment, backend = result.environment, result.cell.backend
    needed = (*NEEDED, *MEASURED) if result.status is Status.OK else NEEDED
    missing = [name for name in needed if not environment.get(name)]
    if missing:
        yield "environment", f"does not say {', '.join(missing)}"
    machine = environment.get("machine")
    if machine and (not FOLDER_NAME.fullmatch(str(machine)) or machine in RESERVED_MACHINES):
        yield "environment", f"the machine is called {machine!r:.60}, which no folder of results can be"
    asked = {"backend": backend.name, **backend.settings}
    if asked.get("precision") in ("float32", "float64"):
        asked["dtype"] = asked["precision"]
    for name, value in asked.items():
        if name in environment and value and environment[name] != value:
            yield "environment", f"{name} is {environment[name]!r:.40}, the cell asks for {value!r:.40}"


def _clock_faults(result: Result) -> Faults:
    training, scores = result.training, result.scores
    if any(not math.isfinite(seconds) or seconds < 0 for seconds in times_of(result)):
        yield "clock", "a time is negative or no finite number"
        return
    if scores is not None:
        adapted = sum(scores.adapt_seconds) / result.cell.ranks
        if beyond(adapted, scores.seconds):
            yield "clock", f"adaptation took {adapted:.3g} s of an evaluation of {scores.seconds:.3g} s"
    # "start" is the difference of two readings of the wall clock, which may be set in between
    inside = sum(seconds for name, seconds in result.setup.items() if name != "start")
    inside += scores.seconds if scores else 0.0
    inside += training.seconds + training.validation_seconds if training else 0.0
    if beyond(inside, result.wall_seconds):
        yield "clock", f"its parts take {inside:.3g} s, the whole cell {result.wall_seconds:.3g} s"


def _figure_faults(result: Result) -> Faults:
    if any(not math.isfinite(figure) or figure < 0 for figure in _figures(result)):
        yield "figures", "memory, energy or a cost is negative or no finite number"
    if result.parameters < 0 or (result.training and result.training.steps and not result.parameters):
        yield "figures", f"{result.parameters} parameters"


def _figures(result: Result) -> Iterator[float]:
    training = result.training
    yield from (*result.memory.values(), *result.energy.values(), *result.cost.values())
    if training is not None:
        yield from (*training.energy.values(), *training.target_energy.values())


FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What the folder of a suite or a machine may be called."""

RESERVED_MACHINES = RESERVED - {"local"}
"""What the folder of a machine may not be called: readers pass such folders over."""
