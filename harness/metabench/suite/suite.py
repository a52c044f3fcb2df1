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

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metabench.errors import RequestError, SuiteError, UnknownComponent, did_you_mean
from metabench.plugins import Plugin, Problem, Registry
from metabench.records.cell import Cell, Spec, suite_folder
from metabench.suite.reader import Reader


@dataclass(frozen=True)
class Suite:
    """A suite file, checked, with the cells that it stands for.

    minutes: what its author says the whole suite takes, None where the file is silent.
    """

    name: str
    version: int
    title: str
    path: Path
    cells: tuple[Cell, ...]
    description: str = ""
    minutes: float | None = None

    @property
    def folder(self) -> str:
        """The name of the folder of its results: `quick-v1`."""
        return suite_folder(self.name, self.version)


def read(
    registry: Registry,
    name: str,
    seeds: Sequence[int] | None = None,
    backend: Spec | Mapping[str, Any] | None = None,
) -> Suite:
    """The suite of this name or path; `seeds` and `backend` replace what the file says.

    Raises SuiteError with every mistake of the file, of `seeds` and of `backend` at once.
    """
    path = find(registry, name)
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SuiteError([f"{path}: not a TOML file: {error}"]) from error
    except OSError as error:
        raise SuiteError([f"{path}: cannot be read: {error.strerror}"]) from error
    reader = Reader(registry, path)
    cells = reader.cells(told, reader.override(seeds, backend))
    if reader.mistakes:
        raise SuiteError(list(reader.mistakes))
    title, description = str(told.get("title", "")), str(told.get("description", ""))
    return Suite(told["name"], told["version"], title, path, cells, description, told.get("minutes"))


def find(registry: Registry, name: str) -> Path:
    """The file of a suite: a path, or the name of one that a plugin brings."""
    if name.endswith(".toml") or "/" in name or "\\" in name:
        if not Path(name).is_file():
            raise RequestError(f"no suite file {name!r}; `metabench list suites` shows those installed")
        return Path(name)
    found = installed(registry)
    if name not in found:
        raise UnknownComponent(
            f"no suite is called {name!r}; {did_you_mean(name, found)}, or give a path to a file"
        )
    return found[name]


def installed(registry: Registry) -> dict[str, Path]:
    """Every suite that plugins bring: name (of the file) → file."""
    return {name: path for name, (_, path) in brought(registry).items()}


def brought(registry: Registry) -> dict[str, tuple[Plugin, Path]]:
    """Every suite that plugins bring: name (of the file) → its plugin and file.

    Where two have one name, the first is used, our own before an outsider's, and the registry has a problem.
    """
    found: dict[str, tuple[Plugin, Path]] = {}
    for plugin, folder in registry.suite_folders():
        for path in sorted(folder.glob("*.toml")):
            if path.stem in found:
                other = found[path.stem][0]
                what = f"suite {path.stem!r} is already brought by {other}; the first one is used"
                registry.report(Problem(plugin, what, f"Rename it, or run it by its path, {path}."))
            else:
                found[path.stem] = (plugin, path)
    return found
