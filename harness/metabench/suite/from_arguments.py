"""A run without a file: components, protocol and budget from the command line or Python become a suite.

    Arguments(algorithms=["maml:inner_rate=0.4", "protonet"], networks=["conv4"], datasets=["glyphs"],
              tests=["5w1s"], budget={"steps": 500})

Its cells are those of the suite file that `suite_document` writes: every algorithm with every network, data
set and protocol. Without a file to save it in, the suite is `runs`, version 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metabench.errors import RequestError, SuiteError
from metabench.plugins import Registry
from metabench.records.cell import Cell, Spec
from metabench.records.files import write_text
from metabench.records.identity import digest_of
from metabench.suite.arguments import RUNS, Arguments
from metabench.suite.bounds import require_distinct_ids, require_few_cells
from metabench.suite.callables import callable_entry
from metabench.suite.objects import by_name
from metabench.suite.parts import Parts
from metabench.suite.reader import Reader
from metabench.suite.suite import Suite, read
from metabench.suite.toml_text import suite_text
from metabench.suite.written import (
    backend_table,
    by_option,
    component_table,
    component_tables,
    protocol_table,
)

RUNS_DIGEST = digest_of([RUNS, 1])
"""What results of such runs have in the place of the SHA-256 of a suite file."""
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.toml")


def read_arguments(
    registry: Registry,
    arguments: Arguments,
    seeds: Sequence[int] | None = None,
    backend: Spec | Mapping[str, Any] | None = None,
) -> Suite:
    """Return the suite that these arguments ask for; raises SuiteError with every mistake in them at once.

    Where they name a file, the suite is written to it first, and is that of the file.
    """
    arguments, local = by_name(registry, arguments)
    if local and arguments.save is not None:
        names = ", ".join(local)
        raise RequestError(f"--save-suite: no package provides {names}, which a file cannot name then")
    document = suite_document(registry, arguments, seeds, backend)
    path = arguments.path
    require_few_cells(path, document, None)
    reader = Reader(registry, path)
    for option, kind, text, table in _components(arguments, document):
        reader.parts.component(f"--{option} {text}", kind, table, Parts())
    if reader.mistakes.listed:
        raise SuiteError(list(reader.mistakes.listed))
    cells = reader.cells(document, {})
    mistakes = [by_option(text, path) for text in reader.mistakes.listed] or list(
        _missing_steps(arguments, cells)
    )
    if mistakes:
        raise SuiteError(mistakes)
    require_distinct_ids(path, cells)
    if arguments.save is not None:
        _save(arguments.save, document)
        return read(registry, str(arguments.save))
    title = str(document["title"])
    return Suite(RUNS, 1, title, path, cells, weights=reader.parts.weights, text_digest=RUNS_DIGEST)


def suite_document(
    registry: Registry,
    arguments: Arguments,
    seeds: Sequence[int] | None = None,
    backend: Spec | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the table of the suite file that asks for the same cells.

    Raises RequestError for what is absent, and for what has no form that is known.
    """
    _require_whole(arguments)
    tested = arguments.test_dataset
    defaults: dict[str, Any] = {
        "seeds": list(seeds) if seeds is not None else [0],
        "budget": {**arguments.budget, **({} if arguments.steps is None else {"steps": arguments.steps})},
        "evaluation": dict(arguments.evaluation),
        "backend": backend_table(backend),
        "test_dataset": component_table(tested, arguments.path) if tested is not None else None,
    }
    return {
        "name": arguments.path.stem,
        "version": 1,
        "title": "Runs without a file" if arguments.save is None else "Saved by metabench run",
        "defaults": {key: value for key, value in defaults.items() if value},
        "cells": _entries(registry, arguments),
    }


def _entries(registry: Registry, arguments: Arguments) -> list[dict[str, Any]]:
    """Return the entries of the suite: one for each callable, then one for all algorithms."""
    path = arguments.path
    columns = {
        "dataset": component_tables(arguments.datasets, path),
        "test": [protocol_table("test", test) for test in arguments.tests],
    }
    entries = [{**entry, **_entry(columns)} for entry in _callables(registry, arguments)]
    if arguments.algorithms:
        algorithms = {"algorithm": component_tables(arguments.algorithms, path)}
        networks = {"network": component_tables(arguments.networks, path)} if arguments.networks else {}
        train = {} if arguments.train is None else {"train": protocol_table("train", arguments.train)}
        entries.append({**train, **_entry({**algorithms, **networks, **columns})})
    return entries


def _callables(registry: Registry, arguments: Arguments) -> list[dict[str, Any]]:
    """Return an entry for each callable; raises SuiteError with every mistake in them."""
    entries, mistakes = [], []
    for given in arguments.callables:
        try:
            entries.append(callable_entry(registry, given))
        except RequestError as error:
            mistakes.append(f"--with {given}: {error}")
    if mistakes:
        raise SuiteError(mistakes)
    return entries


def _require_whole(arguments: Arguments) -> None:
    """Raise RequestError with every argument that is absent, or has no effect."""
    mistakes = []
    if not arguments.algorithms and not arguments.callables:
        mistakes.append(
            "--algorithm is missing, or --with: `metabench list algorithms` shows those installed"
        )
    if not arguments.datasets:
        mistakes.append("--dataset is missing: `metabench list datasets` shows those installed")
    if not arguments.tests:
        mistakes.append("--test is missing: such as 5w1s, or 5w1s15q with the queries of each class")
    for name, given in (("network", arguments.networks), ("train", arguments.train)):
        if given and not arguments.algorithms:
            mistakes.append(f"--{name} has no effect without --algorithm")
    if arguments.steps is not None and "steps" in arguments.budget:
        mistakes.append("--steps and --budget steps=… must not both be given")
    save = arguments.save
    if save is not None and (not FILE_NAME.fullmatch(save.name) or save.stem == RUNS):
        rule = f"must end in NAME.toml, of letters, digits, - and _, other than {RUNS}.toml"
        mistakes.append(f"--save-suite {rule}, got {save.name!r}")
    if mistakes:
        raise SuiteError(mistakes)


def _missing_steps(arguments: Arguments, cells: Sequence[Cell]) -> Iterator[str]:
    """Yield the mistake of steps that nobody gave for cells that train: a suite would take 0."""
    trained = sorted({cell.algorithm.name for cell in cells if cell.train is not None})
    if trained and arguments.steps is None and "steps" not in arguments.budget:
        yield f"--steps is missing: it trains {', '.join(trained)}; 0 scores what is untrained"


def _entry(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return an entry of a suite: what has one value, and a sweep over what has several."""
    entry: dict[str, Any] = {key: values[0] for key, values in columns.items() if len(values) == 1}
    sweep = {key: list(values) for key, values in columns.items() if len(values) > 1}
    return {**entry, "sweep": sweep} if sweep else entry


def _components(arguments: Arguments, document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Yield every component that is named: its option, kind, text and table."""
    options = (
        ("algorithm", "algorithm", arguments.algorithms),
        ("network", "network", arguments.networks),
        ("dataset", "dataset", arguments.datasets),
        ("test-dataset", "test_dataset", [arguments.test_dataset] if arguments.test_dataset else []),
    )
    for option, kind, listed in options:
        for given in listed:
            table = component_table(given, arguments.path)
            yield option, kind, given if isinstance(given, str) else str(dict(given).get("name", "")), table
    backend = document["defaults"].get("backend")
    if backend is not None:
        yield "backend", "backend", str(backend["name"]), backend


def _save(path: Path, document: Mapping[str, Any]) -> None:
    """Write the suite; raises RequestError where another file is there, or TOML cannot say what was given."""
    try:
        text = suite_text(document)
    except TypeError as error:
        raise RequestError(f"--save-suite {path}: {error}") from error
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
        raise RequestError(f"--save-suite {path}: another file is there; remove it, or name another")
    if not path.parent.is_dir():
        raise RequestError(f"--save-suite {path}: there is no folder {path.parent}")
    write_text(path, text)
