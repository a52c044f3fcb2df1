"""The progress display: whole lines where there is no terminal, a moving line in a real one."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import textwrap

import pytest

from helpers.results import made_cell
from metabench.records import (
    CheckpointEvent,
    EndEvent,
    EvaluateEvent,
    Event,
    ResumeEvent,
    SetupEvent,
    StartEvent,
    Status,
    TrainEvent,
    ValidationEvent,
)  # fmt: skip
from metabench_plugins import progress

EVENTS: list[Event] = [
    StartEvent(2, 7),
    SetupEvent(),
    TrainEvent(1, 400, loss=1.61, tasks_per_second=90.2, seconds_left=71.0),
    ValidationEvent(50, mean=0.4321, half_width=0.01),
    TrainEvent(60, 400, loss=1.25, tasks_per_second=91.4, seconds_left=59.6),
    EvaluateEvent(32, tasks=600),
    EndEvent(Status.OK, "", 80.04, mean=0.4567, metric="accuracy"),
]
TITLE = "[2/7] maml conv4 glyphs 5w1s cpu seed 0"


def shown(capsys: pytest.CaptureFixture[str], *events: Event) -> list[str]:
    for event in events:
        progress.metabench_progress(made_cell(), event)
    return capsys.readouterr().err.splitlines()


def test_a_log_file_says_where_a_cell_goes_on_and_why_it_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(
        capsys, EVENTS[0], ResumeEvent(7), ResumeEvent(0, "its checkpoint was made by other code"),
        CheckpointEvent(9, "the disk is full"),
    )  # fmt: skip
    assert lines[1:] == [
        f"{TITLE}: goes on after step 7",
        f"{TITLE}: starts anew: its checkpoint was made by other code",
        f"{TITLE}: goes on without a checkpoint: the disk is full",
    ]


def test_a_log_file_gets_whole_lines_with_every_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    assert shown(capsys, *EVENTS) == [
        f"{TITLE}: starts",
        f"{TITLE}: step 1/400, loss 1.61, 90 tasks/s, 71 s left",
        f"{TITLE}: step 60/400, loss 1.25, 91 tasks/s, 60 s left, validation 0.4321 (step 50)",
        f"{TITLE}: accuracy 0.4567 in 80.0 s",
    ]


def test_a_log_file_gets_few_lines_of_a_long_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(shown(capsys, EVENTS[0], *[EVENTS[2]] * 50, EVENTS[-1])) == 2


def test_a_cell_that_fails_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    end = EndEvent(Status.FAILED, "[bold]it broke[/]", 1.0)
    assert shown(capsys, EVENTS[0], end)[-1] == f"{TITLE}: FAILED in 1.0 s: [bold]it broke[/]"


def test_a_terminal_shows_a_line_that_moves_and_keeps_the_end() -> None:
    program = textwrap.dedent(
        """
        import json, sys, time
        from metabench import Cell
        from metabench.records import event_from_json
        from metabench_plugins.progress import metabench_progress
        document = json.loads(sys.argv[1])
        for event in map(event_from_json, document["events"]):
            metabench_progress(Cell.from_json(document["cell"]), event)
            time.sleep(0.3)  # rich draws a few times a second
        """
    )
    document = {"cell": made_cell().to_json(), "events": [event.to_json() for event in EVENTS]}
    text = in_terminal([sys.executable, "-c", program, json.dumps(document)])
    assert "\x1b[?25l" in text  # the cursor is hidden while the line moves,
    assert text.rstrip().endswith(f"\x1b[?25h\r\x1b[1A\x1b[2K{TITLE}: accuracy 0.4567 in 80.0 s")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    for status in (
        "sets up",
        "step 60/400, loss 1.25, 91 tasks/s, 60 s left, validation 0.4321 (step 50)",
        "evaluates, 32 of 600 tasks",
    ):
        assert f"{TITLE}: {status}" in plain


def in_terminal(argv: list[str]) -> str:
    """What a command writes on standard error, where that is a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    output = b""
    try:
        while part := os.read(ours, 65536):
            output += part
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0, output.decode()
    return output.decode()


def test_a_terminal_shows_a_line_for_each_cell_that_runs() -> None:
    program = textwrap.dedent(
        """
        import json, sys, time
        from metabench import Cell
        from metabench.records import EndEvent, SetupEvent, StartEvent, Status
        from metabench_plugins.progress import metabench_progress
        first, second = map(Cell.from_json, json.loads(sys.argv[1]))
        for number, cell in enumerate((first, second), 1):
            metabench_progress(cell, StartEvent(number, 2, remote=True))
        metabench_progress(second, SetupEvent())
        time.sleep(0.3)
        end = EndEvent(Status.OK, "", 1.0, mean=0.5, metric="accuracy")
        for cell in (second, first):
            metabench_progress(cell, end)
            time.sleep(0.3)
        """
    )
    cells = [made_cell(seed=seed).to_json() for seed in (0, 1)]

    text = re.sub(
        r"\x1b\[[0-9;?]*[a-zA-Z]", "", in_terminal([sys.executable, "-c", program, json.dumps(cells)])
    )

    first, second = (f"[{n}/2] maml conv4 glyphs 5w1s cpu seed {n - 1}" for n in (1, 2))
    assert f"{first}: waits for its machine" in text
    assert f"{second}: sets up" in text
    assert text.index(f"{second}: accuracy 0.5") < text.index(f"{first}: accuracy 0.5")


def test_no_escape_of_a_cell_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    cell = made_cell(label="\x1b]0;owned\x07")

    progress.metabench_progress(cell, EVENTS[0])
    progress.metabench_progress(cell, EndEvent(Status.FAILED, "\x1b[2J boo", 1.0))

    assert "boo" in (text := capsys.readouterr().err)
    assert "\x1b" not in text


def test_an_interrupted_run_gives_the_cursor_back() -> None:
    program = textwrap.dedent(
        """
        import json, sys
        from pathlib import Path
        from metabench import Cell
        from metabench.plugins import load
        from metabench.records import SetupEvent
        from metabench.results.store import Store
        from metabench.runner.jobs import Jobs
        registry = load()
        jobs = Jobs(registry, Store(Path(sys.argv[2])), None, {})
        try:
            with jobs.watch():
                next(jobs.prepare([Cell.from_json(json.loads(sys.argv[1]))]))
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            print("metabench: interrupted", file=sys.stderr)
        """
    )
    with tempfile.TemporaryDirectory() as folder:
        text = in_terminal([sys.executable, "-c", program, json.dumps(made_cell().to_json()), folder])

    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0
    assert "FAILED: the run was interrupted" in text
    assert text.replace("\r", "").splitlines()[-1] == "metabench: interrupted"
