"""The test tasks that a suite asks for, drawn here: `verify` compares their digest with the results'.

Drawing loads data sets, and so torch: it is done by a process of its own, once for each set of tasks and
state of the data set's code. Digests are kept in the user's cache folder.

python -m metabench.publishing.task_draws REQUESTS ANSWERS
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from metabench import data
from metabench.errors import MetabenchError, RequestError
from metabench.folders import cache_folder
from metabench.plugins import Registry, load
from metabench.records.cell import Cell, Protocol, Spec, digest_of

CACHE_NAME = "test-tasks.json"
LONGEST_SECONDS = 900.0
"""How long drawing may take: a first conversion of a large image data set takes minutes."""


@dataclass(frozen=True)
class TaskSet:
    """The test tasks of a cell: a data set with its settings as JSON, a protocol, their number and seed."""

    dataset: str
    settings: str
    protocol: Protocol
    tasks: int
    seed: int

    @classmethod
    def of(cls, cell: Cell) -> TaskSet:
        """The test tasks that a cell asks for."""
        settings = json.dumps(dict(cell.dataset.settings), sort_keys=True)
        return cls(cell.dataset.name, settings, cell.test, cell.evaluation.tasks, cell.evaluation.seed)

    @property
    def spec(self) -> Spec:
        """The data set as a cell names it."""
        return Spec(self.dataset, json.loads(self.settings))


class Drawn(NamedTuple):
    """The digest of tasks that were drawn, or why they could not be (empty where the data is not here)."""

    digest: str | None
    problem: str = ""


def draw_all(wanted: Iterable[TaskSet], registry: Registry) -> dict[TaskSet, Drawn]:
    """The digests of all of these tasks, from the cache or drawn now."""
    cache = _Cache(cache_folder() / CACHE_NAME)
    keys = {tasks: digest_of([asdict(tasks), _code_state(registry, tasks.dataset)]) for tasks in wanted}
    drawn = {tasks: Drawn(digest) for tasks, key in keys.items() if (digest := cache.known.get(key))}
    here = registry.entries("dataset")
    drawn |= {tasks: Drawn(None) for tasks in keys if tasks.dataset not in here}
    rest = sorted((tasks for tasks in keys if tasks not in drawn), key=lambda t: (t.dataset, t.settings))
    for tasks, answer in zip(rest, _in_process(rest), strict=True):
        drawn[tasks] = answer
        if answer.digest is not None:
            cache.known[keys[tasks]] = answer.digest
    if rest:
        cache.write()
    return drawn


def _code_state(registry: Registry, dataset: str) -> list[Any]:
    """What changes when the code that draws tasks does: version, and time and size of its files."""
    try:
        entry = registry.find("dataset", dataset)
    except MetabenchError:
        return []
    module = sys.modules.get(entry.cls.__module__)
    folders = {Path(data.__file__).parent}
    if module is not None and getattr(module, "__file__", None):
        folders.add(Path(str(module.__file__)).parent)
    files = sorted(path for folder in folders for path in folder.glob("*.py"))
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return [entry.source, entry.path, states]


class _Cache:
    """The digests that were drawn before; a file that cannot be read or written is done without."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(path.read_bytes())
            if isinstance(known, dict):
                self.known = {str(key): str(digest) for key, digest in known.items()}

    def write(self) -> None:
        """Replaces the file by what is known now."""
        part = self.path.with_suffix(".part")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(self.known))
            part.replace(self.path)


def _in_process(wanted: Sequence[TaskSet]) -> list[Drawn]:
    """Draws tasks in a process of their own; where it fails, every one of them has its reason."""
    if not wanted:
        return []
    with tempfile.TemporaryDirectory() as folder:
        requests, answers = Path(folder) / "requests.json", Path(folder) / "answers.json"
        requests.write_text(json.dumps([asdict(tasks) for tasks in wanted]))
        argv = [sys.executable, "-m", "metabench.publishing.task_draws", str(requests), str(answers)]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, errors="replace", timeout=LONGEST_SECONDS, check=False
            )
            return [Drawn(*answer) for answer in json.loads(answers.read_bytes())]
        except subprocess.TimeoutExpired:
            problem = f"drawing took longer than {LONGEST_SECONDS:g} s"
        except (OSError, ValueError):
            last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            problem = f"the process that draws ended with {done.returncode}: {last[:200]}"
    return [Drawn(None, problem)] * len(wanted)


def _draw(registry: Registry, wanted: Sequence[Mapping[str, Any]]) -> list[Drawn]:
    """Draws the tasks of these requests, each data set loaded once."""
    sources: dict[tuple[str, str], Any] = {}
    drawn = []
    for request in wanted:
        tasks = TaskSet(**{**request, "protocol": Protocol(**request["protocol"])})
        try:
            drawn.append(_drawn(registry, tasks, sources))
        except RequestError:  # no data set of that name and these settings is installed
            drawn.append(Drawn(None))
        except Exception as error:  # of a plugin; the other data sets are drawn all the same
            drawn.append(Drawn(None, f"{type(error).__name__}: {error}"[:300]))
    return drawn


def _drawn(registry: Registry, tasks: TaskSet, sources: dict[tuple[str, str], Any]) -> Drawn:
    from metabench.data.manifests import tasks_digest
    from metabench.device.device import Device

    at = (tasks.dataset, tasks.settings)
    if at not in sources:
        sources.clear()  # requests come data set by data set; one is in memory at a time
        dataset = registry.make("dataset", tasks.spec)
        sources[at] = None if dataset.missing() is not None else dataset.load(Device())
    source = sources[at]
    if source is None:
        return Drawn(None)
    arrays = source.manifest("test", tasks.protocol, range(tasks.tasks), tasks.seed)
    return Drawn(tasks_digest(arrays))


if __name__ == "__main__":
    request_file, answer_file = map(Path, sys.argv[1:])
    answer_file.write_text(json.dumps(_draw(load(), json.loads(request_file.read_bytes()))))
