"""Runs in Weights & Biases, on its server or as files that `wandb sync` sends later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Cell, LoggedRun, Logger, Result, setting
from metabench.records import final_scores, logged_settings, suite_folder
from metabench_plugins.loggers._extras import missing


@dataclass(frozen=True, kw_only=True)
class Wandb(Logger):
    """A run of Weights & Biases for each cell, in the group of its suite; needs the extra `wandb`."""

    name: ClassVar[str] = "wandb"
    project: str = setting("metabench", "project that the runs are in")
    entity: str = setting("", "user or team (empty: the one who is logged in)")
    mode: str = setting("online", "offline writes files for `wandb sync`", choices=("online", "offline"))

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why it cannot be used here."""
        return missing("wandb", "wandb")

    def open(self, cell: Cell, folder: Path) -> LoggedRun:
        """Begin a run; raises wandb's own error where nobody is logged in."""
        import wandb

        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self.project, entity=self.entity or None, mode=self.mode, dir=str(logs), name=cell.id,
            group=suite_folder(cell.suite, cell.suite_version), config=logged_settings(cell),
            reinit="create_new", settings=wandb.Settings(silent=True, console="off", disable_code=True),
        )  # fmt: skip
        run.define_metric("*", step_metric="step")  # its own steps cannot go back, as curves may at the end
        local = Path(run.settings.sync_dir).relative_to(folder.absolute()).as_posix()
        return WandbRun(run, local if self.mode == "offline" else run.url)


class WandbRun(LoggedRun):
    """The run of one cell."""

    def __init__(self, run: Any, link: str) -> None:
        self.run, self._link = run, link

    @property
    def link(self) -> str:
        """The run's page, or its folder from the folder of the results."""
        return self._link

    def curves(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of one step."""
        self.run.log({"step": step, **values})

    def close(self, result: Result | None) -> None:
        """Log the final scores and how the cell ended."""
        if result is not None:
            self.run.summary.update({**final_scores(result), "status": str(result.status)})
        self.run.finish(exit_code=int(result is None or result.bad))
