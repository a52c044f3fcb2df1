"""Loggers of real runs: what stands in their files is what the result says, and the result names them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest

import metabench
from broken.loggers import FaultyLogger
from metabench import Result, Spec
from metabench.plugins import Entry, load
from metabench.records.files import read_result
from metabench.records.logged import final_scores, logged_settings
from metabench.runner import execute, make_plan
from metabench.suite import Arguments
from metabench.testing import ContractError, check_logger

ASKED: dict[str, Any] = {
    "algorithms": "protonet", "networks": "mlp", "datasets": "blobs", "test": "5w1s5q", "steps": 6,
    "budget": {"tasks": 2, "validate_every": 3, "validation_tasks": 4}, "evaluation": {"tasks": 4},
    "backend": "cpu:threads=1", "quiet": True,
}  # fmt: skip


def logged_run(folder: Path, *loggers: str) -> Result:
    metabench.run(**ASKED, log=loggers, results=folder)
    (path,) = (folder / "runs-v1").glob("*.json")
    return read_result(path)


def curves_of(result: Result) -> dict[str, list[tuple[int, float]]]:
    """The curves and scores that any logger must hold of a result."""
    assert result.training is not None
    assert result.scores is not None
    return {
        "validation/accuracy": [(v.step, v.mean) for v in result.training.validations],
        "test/accuracy": [(6, fmean(result.scores.per_task))],
        "seconds/training": [(6, result.training.seconds)],
    }


def near(points: list[tuple[int, float]]) -> list[tuple[int, Any]]:
    """The points, up to the precision of a file: TensorBoard keeps 32 bits."""
    return [(step, pytest.approx(value)) for step, value in points]


def test_files_hold_the_curves_and_scores_of_the_result_which_names_them(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = logged_run(tmp_path, "csv", "tensorboard")
    assert result.logs.keys() == {"csv", "tensorboard"}
    places = {name: tmp_path / "runs-v1" / link for name, link in result.logs.items()}
    rows = pd.read_csv(places["csv"])
    events = EventAccumulator(str(places["tensorboard"])).Reload()
    assert {3, 6} <= set(rows[rows.name == "validation/accuracy"].step)
    assert result.training is not None
    assert max(rows[rows.name == "train/loss"].step) == result.training.losses[-1][0] == 6
    for name, points in curves_of(result).items():
        of_csv = rows[rows.name == name]
        assert list(zip(of_csv.step, of_csv.value, strict=True)) == near(points)
        of_events = [(point.step, point.value) for point in events.Scalars(name)]
        assert of_events == near(points)
    assert result.cell.id.encode() in events.PluginTagToContent("hparams")["_hparams_/session_start_info"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default::DeprecationWarning")  # of MLflow's own use of SQLAlchemy
def test_mlflow_holds_the_curves_settings_and_scores_of_the_result(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("alembic")
    from mlflow import MlflowClient

    result = logged_run(tmp_path, "mlflow")
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs-v1/logs/mlflow.db'}")
    run_id = result.logs["mlflow"].rpartition("/")[2]
    for name, points in curves_of(result).items():
        assert [(m.step, m.value) for m in client.get_metric_history(run_id, name)] == points
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in logged_settings(result.cell).items()}
    assert run.data.tags["metabench.digest"] == result.cell.digest


def log_records(path: Path) -> Iterator[bytes]:
    """The records of an offline run's file: 32 KiB blocks of parts with a checksum, a length and a type."""
    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        length, part = struct.unpack_from("<HB", data, place + 4)
        if left < 7 or part == 0:  # the rest of the block is empty
            place += left
            continue
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (1, 4):  # the whole of a record, or its last part
            yield record
            record = b""


@pytest.mark.slow
def test_weights_and_biases_writes_an_offline_run_with_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    result = logged_run(tmp_path, "wandb:mode=offline")
    (path,) = (tmp_path / "runs-v1" / result.logs["wandb"]).glob("*.wandb")
    records = [Record.FromString(data) for data in log_records(path)]
    items = [(i.key or "/".join(i.nested_key), i.value_json) for r in records for i in r.history.item]
    summary = [(i.key or "/".join(i.nested_key), i.value_json) for r in records for i in r.summary.update]
    for name, points in curves_of(result).items():
        logged = items if name.startswith("validation") else summary
        values = [float(text) for key, text in logged if key == name]
        assert values[-len(points) :] == pytest.approx([value for _, value in points])


def test_a_run_goes_on_without_a_logger_that_raises(tmp_path: Path) -> None:
    registry = load()
    plugin = registry.find("logger", "csv").plugin
    registry.entries("logger")["faulty"] = Entry("logger", "faulty", FaultyLogger, plugin)
    arguments = Arguments(
        [{"name": "nearest-neighbour"}], [], [], [{"name": "blobs"}], tests=["5w1s5q"],
        evaluation={"tasks": 4},
    )  # fmt: skip
    plan = make_plan(
        arguments=arguments, results=tmp_path, registry=registry, backend="cpu:threads=1",
        log=["faulty:fault=open", "csv"],
    )  # fmt: skip
    assert plan.loggers == (Spec("faulty", {"fault": "open"}), Spec("csv"))
    warnings: list[str] = []
    (result,) = execute(plan, warnings.append).results
    assert result.status == "ok"
    assert list(result.logs) == ["csv"]
    assert warnings == [
        "logger 'faulty': open raised OSError: no server; the run goes on without this logger"
    ]
    rows = pd.read_csv(plan.store.folder / result.logs["csv"])
    assert dict(zip(rows.name, rows.value, strict=True)) == pytest.approx(final_scores(result))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("stray", "outside of the folder `logs`"),
        ("absolute", "link must be a URL, or a path"),
        ("shared", "cells share a link"),
        ("curves", "curves(step, values) raised OSError: the server is gone"),
        ("close", "close(None) raised AttributeError"),
    ],
)
def test_fault_of_a_logger_is_named(fault: str, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_logger(FaultyLogger(fault=fault))
    assert message in str(caught.value)


def test_a_logger_that_is_not_installed_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(metabench.UnknownComponent, match="no logger is called 'tensorbord'"):
        metabench.run(**ASKED, log="tensorbord", results=tmp_path)
    assert not list(tmp_path.iterdir())
