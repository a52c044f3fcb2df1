"""The referee of a results repository that `metabench new leaderboard` wrote, on real runs of its suite."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import metabench
from helpers.keys import allow, made_key, needs_ssh_keygen
from helpers.results import store
from helpers.shell import Shell, install, shell_environment
from helpers.submissions import forged, honest, honest_result, made_cell
from metabench import stats
from metabench.folders import file_digest
from metabench.plugins import load
from metabench.publishing import InstalledSuite, publish, verify, write_readme
from metabench.publishing.installation import Installation
from metabench.publishing.referee import MORE_TASKS, Rules, compare_means, judge, unforeseen
from metabench.publishing.submission import Submission
from metabench.records import Result, Status
from metabench.results.signatures import can_check
from metabench.suite import read

SUITE = """
name = "tiny"
version = 1
title = "Blobs"

[defaults]
dataset = "blobs"
network = "mlp"
test = {ways = 5, shots = 1, queries = 5}
budget = {steps = 20, tasks = 4}
evaluation = {tasks = 400, batch = 50}
backend = {name = "cpu", threads = 1}
seeds = [0]

[[cells]]
[cells.sweep]
algorithm = ["protonet", "nearest-neighbour"]
"""


@dataclass
class Board:
    """A leaderboard's repository without and with a pull request, and the environment that judges it."""

    base: Path
    head: Path
    shell: Shell

    def judge(self, head: Path | None = None, check: int = 0) -> dict[str, Any]:
        """The verdict of the repository's own script."""
        verdict = self.shell.folder / "verdict.json"
        script = [self.base / "referee" / "check.py", self.base, head or self.head, "--verdict", verdict]
        done = subprocess.run(
            [self.shell.python, *map(str, script)], cwd=self.shell.folder, env=self.shell.environment,
            text=True, capture_output=True,
        )  # fmt: skip
        assert done.returncode == check, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(verdict.read_text())
        return document


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """A new leaderboard, and a pull request with the real, signed results of its whole suite."""
    folder = tmp_path_factory.mktemp("board")
    maker = Shell(folder, shell_environment())
    assert "metabench run tiny" in maker.run("new", "leaderboard", "tiny", "--folder", "base").stdout
    base, head = folder / "base", folder / "head"
    (base / "metabench_tiny" / "suites" / "tiny.toml").write_text(SUITE)
    shell = Shell(folder, shell_environment(), install(folder, base))
    allow(base / "results", key := made_key(folder, "alice"))
    shell.run("run", "tiny", "--quiet", "--results", "local")
    shutil.copytree(base, head)
    shell.run("publish", "local/tiny-v1", "--to", "head/results", "--sign", str(key))
    return Board(base, head, shell)


@pytest.mark.slow
@needs_ssh_keygen
def test_an_honest_submission_is_accepted(board: Board) -> None:
    verdict = board.judge()

    assert verdict["verdict"] == "accepted", verdict
    assert verdict["reasons"] == verdict["for_a_person"] == []
    assert "drawn from 2 of 2 new rows, ran again with the evaluation seed" in verdict["rerun"][0]
    assert verdict["rerun"][1].endswith("margin 2 points: equivalent")
    assert len(verdict["tiers"]) == 2
    assert all(": new, tier " in line for line in verdict["tiers"])


@pytest.mark.slow
@needs_ssh_keygen
def test_a_forged_submission_is_rejected_by_its_rerun(board: Board, tmp_path: Path) -> None:
    head = copied(board.head, tmp_path)
    for path in (head / "results").rglob("*.json"):
        forged(path, better)
    for signature in (head / "results").rglob("SHA256SUMS*"):
        signature.unlink()
    write_readme(head / "results")
    assert not board.shell.run("verify", str(head / "results"), "--complete").stdout.count("error")

    verdict = board.judge(head, check=1)

    assert verdict["verdict"] == "rejected"
    (reason,) = verdict["reasons"]
    assert reason.startswith("the rerun does not give the row's score: the mean differs by -")


def better(document: dict[str, Any]) -> None:
    """Four more right answers of 25 in each task, as far as there is room."""
    scores = document["scores"]
    scores["per_task"] = [min(score + 4 / 25, 1.0) for score in scores["per_task"]]


@pytest.mark.slow
@needs_ssh_keygen
def test_an_edited_submission_is_rejected_before_anything_runs(board: Board, tmp_path: Path) -> None:
    head = copied(board.head, tmp_path)
    path = next((head / "results").rglob("protonet-*.json"))
    path.write_text(path.read_text().replace('"wall_seconds":', '"wall_seconds":1'))

    verdict = board.judge(head, check=1)

    assert verdict["rerun"] == []
    reasons = " ".join(verdict["reasons"])
    assert "seal: the file was changed after metabench wrote it" in reasons
    assert "changed after signing" in reasons
    assert str(tmp_path) not in reasons


@pytest.fixture(scope="module")
def merged(skeleton: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with results of a made suite, published, and signed where ssh-keygen is installed."""
    folder = tmp_path_factory.mktemp("merged")
    head = copied(skeleton, folder)
    key = made_key(folder, "alice") if can_check() else None
    publish(verify(store(folder / "local", honest([0]))), head / "results", key)
    return head


def copied(repository: Path, folder: Path) -> Path:
    return Path(shutil.copytree(repository, folder / "head"))


def test_results_that_cannot_run_here_in_time_are_left_to_a_person(
    skeleton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.toml").write_text(
        SUITE.replace('["protonet", "nearest-neighbour"]', '["nearest-neighbour"]')
    )
    metabench.run(str(tmp_path / "tiny.toml"), results=str(tmp_path / "local"), quiet=True)
    suite = read(load(), str(tmp_path / "tiny.toml"))
    installed = {"tiny-v1": InstalledSuite(suite.cells, file_digest(suite.path))}
    monkeypatch.setattr(Installation, "suites", lambda self, folders: installed)
    head = copied(skeleton, tmp_path)
    publish(verify([tmp_path / "local"]), head / "results")
    write_readme(head / "results")

    judgement = judge(skeleton, head, Rules(["metabench"], minutes=0.0))

    assert judgement.reasons == ()
    assert judgement.for_a_person == ("none of the new rows can be run again here",)
    assert judgement.verdict == "undecided"
    (line,) = judgement.tiers
    assert line.startswith("tiny v1, blobs 5-way 1-shot: nearest-neighbour, no network, cpu × 1, on ")
    assert line.endswith(": new, tier 1")


def test_a_row_of_another_suite_or_plugin_is_rejected(skeleton: Path, merged: Path) -> None:
    judgement = judge(skeleton, merged, Rules(["Other_Package"]))

    assert judgement.verdict == "rejected"
    reasons = " ".join(judgement.reasons)
    assert "made-v1 is no suite of this leaderboard" in reasons
    assert "the algorithm 'protonet' is of metabench, which is not on the list of plugins" in reasons
    assert "no installed plugin provides the dataset 'made-images'" in reasons
    assert "results/README.md is not what the results make" in reasons
    assert judgement.rerun == ()
    assert Rules(["other.package"]).allow("Other_Package")


def test_an_error_that_was_there_before_rejects_nothing(merged: Path, tmp_path: Path) -> None:
    head = copied(merged, tmp_path)
    base = Path(shutil.copytree(merged, tmp_path / "base"))
    for place in (base, head):
        path = next((place / "results").rglob("protonet-*.json"))
        path.write_text(path.read_text() + " ")
    write_readme(head / "results")

    assert judge(base, head, Rules(["metabench"])).reasons == ()


def submission(merged: Path, tmp_path: Path, change: Callable[[Path, Path], Any]) -> Submission:
    """What differs where a pull request makes a change to results that are published."""
    head = copied(merged, tmp_path)
    change(head, next((head / "results").rglob("protonet-*.json")))
    return Submission.between(merged, head)


@needs_ssh_keygen
def test_published_results_and_their_signature_stay(merged: Path, tmp_path: Path) -> None:
    def change(head: Path, path: Path) -> None:
        path.write_text("{}")
        path.with_name("SHA256SUMS.sig").unlink()

    edited = submission(merged, tmp_path, change)

    violations = list(edited.violations())
    assert any(line.endswith(".json is changed: published results stay") for line in violations)
    assert any("was signed by SHA256:" in line and line.endswith("now by nobody") for line in violations)
    assert edited.rows == []


@pytest.mark.parametrize(
    "name",
    [
        "referee/plugins.txt", ".github/workflows/referee.yml", "results/allowed_signers",
        "results/withdrawn.toml", "results/made-v1/run.sh", "metabench_tiny/suites/tiny.toml",
    ],
)  # fmt: skip
def test_what_is_no_result_is_left_to_a_person(merged: Path, tmp_path: Path, name: str) -> None:
    edited = submission(merged, tmp_path, lambda head, path: (head / name).write_text("x"))

    assert list(edited.for_a_person()) == [f"{name} is changed: a maintainer has to read it"]
    assert list(edited.violations()) == []


@needs_ssh_keygen
def test_a_learned_state_has_the_name_of_its_content(merged: Path, tmp_path: Path) -> None:
    def change(head: Path, path: Path) -> None:
        (path.parent / "states").mkdir()
        for name in (hashlib.sha256(b"a").hexdigest(), "b" * 64):
            (path.parent / "states" / f"{name}.safetensors").write_bytes(b"a")

    added = submission(merged, tmp_path, change)

    (violation,) = added.violations()
    assert violation.endswith(f"{'b' * 64}.safetensors is not the state that its name says")
    assert list(added.for_a_person()) == []


def test_without_ssh_keygen_a_person_looks_at_signatures(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    edited = submission(merged, tmp_path, lambda head, path: path.with_name("SHA256SUMS").write_text("x"))

    assert list(edited.violations()) == []
    assert list(edited.for_a_person()) == ["signatures could not be checked: ssh-keygen is not installed"]


def test_links_and_what_git_keeps_are_not_followed(merged: Path, tmp_path: Path) -> None:
    def change(head: Path, path: Path) -> None:
        (head / ".git").mkdir()
        (head / ".git" / "config").write_text("x")
        (head / "all").symlink_to("/")
        os.mkfifo(head / "fifo")

    assert submission(merged, tmp_path, change).added == ("all", "fifo")


@needs_ssh_keygen
def test_results_that_others_published_unsigned_are_signed_by_no_stranger(
    merged: Path, tmp_path: Path
) -> None:
    unsigned = copied(merged, tmp_path)
    for signature in (unsigned / "results").rglob("SHA256SUMS*"):
        signature.unlink()

    signed = Submission.between(unsigned, merged)

    assert [line.partition(" ")[2] for line in signed.for_a_person()] == [
        "signs results that were published unsigned"
    ]


def test_the_seed_of_the_rerun_is_drawn_when_it_runs() -> None:
    cell = made_cell()
    seeds = {unforeseen(cell, Rules([]).chance).evaluation.seed for _ in range(20)}

    assert len(seeds) == 20
    assert unforeseen(cell, Random(0)).evaluation.tasks == MORE_TASKS * cell.evaluation.tasks
    assert unforeseen(cell, Random(0)).budget == cell.budget


def scored(mean: float, tasks: int, seed: int) -> Result:
    result = honest_result()
    assert result.scores is not None
    noise = np.random.default_rng(seed).normal(mean, 0.1, tasks)
    return replace(result, scores=replace(result.scores, per_task=tuple(noise.tolist())))


@pytest.mark.parametrize(
    ("shift", "equal", "different"), [(0.0, 0.97, 0.0), (0.02, 0.0, 0.0), (0.05, 0.0, 0.97)]
)
def test_means_over_other_tasks_are_judged_with_few_mistakes(
    shift: float, equal: float, different: float
) -> None:
    """Scores of 600 tasks with a deviation of 10 points, reruns of four times as many."""
    outcomes = [
        compare_means(scored(0.7 + shift, 600, 2 * i), scored(0.7, 2400, 2 * i + 1)) for i in range(200)
    ]

    equivalent = sum(not outcome.against and not outcome.undecided for outcome in outcomes) / 200
    against = sum(bool(outcome.against) for outcome in outcomes) / 200

    assert equivalent >= equal
    assert against >= different
    if not different:
        assert against <= 0.08  # at a shift of exactly the margin: 5 %
    if not equal:
        assert equivalent <= 0.08


def test_a_rerun_that_measured_nothing_decides_nothing() -> None:
    old = honest_result()
    new = replace(old, status=Status.SKIPPED, scores=None, reason="no GPU here")

    assert compare_means(old, new).undecided == ("the rerun ended as skipped: no GPU here",)


def test_unpaired_difference_covers_the_truth() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(1000):
        difference = stats.unpaired_difference(rng.normal(1.0, 1, 30), rng.normal(0.6, 3, 60))
        inside += abs(float(difference.mean) - 0.4) <= float(difference.half_width())

    assert 0.93 <= inside / 1000 <= 0.97
