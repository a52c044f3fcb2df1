"""`metabench reproduce` and the paired timing cell, on cells that really run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import metabench
from helpers.submissions import edited as edit
from helpers.submissions import forged, honest_result, made_cell, run
from helpers.waves import run_waves
from metabench import Result, Spec
from metabench.errors import RequestError
from metabench.publishing.reproduce import reproduce
from metabench.publishing.verdict import Verdict, compare
from metabench.records import Status
from metabench.records.files import read_result


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a result that a real run left."""
    return run_waves(tmp_path_factory.mktemp("ran"))


def test_a_result_is_reproduced_from_nothing_but_its_file(ran: Path, tmp_path: Path) -> None:
    alone = sealed(ran, tmp_path, lambda t: t["cell"]["plugins"].update(algorithm="metabench 0.0.9"))

    again = reproduce(alone, tmp_path / "again", quiet=True)

    assert again.verdict is Verdict.EXACT
    assert again.confirmed
    assert again.lines[0] == "algorithm 'maml': made with metabench 0.0.9, here is metabench 0.1.0"
    assert again.lines[1] == "every task scores exactly as before"
    assert again.new.cell.plugins == read_result(ran).cell.plugins  # of the code that ran, in the same order
    assert again.new.environment["suite_digest"] == again.old.environment["suite_digest"]
    assert (tmp_path / "again" / "waves-v1" / ran.name).exists()


def test_varied_shapes_and_further_metrics_are_reproduced(tmp_path: Path) -> None:
    (tmp_path / "mixed.toml").write_text(
        """
name = "mixed"
version = 1

[[cells]]
algorithm = "nearest-neighbour"
dataset = "glyphs"
test = {ways = [3, 5], shots = [1, 2], queries = 2}
evaluation = {tasks = 8, metrics = ["accuracy", {name = "macro-f1"}]}
backend = {name = "cpu", threads = 1}
"""
    )
    metabench.run(str(tmp_path / "mixed.toml"), results=str(tmp_path / "results"), quiet=True)
    (path,) = (tmp_path / "results" / "mixed-v1").glob("*.json")

    again = reproduce(path, tmp_path / "again", quiet=True)

    assert again.verdict is Verdict.EXACT
    assert again.new.cell.digest == again.old.cell.digest
    assert again.new.cell.plugins["metric:macro-f1"].startswith("metabench ")


def test_a_forgery_that_verify_cannot_see_is_not_reproduced(ran: Path, tmp_path: Path) -> None:
    def better(document: dict[str, Any]) -> None:
        document["scores"]["per_task"] = [score * 0.99 for score in document["scores"]["per_task"]]

    again = reproduce(sealed(ran, tmp_path, better), tmp_path / "again", quiet=True)

    assert not again.errors
    assert again.verdict is Verdict.DIFFERENT
    assert "the cell repeats to the bit, but its scores do not" in again.lines[0]


def test_the_command_says_first_that_a_file_was_edited(ran: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(ran, tmp_path))
    edit(path, lambda t: t.update(wall_seconds=77.0))

    code, text = run("reproduce", str(path), "--quiet", "--results", str(tmp_path / "again"))

    assert code == 1
    assert text.startswith(f"error: {path}: seal: the file was changed")
    assert "reproduced to the bit: maml-" in text
    assert "the file itself has 1 errors" in text


def sealed(ran: Path, folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of the result, changed and sealed anew."""
    return forged(Path(shutil.copy(ran, folder)), change)


def edited(ran: Path, folder: Path, **changed: Any) -> Path:
    """A file with that result, some fields of whose cell are changed."""
    document = json.loads(ran.read_text())
    for name, value in changed.items():
        both = isinstance(value, dict) and isinstance(document["cell"][name], dict)
        document["cell"][name] = {**document["cell"][name], **value} if both else value
    path = folder / "edited.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"suite": "../x"}, "its suite '../x' cannot be the name of a folder"),
        ({"suite": 3}, "its suite 3 cannot"),
        ({"suite_version": "1/../../x"}, "its suite_version must be an integer ≥ 0, got '1/../../x'"),
        ({"seed": "../../x"}, "its seed must be an integer ≥ 0, got '../../x'"),
        ({"test": {"shots": "../x"}}, "'shots'"),
        ({"backend": {"settings": {"ranks": "/../x"}}}, "cannot be the name of a file"),
        ({"backend": {"name": "cpu-ranks", "settings": {"rdzv_endpoint": "host:1"}}}, "connect this machine"),
        ({"backend": {"name": "cpu-ranks", "settings": {"nnodes": 2}}}, "connect this machine"),
        ({"algorithm": {"settings": {"stepz": 1}}}, "'maml' has no setting 'stepz'"),
        ({"algorithm": {"name": ["maml"]}}, "edited.json"),
        ({"suite": "\x1b[2J"}, "its suite"),
    ],
)
def test_a_cell_that_makes_no_sense_runs_and_writes_nothing(
    ran: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=re.escape(message)) as caught:
        reproduce(edited(ran, tmp_path, **changed), tmp_path / "deep" / "again", quiet=True)
    assert "\x1b" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["edited.json"]


def test_a_cell_of_a_plugin_that_is_not_here_says_what_to_install(ran: Path, tmp_path: Path) -> None:
    document = json.loads(ran.read_text())
    document["cell"]["algorithm"]["name"] = "elsewhere"
    document["cell"]["plugins"]["algorithm"] = "other-package 1.0"
    foreign = tmp_path / "foreign.json"
    foreign.write_text(json.dumps(document))

    with pytest.raises(RequestError, match=r"made with other-package 1\.0: install it"):
        reproduce(foreign, tmp_path / "again", quiet=True)


def test_a_file_that_is_no_result_is_a_mistake_in_the_request(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")

    with pytest.raises(RequestError, match="no result"):
        reproduce(tmp_path / "x.json", tmp_path / "again")


def test_the_published_file_is_never_replaced(ran: Path) -> None:
    with pytest.raises(RequestError, match="would replace it"):
        reproduce(ran, ran.parent.parent)


def rerun(old: Result, **changes: Any) -> Result:
    """What a rerun with other rounding gives: losses that differ in the sixth digit."""
    assert old.training is not None
    losses = tuple((step, loss * (1 + 1e-6)) for step, loss in old.training.losses)
    return replace(old, training=replace(old.training, losses=losses), **changes)


def scored(result: Result, scores: Any, **changes: Any) -> Result:
    assert result.scores is not None
    per_task = tuple(float(score) for score in scores)
    return replace(result, scores=replace(result.scores, per_task=per_task, **changes))


def per_task(result: Result) -> NDArray[np.float64]:
    assert result.scores is not None
    return np.array(result.scores.per_task)


def retrained(old: Result, accuracy: float = 0.7) -> Result:
    """A result whose training took another course, as on other hardware."""
    other = honest_result(replace(old.cell, seed=99), accuracy)
    return replace(other, cell=old.cell)


def test_equal_scores_are_reproduced_to_the_bit_or_to_rounding() -> None:
    old = honest_result()

    assert compare(old, old).verdict is Verdict.EXACT
    assert compare(old, rerun(scored(old, per_task(old) + 1e-8))).verdict is Verdict.ROUNDING


def test_another_training_is_reproduced_within_the_margin_and_the_moved_tasks_are_counted() -> None:
    old = honest_result()
    near = compare(old, retrained(old))

    assert near.verdict is Verdict.MARGIN
    moved = int((per_task(retrained(old)) != per_task(old)).sum())
    assert f"in {moved} of 600 tasks" in near.lines[0]
    assert compare(old, retrained(old, 0.6)).verdict is Verdict.DIFFERENT


@pytest.mark.parametrize("points", [0.2, 1.0, 1.5])
@pytest.mark.parametrize("course", ["to the bit", "to rounding", "another"])
def test_scores_raised_in_the_file_are_not_reproduced(points: float, course: str) -> None:
    honest = honest_result()
    raised = per_task(honest)
    chosen = np.random.default_rng(0).permutation(600)[: int(points / 100 * 75 * 600)]
    raised[chosen] = np.minimum(1.0, raised[chosen] + 1 / 75)
    losses = {"to the bit": 1.0, "to rounding": 1 + 1e-6, "another": 1.3}[course]
    assert honest.training is not None
    training = replace(
        honest.training, losses=tuple((step, loss * losses) for step, loss in honest.training.losses)
    )
    old = replace(scored(honest, raised), training=training)

    assert compare(old, honest).verdict is Verdict.DIFFERENT


def test_a_few_answers_that_rounding_flips_are_within_the_margin() -> None:
    old = honest_result()
    flipped = per_task(old)
    flipped[:3] = [flipped[0] + 1 / 75, flipped[1] - 1 / 75, flipped[2] + 1 / 75]

    assert compare(old, rerun(scored(old, flipped))).verdict is Verdict.MARGIN


def test_one_forged_task_of_a_cell_that_trains_nothing_is_not_reproduced() -> None:
    old = replace(honest_result(made_cell(test_tasks=12)), training=None)
    scores = per_task(old)
    scores[0] = 1.0

    assert compare(scored(old, scores), old).verdict is Verdict.DIFFERENT
    elsewhere = replace(old, environment={**old.environment, "machine": "other"})
    assert compare(scored(old, scores), elsewhere).verdict is not Verdict.DIFFERENT


def test_few_tasks_decide_nothing() -> None:
    old = honest_result(made_cell(test_tasks=12))

    assert compare(old, retrained(old)).verdict is Verdict.UNDECIDED


def test_other_test_tasks_are_no_reproduction_unless_another_data_set_drew_them() -> None:
    old = honest_result()
    new = scored(old, per_task(old), manifest="0" * 64)
    upgraded = replace(new, cell=replace(new.cell, plugins={**new.cell.plugins, "dataset": "metabench 9"}))

    assert compare(old, new).verdict is Verdict.DIFFERENT
    assert "the test tasks are others" in compare(old, new).lines[0]
    assert compare(old, upgraded).verdict is Verdict.UNDECIDED
    tested = replace(new.cell, test_dataset=Spec("glyphs"))
    both = [replace(result, cell=replace(tested, plugins=result.cell.plugins)) for result in (old, upgraded)]
    assert compare(*both).verdict is Verdict.DIFFERENT  # the tested data set is of the same plugin


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (("ok", ""), ("skipped", "no GPU"), Verdict.UNDECIDED),
        (("failed", "a"), ("failed", "b"), Verdict.UNDECIDED),
        (("failed", "a"), ("failed", "a"), Verdict.OUTCOME),
        (("diverged", "loss is nan"), ("diverged", "loss is nan"), Verdict.OUTCOME),
        (("ok", ""), ("out-of-memory", "a"), Verdict.UNDECIDED),
        (("ok", ""), ("diverged", "loss is nan"), Verdict.DIFFERENT),
        (("diverged", "loss is nan"), ("ok", ""), Verdict.DIFFERENT),
        (("ok but no scores", ""), ("ok", ""), Verdict.UNDECIDED),
    ],
)
def test_outcomes_without_scores_confirm_little(
    before: tuple[str, str], now: tuple[str, str], verdict: Verdict
) -> None:
    def ended(status: str, reason: str) -> Result:
        result = honest_result()
        scores = result.scores if status == "ok" else None
        return replace(result, status=Status(status.partition(" ")[0]), reason=reason, scores=scores)

    assert compare(ended(*before), ended(*now)).verdict is verdict


@pytest.mark.parametrize(
    ("factor", "machine", "verdict"),
    [(20, "same", Verdict.DIFFERENT), (2, "same", Verdict.EXACT), (20, "other", Verdict.EXACT)],
)
def test_training_times_of_one_machine_agree_within_a_factor(
    factor: float, machine: str, verdict: Verdict
) -> None:
    new = honest_result()
    assert new.training is not None
    environment = new.environment if machine == "same" else {**new.environment, "machine": "other"}
    training = replace(new.training, seconds=new.training.seconds / factor)

    comparison = compare(replace(new, training=training, environment=environment), new)

    assert comparison.verdict is verdict
    assert ("differ by more than a factor of 3" in comparison.lines[1]) == (verdict is Verdict.DIFFERENT)
