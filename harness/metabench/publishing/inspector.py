"""Answers questions about the installed plugins, in a process of its own: their classes load torch.

python -m metabench.publishing.inspector     reads a request a line of standard input, writes an answer a line

A request is a JSON object with one member, the name of a question and what it is about; an answer is
{"answer": …} or {"problem": "why there is none"}. `metabench.publishing.installation` asks and remembers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metabench.errors import MetabenchError
from metabench.folders import cache_folder, file_digest
from metabench.plugins import Registry, load
from metabench.publishing.checks import without_connections
from metabench.publishing.parameters import count_parameters
from metabench.publishing.rescore import deep_faults
from metabench.publishing.task_draws import TaskSet, draw_tasks
from metabench.records.cell import COMPONENTS, Cell, Spec, component_kind
from metabench.records.code import CACHE_NAME, CodeReader
from metabench.suite.bounds import read_suite_file
from metabench.suite.suite import installed_suites, read


def components(registry: Registry, about: Any) -> dict[str, dict[str, Any]]:
    """For each kind of component and each name: who provides it, its code, and what a metric says of itself.

    The harness is there too, as if it were a component.
    """
    reader = CodeReader(cache_folder() / CACHE_NAME)
    listed: dict[str, dict[str, dict[str, Any]]] = {
        kind: {
            name: {
                "source": entry.source,
                "code": reader.component(entry.cls.__module__, entry.plugin.distribution),
                **(_metric(entry.cls) if kind == "metric" else {}),
                **({"deterministic": entry.cls.deterministic} if kind == "algorithm" else {}),
            }
            for name, entry in registry.entries(kind).items()
        }
        for kind in sorted({*map(component_kind, COMPONENTS), "metric"})
    }
    listed["harness"] = {"metabench": {"code": reader.harness}}
    reader.write()
    return listed


def _metric(metric: Any) -> dict[str, Any]:
    return {
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "bounds": list(metric.bounds),
        "pooled": metric.pooled,
    }


def suite(registry: Registry, folder: str) -> dict[str, Any] | None:
    """The suite of a folder (`quick-v1`); None where that version is not installed or cannot be read."""
    name = folder.rpartition("-v")[0]
    if name not in installed_suites(registry):
        return None
    try:
        installed = read(registry, name)
    except MetabenchError:  # its data set or plugin is not here
        return None
    if installed.folder != folder:
        return None
    return {
        "cells": [cell.to_json() for cell in installed.cells],
        "digest": file_digest(installed.path),
        "earlier": list(installed.earlier_texts),
    }


def suite_version(registry: Registry, name: str) -> int | None:
    """The version of the installed suite of this name; None where there is none, or its file is broken."""
    file = installed_suites(registry).get(name)
    try:
        version = None if file is None else read_suite_file(file.path).get("version")
    except MetabenchError:
        return None
    return version if isinstance(version, int) else None


def completed(registry: Registry, specs: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Components (kind, name, settings) as a suite would name them here: all settings, and the defaults."""
    return [_completed(registry, kind, name, settings) for kind, name, settings in specs]


def _completed(registry: Registry, kind: str, name: str, settings: Mapping[str, Any]) -> list[Any]:
    try:
        own = without_connections(settings) if kind == "backend" else settings
        spec = Spec.of(registry.find(component_kind(kind), name).cls, own)
    except MetabenchError:  # not installed here, or a setting is gone: compared as it is stored
        return [settings, None]
    return [spec.settings, list(spec.defaults)]


def drawn(registry: Registry, documents: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """The digests of task sets."""
    return [list(answer) for answer in draw_tasks(registry, map(TaskSet.from_json, documents))]


def parameters(registry: Registry, wanted: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The number of parameters of each cell's learner, and why it could not be counted.

    wanted: the cell, and the modules that it may import by a path.
    """
    return [_parameters(registry, Cell.from_json(cell), allowed) for cell, allowed in wanted]


def _parameters(registry: Registry, cell: Cell, allow_import: Sequence[str]) -> list[Any]:
    try:
        return [count_parameters(registry, cell, allow_import), ""]
    except Exception as error:  # of a plugin; the other learners are built all the same
        return [None, f"{type(error).__name__}: {error}"[:300]]


def deep(registry: Registry, files: Sequence[str]) -> list[list[str]]:
    """What of each result's scores does not follow from the predictions beside it."""
    return [_deep(registry, Path(file)) for file in files]


def _deep(registry: Registry, path: Path) -> list[str]:
    try:
        return list(deep_faults(registry, path))
    except Exception as error:  # a foreign file, or a plugin that is not here
        return [str(error).removeprefix(f"{path}: ")[:300]]


QUESTIONS: Mapping[str, Callable[[Registry, Any], Any]] = {
    "components": components, "suite": suite, "suite_version": suite_version, "completed": completed,
    "drawn": drawn, "parameters": parameters, "deep": deep,
}  # fmt: skip


def main() -> None:
    """Answers until standard input ends; what plugins print goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    registry = load()
    for line in sys.stdin:
        ((question, about),) = json.loads(line).items()
        try:
            answer = {"answer": QUESTIONS[question](registry, about)}
        except Exception as error:  # of a plugin
            answer = {"problem": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
