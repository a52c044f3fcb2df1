"""When a worker was launched, by a clock that no setting of the time moves."""

from __future__ import annotations

import time

import pytest

from metabench.worker.parent import seconds_since_launch


def test_the_launch_is_timed_by_a_clock_that_never_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = time.monotonic() - 2
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + 3600)

    monkeypatch.setenv("METABENCH_PARENT", "1")
    assert 2 <= seconds_since_launch(launched) < 60


def test_a_process_that_the_runner_did_not_start_here_has_its_own_age(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("METABENCH_PARENT", raising=False)

    for launched in (None, -1e9):  # another machine's clock
        assert 0 < seconds_since_launch(launched) < 3600
