"""The runner against executors that do not keep their contract: each costs its own cells, never the run."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest

from metabench.errors import PluginError
from metabench.plugins import load
from metabench.records import Result
from metabench.runner import RunOutcome, execute, make_plan
from metabench_plugins.backends.cpu import Cpu

SUITE = """
name = "pair"
version = 1

[[cells]]
algorithm = "maml"
network = "mlp"
dataset = "sinusoid"
test = {ways = 1, shots = 5, queries = 5}
budget = {steps = 2, tasks = 2}
evaluation = {tasks = 4}
backend = {name = "cpu", threads = 1}
seeds = [0, 1]
"""

EXECUTOR = """
from dataclasses import dataclass, replace
from metabench import Executor, hookimpl, setting
from metabench.records.job import Outcome

@dataclass(frozen=True, kw_only=True)
class Odd(Executor):
    "Runs nothing, and says strange things about it."
    name = "odd"
    how: str = setting("", "what is wrong with the first job")

    def run(self, jobs):
        for number, job in enumerate(jobs):
            how = self.how if number == 0 else ""
            job.log.write_text("the last line")
            if how == "raises":
                raise KeyError("queue")
            if how == "exits":
                raise SystemExit(0)
            if how == "damaged":
                (job.folder / "result.json").write_text('{"cell": ')
            if how == "damaged-rank":
                (job.folder / "failed-0.json").write_text("[]")
            if how == "unknown":
                yield Outcome(replace(job, id="elsewhere"), 0, False, 1.0)
            if how == "text":
                yield "done"
            if how == "garbled":
                (job.folder / "progress.jsonl").write_text('nonsense\\n[1]\\n{"step": 1}\\n')
            if how != "omits":
                yield Outcome(job, 3, how == "timed-out", 1.0)

@hookimpl
def metabench_executors():
    return [Odd]
"""


def ran(folder: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> tuple[RunOutcome, list[str]]:
    """What a run by the odd executor gave, and its warnings."""
    (folder / "pair.toml").write_text(SUITE)
    (folder / "odd_executor.py").write_text(EXECUTOR)
    monkeypatch.syspath_prepend(folder)
    registry = load([*entry_points(group="metabench"), EntryPoint("odd", "odd_executor", "metabench")])
    registry.silence()
    plan = make_plan(
        str(folder / "pair.toml"), results=folder / "results", executor=f"odd:how={how}", registry=registry
    )
    warned: list[str] = []
    return execute(plan, warned.append), warned


@pytest.mark.parametrize(
    ("how", "reason", "warning"),
    [
        ("damaged", "what its worker left cannot be read: .*result.json: truncated", ""),
        ("damaged-rank", "what its worker left cannot be read", ""),
        ("omits", "executor 'odd' gave no outcome of this cell", ""),
        ("unknown", "ended with exit status 3", "executor 'odd' gave Outcome"),
        ("text", "ended with exit status 3", "executor 'odd' gave 'done'"),
        ("garbled", "ended with exit status 3", ""),
        ("timed-out", "ended after the executor's time limit", ""),
    ],
)
def test_a_bad_outcome_is_one_typed_result_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, reason: str, warning: str
) -> None:
    outcome, warned = ran(tmp_path, monkeypatch, how)

    first, second = outcome.results
    assert first.status == ("timed-out" if how == "timed-out" else "failed")
    assert re.search(reason, first.reason)
    assert "ended with exit status 3" in second.reason
    assert first.environment["machine"] == second.environment["machine"]
    assert first.started
    assert len(warned) == bool(warning)
    assert warning in "".join(warned)


@pytest.mark.parametrize(("how", "what"), [("raises", "KeyError: 'queue'"), ("exits", "SystemExit: 0")])
def test_an_executor_that_raises_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, what: str
) -> None:
    with pytest.raises(PluginError, match=f"executor 'odd' raised {what}"):
        ran(tmp_path, monkeypatch, how)


@pytest.mark.parametrize("method", ["command", "available"])
def test_a_backend_that_raises_costs_its_own_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def leave(self: Cpu, *arguments: object) -> None:
        if self.threads == 1:
            raise SystemExit(0)

    monkeypatch.setattr(Cpu, method, leave)
    outcome, _ = ran(tmp_path, monkeypatch, "")

    assert [result.status for result in outcome.results] == ["failed", "failed"]
    assert all("raised SystemExit: 0" in result.reason for result in outcome.results)


def test_a_result_that_cannot_be_stored_is_one_failed_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_json = Result.to_json

    def unstorable(self: Result) -> dict[str, Any]:
        return to_json(self) if "stored" in self.reason else {"set": {1}}

    monkeypatch.setattr(Result, "to_json", unstorable)
    outcome, _ = ran(tmp_path, monkeypatch, "")

    assert len(outcome.results) == 2
    assert all("its result cannot be stored: TypeError" in result.reason for result in outcome.results)


@pytest.mark.parametrize(
    ("dataset", "network", "warnings"),
    [
        ("glyphs", "conv4", ("2 cells classify tasks of 1 way: whatever is predicted is right",)),
        ("sinusoid", "mlp", ()),
    ],
)
def test_a_plan_warns_of_classification_among_one_class(
    tmp_path: Path, dataset: str, network: str, warnings: tuple[str, ...]
) -> None:
    path = tmp_path / "narrow.toml"
    path.write_text(
        f"""
name = "narrow"
version = 1
[[cells]]
algorithm = "maml"
network = "{network}"
dataset = "{dataset}"
test = {{ways = 1, shots = 1, queries = 1}}
seeds = [0, 1]
"""
    )
    assert make_plan(str(path), results=tmp_path).warnings == warnings
