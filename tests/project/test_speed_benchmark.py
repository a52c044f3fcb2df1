"""The speed benchmark: it runs, and its exit status follows its verdicts. No speed is asserted."""

import importlib.util
import json
import subprocess
import sys
from types import ModuleType

import pytest
import torch

from helpers.shell import ROOT

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
    speed.prepared(row)  # ends the process where the two differ
    assert speed.learner_of(row).path == "batched"
