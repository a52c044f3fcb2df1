"""Every hook of metabench, in the order of a run's life.

A plugin is a module named by an entry point of the group `metabench`; it implements any of these:

    [project.entry-points.metabench]
    my-plugin = "my_package.plugin"

    from metabench import hookimpl

    @hookimpl
    def metabench_algorithms():
        from my_package.method import MyMethod   # imported here, so that `metabench --help` stays quick
        return [MyMethod]

Hooks that return a sequence provide components. They are called in the parent process, when a command first
asks for their kind, and return a list of classes (of folders, for suites). The worker of a cell imports
the classes that its job names and nothing else. `metabench_progress` and `metabench_result` observe a run,
in the parent process.

These are declarations, which pluggy reads and never calls: the bodies that raise satisfy type checkers, which
refuse an empty one where a function returns something.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from metabench.contracts import Algorithm, Backend, Dataset, Executor, Logger, Metric, Network, Report
    from metabench.records.cell import Cell
    from metabench.records.progress import Event
    from metabench.records.result import Result

hookspec = pluggy.HookspecMarker("metabench")
hookimpl = pluggy.HookimplMarker("metabench")


@hookspec
def metabench_suites() -> Sequence[Path]:
    """Folders with suite files (*.toml). Called when a suite is looked up by name."""
    raise NotImplementedError


@hookspec
def metabench_datasets() -> Sequence[type[Dataset]]:
    """Data set classes. Called before a suite is checked, and by `list`."""
    raise NotImplementedError


@hookspec
def metabench_networks() -> Sequence[type[Network]]:
    """Network classes. Called before a suite is checked, and by `list`."""
    raise NotImplementedError


@hookspec
def metabench_algorithms() -> Sequence[type[Algorithm]]:
    """Algorithm classes. Called before a suite is checked, and by `list`."""
    raise NotImplementedError


@hookspec
def metabench_metrics() -> Sequence[type[Metric]]:
    """Metric classes. Called before a suite is checked, and by `list`."""
    raise NotImplementedError


@hookspec
def metabench_backends() -> Sequence[type[Backend]]:
    """Backend classes. Called before a suite is checked, and by `list`."""
    raise NotImplementedError


@hookspec
def metabench_executors() -> Sequence[type[Executor]]:
    """Executor classes. Called when a run starts."""
    raise NotImplementedError


@hookspec
def metabench_loggers() -> Sequence[type[Logger]]:
    """Logger classes. Called when a run is asked for loggers, and by `list`."""
    raise NotImplementedError


@hookspec
def metabench_progress(cell: Cell, event: Event) -> None:
    """Observes a running cell: when it starts and ends, and in between about twice a second.

    event: one of these classes of `metabench.records`, in the order in which a cell meets them:
    StartEvent: number, of (which cell of how many), remote (it is sent to wait for another machine), apart
        (the settings that tell it from cells of the same name);
    SetupEvent; ResumeEvent: step, reason; TrainEvent: step, steps, loss, tasks_per_second, seconds_left;
    ValidationEvent: step, mean, half_width; CheckpointEvent: step, reason (none could be written);
    EvaluateEvent: done, tasks (of rank 0);
    EndEvent: status, reason, seconds, and where tasks were scored mean and metric; also for a cell whose run
    was interrupted, which has no result.
    Called from the main thread or from one that watches workers, never from two at once. An exception here is
    reported once and never ends the run.
    """


@hookspec
def metabench_result(result: Result) -> None:
    """Observes a result, after it is stored. An exception here is reported and never ends the run."""


@hookspec
def metabench_reports() -> Sequence[type[Report]]:
    """Report classes. Called by `run` at its end, and by `report`."""
    raise NotImplementedError
