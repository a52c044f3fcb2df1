"""Runs in MLflow, on a tracking server or in a database beside the results."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Cell, LoggedRun, Logger, Result, setting
from metabench.records import final_scores, logged_settings, suite_folder
from metabench_plugins.loggers._extras import missing

MOST_PARAMETERS = 100
"""How many parameters MLflow takes in one call."""
LONGEST_PARAMETER = 6000
"""How many characters MLflow takes of a parameter."""


@dataclass(frozen=True, kw_only=True)
class Mlflow(Logger):
    """A run of MLflow for each cell, in the experiment of its suite; needs the extra `mlflow`."""

    name: ClassVar[str] = "mlflow"
    uri: str = setting("", "tracking server or store (empty: the database logs/mlflow.db beside the results)")

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why it cannot be used here."""
        return missing("mlflow", "mlflow", "sqlalchemy", "alembic")

    def open(self, cell: Cell, folder: Path) -> LoggedRun:
        """Begin a run."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        logs = folder.absolute() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(self.uri or f"sqlite:///{logs / 'mlflow.db'}")
        experiment = self._experiment(client, suite_folder(cell.suite, cell.suite_version), logs)
        run = client.create_run(experiment, run_name=cell.id, tags={"metabench.digest": cell.digest})
        settings = [
            Param(name, str(value)[:LONGEST_PARAMETER]) for name, value in logged_settings(cell).items()
        ]
        for first in range(0, len(settings), MOST_PARAMETERS):
            client.log_batch(run.info.run_id, params=settings[first : first + MOST_PARAMETERS])
        place = self.uri or "logs/mlflow.db"
        return MlflowRun(client, run.info.run_id, f"{place}#/experiments/{experiment}/runs/{run.info.run_id}")

    def _experiment(self, client: Any, name: str, logs: Path) -> str:
        """Return the number of the experiment of this name, which is made where there is none."""
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        artifacts = None if self.uri else (logs / "mlflow-artifacts").as_uri()
        return str(client.create_experiment(name, artifact_location=artifacts))


class MlflowRun(LoggedRun):
    """The run of one cell."""

    def __init__(self, client: Any, run_id: str, link: str) -> None:
        self.client, self.run_id, self._link, self.step = client, run_id, link, 0

    @property
    def link(self) -> str:
        """The run's address: store, experiment and run."""
        return self._link

    def curves(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of one step."""
        from mlflow.entities import Metric

        self.step, now = step, int(time.time() * 1000)
        metrics = [
            Metric(re.sub(r"[^\w./ -]", "_", name), value, now, step) for name, value in values.items()
        ]
        self.client.log_batch(self.run_id, metrics=metrics)

    def close(self, result: Result | None) -> None:
        """Log the final scores and how the cell ended."""
        if result is None:
            self.client.set_terminated(self.run_id, "KILLED")
            return
        self.curves(self.step, final_scores(result))
        self.client.set_tag(self.run_id, "metabench.status", str(result.status))
        self.client.set_terminated(self.run_id, "FAILED" if result.bad else "FINISHED")
