"""`metabench evaluate`, kept states and `weights`: what was learned is scored and started from elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.results import made_cell
from helpers.shell import InProcess, Shell, shell_environment
from metabench import Spec, VariedProtocol
from metabench.commands import evaluate
from metabench.errors import RequestError
from metabench.plugins import load
from metabench.publishing.reproduce import reproduce, run_again
from metabench.publishing.verdict import Verdict
from metabench.records.files import read_result, state_path
from metabench.records.metric_scores import metric_title
from metabench.records.result import Result
from metabench.results.states import read_state, write_state
from metabench.results.store import Store
from metabench.settings import complete
from metabench.suite import read

SUITE = """
name = "kept"
version = 1

[defaults]
network = {name = "conv4", width = 4}
dataset = "glyphs"
test = {ways = 3, shots = 1, queries = 2}
budget = {steps = 4, tasks = 4}
evaluation = {tasks = 8}
backend = {name = "cpu", threads = 1}
"""
METHODS = {"maml": '"maml"', "simpleshot": '{name = "simpleshot", micro = 4}'}


def text(*cells: str) -> str:
    return SUITE + "".join(f"\n[[cells]]\n{cell}\n" for cell in cells)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The files of results with kept states, by algorithm."""
    folder = tmp_path_factory.mktemp("kept")
    shell = InProcess(folder, shell_environment())
    (folder / "kept.toml").write_text(text(*(f"algorithm = {method}" for method in METHODS.values())))
    shell.run("run", "kept.toml", "--quiet")
    files = (folder / "results/local/kept-v1").glob("*.json")
    return {read_result(path).cell.algorithm.name: path for path in files}


@pytest.fixture
def bare(kept: Mapping[str, Path]) -> Shell:
    return InProcess(kept["maml"].parents[3], shell_environment())


def the_scored(path: Path) -> Result:
    """The result that scored the state of this one on its own tasks."""
    original = read_result(path)
    (result,) = (
        other
        for other in map(read_result, path.parent.glob("*.json"))
        if other.cell.scored == original.cell.digest and other.cell.test == original.cell.test
    )
    return result


def test_state_is_kept_with_its_digest_in_the_result(kept: Mapping[str, Path]) -> None:
    for path in kept.values():
        result = read_result(path)
        assert read_state(state_path(path.parent, result.state), result.state)
    assert not (kept["maml"].parent / "checkpoints").exists()


@pytest.mark.parametrize("method", METHODS)
def test_scores_of_a_kept_state_are_those_of_its_result_to_the_bit(
    method: str, kept: Mapping[str, Path], bare: Shell
) -> None:
    bare.run("evaluate", str(kept[method]), "--quiet")
    scored, original = the_scored(kept[method]), read_result(kept[method])
    assert scored.scores is not None and original.scores is not None  # noqa: PT018 - for the types
    assert scored.scores.per_task == original.scores.per_task
    assert scored.scores.manifest == original.scores.manifest
    assert scored.scores.state == "kept"
    assert scored.cell.weights == original.state
    assert scored.training is not None
    assert scored.training.steps == 0


def test_data_set_of_the_training_is_tested_where_it_is_named() -> None:
    registry = load()
    glyphs = Spec.of(registry.find("dataset", "glyphs").cls, {})
    other = replace(glyphs, settings={**glyphs.settings, "variant": 1})
    cell = replace(made_cell("maml"), dataset=glyphs, test_dataset=other, plugins={"test_dataset": "x 1"})

    changed = evaluate._changed(registry, cell, "glyphs", None, None, None, None)

    assert changed.test_dataset is None
    assert changed.tested == glyphs
    assert "test_dataset" not in changed.plugins


def test_named_shape_is_that_of_every_task_of_a_protocol_with_ranges() -> None:
    varied = VariedProtocol(20, 10, 10, least_ways=5)

    assert evaluate._shape(varied, "20w") == VariedProtocol(20, 10, 10, least_ways=20)
    assert str(evaluate._shape(varied, "3w5s")) == "3-way 5-shot"


def test_other_tasks_are_scored_as_a_cell_of_its_own(kept: Mapping[str, Path], bare: Shell) -> None:
    shown = bare.run("evaluate", str(kept["simpleshot"]), "--test", "5w2s", "--tasks", "6").stdout
    assert "5-way 2-shot" in shown
    assert "kept state" in shown
    assert "budget-limited" not in shown  # nothing was trained for it
    assert bare.run("verify", str(kept["simpleshot"].parent), check=None).stdout.count("error") == 0


def test_the_test_of_a_result_is_replaced_as_a_whole() -> None:
    registry = load()
    cell = replace(made_cell(), test=VariedProtocol(5, 3, 2, least_ways=3), test_dataset=Spec("glyphs"))
    cell = replace(cell, dataset=Spec("blobs", complete(registry.find("dataset", "blobs").cls, {})))

    changed = evaluate._changed(registry, cell, "blobs", "4w", "accuracy,ece:bins=5,nll", None, None)

    assert changed.tested == cell.dataset
    assert changed.test_dataset is None
    assert changed.test.spans["ways"] == "4"
    assert [metric_title(spec) for spec in changed.evaluation.metrics] == ["ece:bins=5", "nll"]
    assert {"metric", "metric:ece:bins=5", "metric:nll"} <= changed.plugins.keys()


def test_scored_state_is_scored_again_from_the_file_beside_it_or_another(
    kept: Mapping[str, Path], tmp_path: Path
) -> None:
    original = read_result(kept["simpleshot"])
    cell = replace(original.cell, scored=original.cell.digest, weights=original.state)
    state = state_path(kept["simpleshot"].parent, original.state)
    again = run_again(load(), cell, original, Store(tmp_path), weights={original.state: state})
    path = Store(tmp_path).path(again.cell)

    with pytest.raises(RequestError, match="the weights of its cell must lie at"):
        reproduce(path, tmp_path / "again", quiet=True)
    with pytest.raises(RequestError, match="must have the SHA-256"):
        reproduce(path, tmp_path / "again", quiet=True, weights=path)
    with pytest.raises(RequestError, match="starts from no weights"):
        reproduce(kept["simpleshot"], tmp_path / "again", quiet=True, weights=state)
    assert reproduce(path, tmp_path / "again", quiet=True, weights=state).verdict is Verdict.EXACT
    shutil.copytree(state.parent, path.parent / state.parent.name)
    assert reproduce(path, tmp_path / "again", quiet=True).verdict is Verdict.EXACT


def test_head_of_fixed_size_refuses_other_ways(kept: Mapping[str, Path], bare: Shell) -> None:
    done = bare.run("evaluate", str(kept["maml"]), "--test", "5w", check=1)
    assert "has a head of fixed size: training with 3 ways does not fit a test with 5" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--test", "w"), "must be like 20w5s or 5w1s15q, got 'w'"),
        (("--test", "5000w"), "the ways of the test must be at most"),
        (("--dataset", "sinusoid"), "data set 'sinusoid' must have the same kind"),
        (("--metrics", "acuracy"), "accuracy"),
        (
            ("--metrics", "ece:bins=5,accuracy"),
            "which ranks, has no settings, got 'ece:bins=5'",
        ),
    ],
)
def test_request_that_makes_no_sense_is_refused(
    options: tuple[str, ...], message: str, kept: Mapping[str, Path], bare: Shell
) -> None:
    assert message in bare.run("evaluate", str(kept["simpleshot"]), *options, check=2).stderr


def test_nothing_is_kept_where_a_setting_says_so(tmp_path: Path) -> None:
    shell = InProcess(tmp_path, {**shell_environment(), "METABENCH_KEEP_STATES": "0"})
    (tmp_path / "kept.toml").write_text(text('algorithm = "maml"'))
    shell.run("run", "kept.toml", "--quiet")
    (path,) = (tmp_path / "results/local/kept-v1").glob("*.json")
    assert read_result(path).state == ""
    assert not (path.parent / "states").exists()
    assert "its learned state was not kept" in shell.run("evaluate", str(path), check=2).stderr


@pytest.mark.parametrize(
    ("variable", "value"), [("METABENCH_KEEP_STATES", "yes"), ("METABENCH_CHECKPOINT_SECONDS", "nan")]
)
def test_variable_with_another_value_is_refused(variable: str, value: str, tmp_path: Path) -> None:
    shell = InProcess(tmp_path, {**shell_environment(), variable: value})
    done = shell.run("run", "quick", "--dry-run", check=2)
    assert f"{variable} must be" in done.stderr
    assert value in done.stderr


def test_weights_of_a_network_are_no_part_of_a_cell_without_one(tmp_path: Path) -> None:
    (tmp_path / "backbone.safetensors").write_bytes(b"any")
    (tmp_path / "kept.toml").write_text(
        text(
            'algorithm = "nearest-neighbour"\nnetwork = {name = "conv4", weights = "backbone.safetensors"}',
            'algorithm = "nearest-neighbour"',
        )
    )

    (cell,) = read(load(), str(tmp_path / "kept.toml")).cells

    assert cell.weights == ""


@pytest.mark.slow
def test_cell_starts_from_weights_and_a_changed_file_is_another_cell(
    kept: Mapping[str, Path], tmp_path: Path
) -> None:
    result = read_result(kept["maml"])
    state = read_state(state_path(kept["maml"].parent, result.state))
    shell = InProcess(tmp_path, shell_environment())
    untrained = "budget = {steps = 0}"
    (tmp_path / "kept.toml").write_text(
        text(
            f'algorithm = "maml"\nweights = "{kept["maml"]}"\n{untrained}',
            f'algorithm = "maml"\nweights = "other.safetensors"\n{untrained}',
            'algorithm = {name = "protonet", weights = "other.safetensors"}',
            f'algorithm = "protonet"\nnetwork = {{name = "conv4", width = 4, weights = "other.safetensors"}}'
            f"\n{untrained}",
        )
    )
    write_state(tmp_path / "other.safetensors", {name: 0.5 * tensor for name, tensor in state.items()})
    first = shell.run("run", "kept.toml", check=1)
    assert "INVALID" in first.stderr
    assert "the state must fit the learner: it has" in first.stderr
    by_weights = {r.cell.weights: r for r in shell.results("kept-v1")}
    assert len(by_weights) == 3
    scores, expected = by_weights[result.state].scores, result.scores
    assert scores is not None and expected is not None  # noqa: PT018 - for the types
    assert scores.per_task == expected.per_task
    assert any(weights.startswith("network:") for weights in by_weights)

    write_state(tmp_path / "other.safetensors", {name: 0.25 * tensor for name, tensor in state.items()})
    again = shell.run("run", "kept.toml", "--dry-run").stderr
    assert again.count("stored") == 1


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("absent.safetensors", "no such file"),
        ("model.pt", "must end in .safetensors (no pickle is read)"),
        ("absent.json", "cannot be read"),
    ],
)
def test_weights_that_cannot_be_read_are_a_mistake_of_the_suite(
    weights: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "kept.toml").write_text(text(f'algorithm = "maml"\nweights = "{weights}"'))
    shell = InProcess(tmp_path, shell_environment())
    assert message in shell.run("run", "kept.toml", "--dry-run", check=2).stderr


def test_an_evaluation_is_evaluated_by_the_state_that_it_scored(
    kept: Mapping[str, Path], bare: Shell
) -> None:
    bare.run("evaluate", str(kept["simpleshot"]), "--quiet")
    scored = the_scored(kept["simpleshot"])
    path = kept["simpleshot"].parent / f"{scored.cell.id}.json"

    bare.run("evaluate", str(path), "--tasks", "7", "--quiet")

    again = [result for result in bare.results("kept-v1") if result.cell.evaluation.tasks == 7]
    assert [result.cell.scored for result in again] == [scored.cell.scored]
    assert again[0].scores is not None
    assert scored.scores is not None
    assert again[0].scores.per_task == scored.scores.per_task[:7]


def test_a_metric_is_asked_for_once(kept: Mapping[str, Path], bare: Shell) -> None:
    done = bare.run("evaluate", str(kept["simpleshot"]), "--metrics", "nll,nll", check=2)
    assert "--metrics: must name each metric once, got 'nll,nll'" in done.stderr
