"""A plugin that is edited in place: results of the code before are named, never pooled, never published."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.shell import ROOT, Shell, install_editable, shell_environment

pytestmark = pytest.mark.slow


@pytest.fixture
def edited(tmp_path: Path) -> tuple[Shell, Path]:
    """The real command with the toy package installed so that it can be edited, and its learners."""
    python, source = install_editable(tmp_path, ROOT / "tests" / "toy_package")
    environment = {**shell_environment(), "METABENCH_CACHE": str(tmp_path / "cache")}
    return Shell(tmp_path, environment, python), source / "toy_metabench" / "learners.py"


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_flipped_sign_is_seen(edited: tuple[Shell, Path]) -> None:
    shell, learners = edited
    shell.run("run", "toy", "--quiet")
    (before,) = shell.results("toy-v3")

    replace_in(learners, "losses.mean().backward()", "losses.mean().backward()  # of the batch")
    planned = shell.run("run", "toy", "--dry-run").stderr
    assert "stored  toy-mean" in planned
    assert "code" not in planned

    replace_in(learners, "losses.mean().backward()", "(-losses.mean()).backward()")
    planned = shell.run("run", "toy", "--dry-run").stderr
    assert f"1 stored result was made by other code than is installed now: {before.cell.id}" in planned
    assert "(algorithm); --rerun measures again" in planned
    assert "stored, other code  toy-mean" in planned

    shell.run("run", "toy", "--seeds", "0,1", "--quiet")
    labels = re.findall(r"\bcode [0-9a-f]{6}\b", shell.run("report", "results/local").stdout)
    first, second = (result.code for result in shell.results("toy-v3"))
    assert first["algorithm"] != second["algorithm"]
    assert {kind for kind in first if first[kind] != second[kind]} == {"algorithm"}
    assert len(set(labels)) == 2, "the seeds were pooled"

    output = shell.run("verify", "results/local", check=1).stdout
    assert "of the same configuration (algorithm)" in output
    output = shell.run("publish", "results/local", "--to", "published", "--partial", check=1).stdout
    assert "1 of 2 results of toy-v3 were made" in output
    assert "by other code than is installed here: algorithm toy-mean" in output

    shell.run("run", "toy", "--seeds", "0,1", "--quiet", "--rerun")
    assert "code" not in shell.run("run", "toy", "--dry-run").stderr
    assert "code:" not in shell.run("verify", "results/local").stdout
