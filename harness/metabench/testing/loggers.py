"""`check_logger`: two cells that are open at once, one interrupted, and names that are attacks."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from metabench.contracts import LoggedRun, Logger
from metabench.records.cell import Cell
from metabench.records.result import Result
from metabench.testing.contract_error import Subject, begin
from metabench.testing.fakes import tiny_results


def check_logger(logger: Logger | type[Logger]) -> None:
    """Checks a logger against its whole contract: its links, its places, and cells side by side.

    A logger of a server logs there: give it settings that write files.

    Raises ContractError with what is wrong and what to do; SkipTest where it cannot be used here.
    """
    logger, subject = begin("logger", logger)
    first, second, failed = (tiny_results(("one", "two"))[index] for index in (0, 2, -1))
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name) / "tiny-v1"
        folder.mkdir()
        runs = [_open(logger, subject, result.cell, folder) for result in (first, second, failed)]
        links = [run.link for run in runs if run.link]
        subject.require(len(links) == len(set(links)), f"cells share a link: {links}; a link is of one cell")
        with subject.doing("curves(step, values)"):
            for step in (10, 20):
                for run in runs:
                    run.curves(step, {"train/loss": 1 / step, "validation/accuracy": 0.5})
        _close(subject, runs[0], first)
        _close(subject, runs[1], None)
        _close(subject, runs[2], failed)
        again = _open(logger, subject, replace(first.cell), folder)  # as `--rerun` does
        _close(subject, again, first)
        strays = [path.name for path in folder.iterdir() if path.name != "logs"]
        strays += [path.name for path in Path(name).iterdir() if path != folder]
        subject.require(
            not strays, f"it writes outside of the folder `logs`: {strays}; readers of results meet them"
        )


def _open(logger: Logger, subject: Subject, cell: Cell, folder: Path) -> LoggedRun:
    with subject.doing("open(cell, folder)"):
        run = logger.open(cell, folder)
    subject.require(isinstance(run, LoggedRun), f"open must give a metabench.LoggedRun, got {run!r}")
    with subject.doing("link"):
        link = run.link
    subject.require(
        isinstance(link, str) and not Path(link).is_absolute(),
        f"link must be a URL, or a path from the folder of the results, got {link!r}",
    )
    return run


def _close(subject: Subject, run: LoggedRun, result: Result | None) -> None:
    """Close a run from another thread, as the runner may."""
    errors: list[Exception] = []

    def close() -> None:
        try:
            run.close(result)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    with subject.doing(f"close({'result' if result else 'None'})"):
        for error in errors:
            raise error
