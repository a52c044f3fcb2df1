"""`metabench run` without a suite, as a person types it, and `metabench.run` as one calls it."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import metabench
from metabench.cli import metabench as command
from metabench.records.files import read_result
from metabench.runner import make_plan

TYPED = (
    "--algorithm", "nearest-neighbour", "--dataset", "blobs", "--test", "5w1s5q", "--evaluation", "tasks=4",
    "--backend", "cpu:threads=1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def typed(*arguments: str) -> Result:
    """The outcome of `metabench run ARGUMENTS` in this process; its workers are processes of their own."""
    return CliRunner().invoke(command, ["run", *arguments])


def test_a_saved_suite_has_the_cells_whose_results_are_stored(tmp_path: Path) -> None:
    done = typed(*TYPED, "--save-suite", "mine.toml", "--quiet")
    assert done.exit_code == 0, done.output
    plan = make_plan("mine.toml")
    assert plan.to_run == []
    (path,) = (tmp_path / "results/local/mine-v1").glob("*.json")
    stored = read_result(path)
    assert [cell.digest for cell in plan.cells] == [stored.cell.digest]
    assert stored.environment["suite_digest"] == plan.suite_digest


def test_python_runs_without_a_file_in_the_suite_of_such_runs() -> None:
    frame = metabench.run(
        algorithms={"name": "nearest-neighbour"}, datasets="blobs", test="5w1s5q", evaluation={"tasks": 4},
        backend="cpu:threads=1", quiet=True,
    )  # fmt: skip
    assert [*frame["suite"], *frame["version"], *frame["status"]] == ["runs", 1, "ok"]
    again = typed(*TYPED, "--dry-run")
    assert "0 of 1 cells to run; results in results/local/runs-v1" in again.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*TYPED, "--seeds", "0-x"), "must be integers or rising ranges"),
        ((*TYPED, "--seeds", "3-1"), "got '3-1'"),
        (("quick", "--steps", "3"), "name a suite, or components, not both"),
        ((), "a run needs a suite"),
    ],
)
def test_a_mistake_is_named_and_nothing_runs(arguments: tuple[str, ...], message: str) -> None:
    done = typed(*arguments)
    assert message in f"{done.output} {done.exception}"
    assert not Path("results").exists()
