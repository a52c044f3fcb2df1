"""The speed benchmark: it runs, its exit status follows its verdicts, and it times equal work only.

No speed is asserted.
"""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from helpers.shell import ROOT
from metabench import Episodes

SCRIPT = ROOT / "benchmarks" / "speed.py"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("speed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "speed", module)
    spec.loader.exec_module(module)
    return module


def test_one_row_is_measured_and_the_exit_status_is_its_verdict() -> None:
    argv = [sys.executable, SCRIPT, "--quick", "--threads", "1", "--rows", "sine-reptile", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240)
    assert done.returncode in (0, 1), done.stderr
    (row,) = json.loads(done.stdout.splitlines()[-1])
    assert row["ratio"] > 0
    assert done.returncode == (0 if row["ratio"] >= 18 else 1)
    assert ("BELOW" in done.stdout) == (done.returncode == 1)


@pytest.mark.parametrize("name", ["skips", "resnet12"])
def test_a_third_partys_module_runs_by_rules_and_equals_its_loop(speed: ModuleType, name: str) -> None:
    row = speed.ROWS[name]
    torch.set_num_threads(1)
    timed = speed.prepared(row)  # ends the process where the two differ in float64
    timed.ours()
    assert timed.learner.path == "batched"
    assert {p.dtype for p in [*timed.learner.parameters(), *timed.module.parameters()]} == {torch.float32}
    assert timed.episodes.support.x.dtype == timed.episodes.query.x.dtype == torch.float32


@pytest.mark.parametrize(("first_order", "factor"), [(True, 1.0), (False, 1 + 1e-6)])
def test_loop_of_other_work_is_refused(
    speed: ModuleType, first_order: bool, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = sys.modules["_loops"]
    loop_of = loops.loop_of

    def other_work(module: nn.Module, episodes: Episodes, row: Any) -> None:
        loop_of(row)(module, episodes, dataclasses.replace(row, first_order=first_order))
        for p in module.parameters():
            assert p.grad is not None
            p.grad.mul_(factor)

    monkeypatch.setattr(loops, "loop_of", lambda row: other_work)
    with pytest.raises(SystemExit, match="not the same work, so nothing is timed"):
        speed.prepared(speed.ROWS["skips"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="a C++ compiler is needed to compile on the CPU")
def test_compiled_meta_step_is_the_loops_work(speed: ModuleType) -> None:
    timed = speed.prepared(speed.ROWS["conv-1shot"], compiled=True)
    timed.ours()
    assert timed.learner.path == "batched, compiled"
