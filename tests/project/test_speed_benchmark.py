"""The speed benchmark: it runs, its exit status follows its verdicts, and it times equal work only.

No speed is asserted.
"""

import importlib
import json
import shutil
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from helpers.shell import ROOT
from metabench import Episodes
from metabench.device import Device

SCRIPT = ROOT / "benchmarks" / "speed.py"


@pytest.fixture
def contests(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the rows and their two sides."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    torch.set_num_threads(1)
    return importlib.import_module("_contest")


def test_one_row_is_measured_and_the_exit_status_is_its_verdict() -> None:
    argv = [sys.executable, SCRIPT, "--quick", "--threads", "1", "--rows", "sine-reptile", "--json"]
    completed = subprocess.run(argv, capture_output=True, text=True, timeout=240)
    assert completed.returncode in (0, 1), completed.stderr
    (row,) = json.loads(completed.stdout.splitlines()[-1])
    assert row["ratio"] > 0
    assert row["gradients_apart"] <= 1e-10
    assert completed.returncode == (0 if row["ok"] else 1)
    assert ("BELOW" in completed.stdout) == (completed.returncode == 1)


@pytest.mark.parametrize("name", ["sine-maml", "sine-reptile", "protonet", "skips"])
def test_plain_loop_does_the_work_of_ours(
    contests: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contests, "has_learn2learn", lambda: False)

    assert contests.difference(contests.ROWS[name]) <= contests.SAME_WORK


@pytest.mark.parametrize("name", ["sine-maml", "sine-anil", "sine-metasgd", "protonet"])
def test_learn2learn_does_the_work_of_ours(contests: ModuleType, name: str) -> None:
    if not contests.has_learn2learn():
        pytest.skip("learn2learn is not installed")

    assert contests.difference(contests.ROWS[name]) <= contests.SAME_WORK


def test_row_without_a_loop_is_left_out(contests: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contests, "has_learn2learn", lambda: False)

    absent = [name for name, row in contests.ROWS.items() if not contests.has_loop(row)]

    assert absent == ["sine-anil", "sine-metasgd", "conv-anil", "conv-metasgd"]


@pytest.mark.parametrize("name", ["skips", "resnet12"])
def test_a_third_partys_module_runs_by_rules_in_float32(contests: ModuleType, name: str) -> None:
    both = contests.contest(contests.ROWS[name])
    both.our_step()
    assert both.ours.path in ("batched", "batched, kernels")
    assert {p.dtype for p in [*both.ours.parameters(), *both.loop.parameters()]} == {torch.float32}
    assert both.episodes.support.x.dtype == both.episodes.query.x.dtype == torch.float32


@pytest.mark.parametrize(("row_change", "factor"), [({"first_order": True}, 1.0), ({}, 1 + 1e-6)])
def test_loop_of_other_work_is_refused(
    contests: ModuleType, row_change: dict[str, Any], factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = contests.ROWS["sine-maml"]

    class OtherWork(contests.PlainMaml):  # type: ignore[misc, name-defined]  # a module loaded at run time
        def learn(self, batch: Episodes, step: int, total: int) -> torch.Tensor:
            self.settings = row.settings | row_change
            losses: torch.Tensor = super().learn(batch, step, total)
            for parameter in self.parameters():
                parameter.grad.mul_(factor)
            return losses

    monkeypatch.setattr(contests, "has_learn2learn", lambda: False)
    monkeypatch.setitem(contests.PLAIN, "maml", OtherWork)
    with pytest.raises(SystemExit, match="not the same work, so nothing is timed"):
        contests.difference(row)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="a C++ compiler is needed to compile on the CPU")
def test_compiled_meta_step_is_the_loops_work(contests: ModuleType) -> None:
    row = contests.ROWS["conv-1shot"]

    assert contests.difference(row, execution="compiled") <= contests.SAME_WORK
    assert contests.contest(row, Device(), "compiled").ours.path == "batched, compiled"
