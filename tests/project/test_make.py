"""make.py says what to do where the set-up fails, in place of a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.shell import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="stands a shell script in for Python")


def make(job: str, environment: Path) -> subprocess.CompletedProcess[str]:
    """Runs `make.py JOB` with this folder as the environment."""
    return subprocess.run(
        [sys.executable, str(ROOT / "make.py"), job], text=True, capture_output=True,
        env={**os.environ, "METABENCH_VENV": str(environment)},
    )  # fmt: skip


@pytest.mark.parametrize("job", ["quick", "test"])
def test_an_environment_that_cannot_be_made_is_explained(job: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = make(job, tmp_path / "file" / "venv")
    assert ended.returncode == 1
    assert "make.py: cannot make an environment" in ended.stderr
    assert "apt install python3-venv" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("job", ["quick", "test"])
def test_a_pip_that_cannot_install_is_explained(job: str, tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\ncase "$*" in *install*) echo "no such host" >&2; exit 1;; esac\n')
    python.chmod(0o755)
    ended = make(job, tmp_path)
    assert ended.returncode == 1
    assert "no such host" in ended.stderr
    assert "make.py: pip cannot install this" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_another_job_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    ended = make("build", tmp_path)
    assert ended.returncode == 2
    assert "make.py quick" in ended.stderr
    assert "make.py test" in ended.stderr
