"""Suites: versioned TOML files, read into cells; every mistake in one is reported before anything runs.

name = "tiny"
version = 1

[defaults]                      # merged under every [[cells]] entry
test = {ways = 5, shots = 1, queries = 5}

[[cells]]
algorithm = {name = "maml", steps = 1}
network = "conv4"
dataset = "glyphs"

[cells.sweep]                   # every combination becomes a cell
"algorithm.first_order" = [true, false]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metabench.errors import RequestError, SuiteError, UnknownComponent, did_you_mean
from metabench.folders import file_digest
from metabench.plugins import Plugin, PluginProblem, Registry
from metabench.records.cell import Cell, Spec, suite_folder
from metabench.suite.bounds import read_suite_file, require_distinct_ids, require_few_cells
from metabench.suite.reader import Reader


@dataclass(frozen=True)
class Suite:
    """A suite file, checked, and its cells.

    minutes: how long the whole suite takes by its author's estimate, None where the file has none;
    earlier_texts: the SHA-256 of earlier files of this version which asked for the same cells; weights: the
    files that cells start from, by their SHA-256; text_digest: the SHA-256 of the file.
    """

    name: str
    version: int
    title: str
    path: Path
    cells: tuple[Cell, ...]
    description: str = ""
    minutes: float | None = None
    earlier_texts: tuple[str, ...] = ()
    weights: Mapping[str, Path] = field(default_factory=dict)
    text_digest: str = ""

    @property
    def folder(self) -> str:
        """The name of the folder of its results: `quick-v1`."""
        return suite_folder(self.name, self.version)


def read(
    registry: Registry,
    name: str,
    seeds: Sequence[int] | None = None,
    backend: Spec | Mapping[str, Any] | None = None,
    trials: int | None = None,
) -> Suite:
    """Return the suite of this name or path; the others replace what the file says (trials: of searches).

    Raises SuiteError with every mistake of the file, of `seeds` and of `backend` at once.
    """
    path = find(registry, name)
    document = read_suite_file(path)
    require_few_cells(path, document, seeds)
    reader = Reader(registry, path)
    cells = reader.cells(document, reader.override(seeds, backend, trials))
    if reader.mistakes.listed:
        raise SuiteError(list(reader.mistakes.listed))
    require_distinct_ids(path, cells)
    title, description = (str(document.get(key, "")) for key in ("title", "description"))
    name, version = document["name"], document["version"]
    earlier = tuple(document.get("earlier_texts", ()))
    return Suite(
        name, version, title, path, cells, description, document.get("minutes"), earlier,
        reader.parts.weights, file_digest(path),
    )  # fmt: skip


def find(registry: Registry, name: str) -> Path:
    """Return the file of a suite: a path, or the name of a suite that a plugin provides."""
    if name.endswith(".toml") or "/" in name or "\\" in name:
        if not Path(name).is_file():
            raise RequestError(f"no suite file {name!r}; `metabench list suites` shows those installed")
        return Path(name)
    suites = installed_suites(registry)
    if name not in suites:
        if Path(name).exists():
            raise RequestError(f"a suite must be a file whose name ends in .toml, got {name!r}")
        known = did_you_mean(name, suites)
        raise UnknownComponent(f"no suite is called {name!r}; {known}, or give a path to a file")
    return suites[name].path


@dataclass(frozen=True)
class SuiteFile:
    """The file of a suite, and the plugin that provides it."""

    plugin: Plugin
    path: Path


def installed_suites(registry: Registry) -> dict[str, SuiteFile]:
    """Return every suite that plugins provide, by its name (that of the file).

    Where two have one name, the first is used, our own before an outsider's, and the registry has a problem.
    """
    suites: dict[str, SuiteFile] = {}
    for plugin, folder in registry.suite_folders():
        for path in sorted(folder.glob("*.toml")):
            if path.stem in suites:
                what = f"suite {path.stem!r} is already provided by {suites[path.stem].plugin}, which is used"
                remedy = f"Rename it, or run it by its path, {path}."
                registry.report(PluginProblem(plugin, what, remedy))
            else:
                suites[path.stem] = SuiteFile(plugin, path)
    return suites
