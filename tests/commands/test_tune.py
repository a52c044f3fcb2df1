"""`metabench tune` and tuned rows, as a person runs them: real trials of a small network on sine waves."""

import tomllib
from pathlib import Path

import pytest

from helpers.submissions import run
from metabench.errors import RequestError
from metabench.records.files import read_result

SUITE = """
name = "waves"
version = 1
[defaults]
dataset = "sinusoid"
network = {name = "mlp", hidden = [8]}
test = {ways = 1, shots = 5, queries = 5}
budget = {steps = 4, tasks = 2, validate_every = 2, validation_tasks = 10}
evaluation = {tasks = 10}
tune = {trials = 2}
[[cells]]
algorithm = {name = "maml", inner_rate = 0.02}
[[cells]]
algorithm = "nearest-neighbour"
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    path = tmp_path / "waves.toml"
    path.write_text(SUITE)
    return path


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_ended_and_its_choice_verifies(suite: Path) -> None:
    folder = suite.parent / "results" / "local" / "waves-v1"
    code, printed = run("tune", "waves.toml", "--trials", "1", "--quiet")
    (entry,) = tomllib.loads(printed)["cells"]
    (first,) = (folder / "tuning").glob("*.json")
    written = first.stat().st_mtime_ns

    assert code == 0
    assert entry["algorithm"] == {"name": "maml", "inner_rate": 0.02}
    assert printed.startswith("# trial 0 of 1: validation mse ")
    assert "2 of 2 cells to run, after 1 trials" in run("run", "waves.toml", "--dry-run")[1]

    code, table = run("run", "waves.toml", "--only", "algorithm=maml")
    (result,) = (read_result(path) for path in folder.glob("*.json"))
    trials = [read_result(path) for path in (folder / "tuning").glob("*.json")]

    assert code == 0
    assert "tuning trials" in table
    assert first.stat().st_mtime_ns == written
    assert sorted(trial.cell.tuning["trial"] for trial in trials) == [0, 1]
    assert result.tuning is not None
    scores = {trial.cell.tuning["trial"]: trial.scores for trial in trials}
    means = [sum(scores[number].per_task) / 10 for number in (0, 1)]
    assert [trial.score for trial in result.tuning.trials] == pytest.approx(means, rel=1e-12)
    assert result.cell.tuning["chosen"] == means.index(min(means))
    assert run("verify", str(folder))[0] == 0


def test_a_suite_without_a_search_says_how_to_ask_for_one(suite: Path) -> None:
    with pytest.raises(RequestError, match=r"state `tune = \{trials = N\}`, or give --trials N"):
        run("tune", "waves.toml", "--skip", "algorithm=maml")
