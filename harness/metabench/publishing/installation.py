"""What is installed here, as verification needs it: metrics, providers, suites and the tasks of data sets.

The classes of plugins load torch, which takes seconds and half a gigabyte: questions go to a process of its
own (`metabench.publishing.inspector`), which starts with the first of them. Answers are kept in the user's
cache folder until the code of a plugin or a suite changes.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import metabench
from metabench.errors import MetabenchError
from metabench.folders import cache_folder
from metabench.plugins import Registry, load
from metabench.publishing.task_draws import Drawn, TaskSet
from metabench.records.cell import Cell, Spec, component_kind
from metabench.records.code import Code
from metabench.records.identity import digest_of

CACHE_NAME = "installation.json"
DEEP_AT_ONCE = 50
"""So many results are scored anew by one request."""
MOST_ANSWERS = 20_000
"""A cache with more answers begins anew."""


@dataclass(frozen=True)
class InstalledSuite:
    """A suite as it is installed: its cells, the SHA-256 of its file, and those of earlier, equal texts."""

    cells: Sequence[Cell]
    digest: str
    earlier: tuple[str, ...] = ()


class Installation:
    """Answers about what is installed; a context, which ends the process that it may have started."""

    def __init__(self, registry: Registry | None = None) -> None:
        self.registry = registry or load()
        self._state = digest_of(list(_code_state(self.registry)))
        self._cache = _Cache(cache_folder() / CACHE_NAME)
        self._process: subprocess.Popen[str] | None = None
        self._components: Mapping[str, Mapping[str, Any]] | None = None

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cache.write()
        if self._process is not None:
            self._process.kill()  # every answer is here; leaving torch in order takes it seconds
            self._process.communicate()

    def component(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """What is known of a component: "source", and of a metric "unit", "higher_is_better", "bounds"."""
        if self._components is None:
            self._components = self._ask("components", None)
        return self._components.get(component_kind(kind), {}).get(name)

    def runs_once(self, algorithm: str) -> bool:
        """Whether an algorithm gives the same for every seed, so that a suite runs it with its first one."""
        return bool((self.component("algorithm", algorithm) or {}).get("deterministic"))

    def code_of(self, names: Mapping[str, str]) -> Code:
        """Return the digests of the code that is installed here, of components by kind and of the harness."""
        known = {kind: self.component(kind, name) for kind, name in {**names, "harness": "metabench"}.items()}
        return {kind: here["code"] for kind, here in known.items() if here is not None and here["code"]}

    def suite_version(self, name: str) -> int | None:
        """The version of the suite of this name that is installed; None where there is none."""
        version: int | None = self._ask("suite_version", name)
        return version

    def suites(self, folders: Collection[str]) -> dict[str, InstalledSuite]:
        """The suites of these folders (`quick-v1`), as far as they are installed in that version."""
        answers = {folder: self._ask("suite", folder) for folder in sorted(folders)}
        return {
            folder: InstalledSuite(
                [Cell.from_json(cell) for cell in answer["cells"]], answer["digest"], tuple(answer["earlier"])
            )
            for folder, answer in answers.items()
            if answer is not None
        }

    def completed(self, specs: Iterable[tuple[str, Spec]]) -> list[Spec]:
        """Components (kind and spec) as a suite would name them here, as stored where they are not installed.

        They have the settings that a later version of their plugin has added, and its defaults.
        """
        listed = list(specs)
        wanted = [(kind, spec.name, dict(spec.settings)) for kind, spec in listed]
        answers = self._ask_each("completed", wanted)
        return [
            spec if defaults is None else Spec(spec.name, settings, tuple(defaults))
            for (_, spec), (settings, defaults) in zip(listed, answers, strict=True)
        ]

    def draw(self, wanted: Iterable[TaskSet]) -> dict[TaskSet, Drawn]:
        """The digests of test tasks, drawn here where the data is."""
        listed = sorted(set(wanted), key=lambda tasks: (tasks.dataset, tasks.settings))
        drawn = dict.fromkeys(listed, Drawn(None))
        try:
            here = [tasks for tasks in listed if self.component("dataset", tasks.dataset) is not None]
            answers = self._ask_each("drawn", [tasks.to_json() for tasks in here], keep=_was_drawn)
        except MetabenchError as error:
            return {tasks: Drawn(None, str(error)) for tasks in listed}
        return drawn | {tasks: Drawn(*answer) for tasks, answer in zip(here, answers, strict=True)}

    def parameters(
        self, cells: Sequence[Cell], allow_import: Sequence[str] = ()
    ) -> list[tuple[int | None, str]]:
        """The number of parameters of each cell's learner, built here; None and why where it cannot be.

        allow_import: modules that they may import by a path.
        """
        allowed = sorted(allow_import)
        try:
            answers = self._ask_each(
                "parameters", [[replace(cell, seed=0).to_json(), allowed] for cell in cells], _counted
            )
        except MetabenchError as error:
            return [(None, str(error)) for _ in cells]
        return [(count, problem) for count, problem in answers]

    def deep_faults(self, files: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield each of these results' scores that do not follow from its predictions: the file, and what."""
        for first in range(0, len(files), DEEP_AT_ONCE):
            some = files[first : first + DEEP_AT_ONCE]
            for file, faults in zip(some, self._request("deep", list(some)), strict=True):
                yield from ((file, fault) for fault in faults)

    def _ask_each(self, question: str, items: Sequence[Any], keep: Any = lambda answer: True) -> list[Any]:
        """The answers about several things, asked in one request where they are not in the cache."""
        keys = [digest_of([self._state, question, item]) for item in items]
        fresh = [i for i, key in enumerate(keys) if key not in self._cache.answers]
        given: dict[str, Any] = {}
        if fresh:
            answers = self._request(question, [items[i] for i in fresh])
            given = {keys[i]: answer for i, answer in zip(fresh, answers, strict=True)}
            self._cache.add({key: answer for key, answer in given.items() if keep(answer)})
        return [given[key] if key in given else self._cache.answers[key] for key in keys]

    def _ask(self, question: str, about: Any) -> Any:
        key = digest_of([self._state, question, about])
        if key not in self._cache.answers:
            self._cache.add({key: self._request(question, about)})
        return self._cache.answers[key]

    def _request(self, question: str, about: Any) -> Any:
        """The inspector's answer; raises MetabenchError where it has none, or has died."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "metabench.publishing.inspector"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018 - for the types
        try:
            process.stdin.write(json.dumps({question: about}) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError) as error:
            raise MetabenchError(
                f"the process that looks at the plugins ended with {process.wait()}; "
                "`metabench doctor` names plugins that do not work"
            ) from error
        if "problem" in answer:
            raise MetabenchError(f"plugins could not be looked at: {answer['problem']}")
        return answer["answer"]


def _counted(answer: Sequence[Any]) -> bool:
    return answer[0] is not None


def _was_drawn(answer: Sequence[Any]) -> bool:
    return answer[0] is not None  # the data may be here the next time


def _code_state(registry: Registry) -> Iterator[Any]:
    """What changes when the code of a plugin or a suite does: versions, and time and size of the files."""
    folders = {Path(metabench.__file__).parent}
    for plugin in registry.plugins.values():
        yield [plugin.distribution, plugin.version, plugin.name]
        module = sys.modules.get(plugin.module.partition(":")[0])
        if module is not None and getattr(module, "__file__", None):
            folders.add(Path(str(module.__file__)).parent)
    suites = {folder for _, folder in registry.suite_folders()}
    code = [(folder, "**/*.py") for folder in sorted(folders)]
    for folder, pattern in (*code, *((folder, "*.toml") for folder in sorted(suites))):
        for path in sorted(folder.glob(pattern)):
            state = path.stat()
            yield [str(path), state.st_size, state.st_mtime_ns]


class _Cache:
    """The answers that are known; a file that cannot be read or written is done without."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Any] = {}
        self.changed = False
        with contextlib.suppress(OSError, ValueError):
            answers = json.loads(path.read_bytes())
            if isinstance(answers, dict) and len(answers) <= MOST_ANSWERS:
                self.answers = answers

    def add(self, answers: Mapping[str, Any]) -> None:
        """Adds answers, which `write` then keeps."""
        self.answers.update(answers)
        self.changed = True

    def write(self) -> None:
        """Replaces the file where there are new answers."""
        if not self.changed:
            return
        part = self.path.with_suffix(".part")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(self.answers))
            part.replace(self.path)
