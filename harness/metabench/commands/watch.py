"""`metabench watch [RESULTS…]`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from tabulate import tabulate

from metabench.commands.terminal import say
from metabench.errors import RequestError
from metabench.records.job import JobFolder
from metabench.records.progress import (
    EvaluateEvent,
    Event,
    ResumeEvent,
    TrainEvent,
    ValidationEvent,
    event_from_json,
)
from metabench.runner import RESULTS


@click.command(
    epilog="""\b
Examples:
  metabench watch
  metabench watch results/local/quick-v1 --every 5
"""
)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("--every", type=click.FloatRange(min=0.1), metavar="SECONDS",
              help="Look again after so long, until no cell runs.")  # fmt: skip
def command(results: tuple[Path, ...], every: float | None) -> int:
    """Show what the cells that run into RESULTS do, from another terminal or machine.

    RESULTS are folders (results/local where none is named). Nothing is written, and no cell is disturbed. A
    cell that failed stays listed, with the last that it did, until it runs again.
    """
    folders = results or (Path(RESULTS),)
    for folder in folders:
        if not folder.is_dir():
            raise RequestError(f"{folder}: must be a folder of results")
    while True:
        lines = list(_lines(folders))
        heads = ["cell", "does", "since it did"]
        say(tabulate(lines, heads, disable_numparse=True) if lines else "no cell runs")
        if every is None or not lines:
            return 0
        time.sleep(every)
        say("")


def _lines(folders: Sequence[Path]) -> Iterator[list[str]]:
    """Yield a line for each job folder: its cell, what it does, how long ago it last did something."""
    for folder in folders:
        for path in sorted(folder.glob("**/jobs/*/job.json")):
            job = JobFolder(path.parent)
            events = list(_events(job.progress))
            touched = job.progress if events else path
            age = max(0.0, time.time() - touched.stat().st_mtime)
            yield [path.parent.name, _state(events), f"{age:.0f} s"]


def _events(path: Path) -> Iterator[Event]:
    """Yield the events of a progress file; a line that is written just now is no event yet."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield event_from_json(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def _state(events: Sequence[Event]) -> str:
    """Return what a cell does, in words, with its last validation."""
    scores = [event for event in events if isinstance(event, ValidationEvent)]
    validation = f", validation {scores[-1].mean:.4g} (step {scores[-1].step})" if scores else ""
    doing = [event for event in events if isinstance(event, (TrainEvent, EvaluateEvent, ResumeEvent))]
    match doing[-1] if doing else None:
        case TrainEvent() as event:
            left = f"{event.seconds_left:.0f} s left"
            return f"step {event.step}/{event.steps}, loss {event.loss:.4g}, {left}{validation}"
        case EvaluateEvent() as event:
            return f"evaluates, {event.done} of {event.tasks} tasks{validation}"
        case ResumeEvent() as event:
            return f"goes on after step {event.step}"
    return "sets up" if events else "waits for its worker"
