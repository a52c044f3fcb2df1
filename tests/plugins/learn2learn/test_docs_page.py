"""The page on learn2learn tells the truth: its examples run as they stand."""

import re
from pathlib import Path

import pytest

from helpers.shell import ROOT, Shell, shell_environment
from metabench_plugins.learn2learn.importing import INSTALL, FromLibrary
from metabench_plugins.learn2learn.install import REQUIREMENTS

PAGE = (ROOT / "docs" / "learn2learn.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def block(containing: str) -> str:
    (text,) = [text for text in BLOCKS if containing in text]
    return str(text)


def test_the_command_is_the_one_that_is_shown_to_users() -> None:
    assert INSTALL in PAGE
    assert "pip install" in PAGE


def test_the_extra_lists_what_the_installer_needs() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["optional-dependencies"]["learn2learn"] == list(REQUIREMENTS)


@pytest.mark.skipif(
    FromLibrary.unavailable() is not None, reason=FromLibrary.unavailable() or "learn2learn is installed"
)
def test_the_examples_run_together_as_a_users_package(tmp_path: Path) -> None:
    """`metabench run` of the algorithm on the data set of the page, made known by the hooks of the page."""
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    for name, text in {
        "__init__": "", "mine": block("ShrinkingMaml(CloneAdapt)"), "data": block("MyTasks(TasksetDataset)"),
        "plugin": block("@hookimpl"),
    }.items():  # fmt: skip
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    metadata = tmp_path / "site" / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[metabench]\nmine = my_package.plugin\n")
    (tmp_path / "mine.toml").write_text(SUITE, encoding="utf-8")
    shell = Shell(tmp_path, shell_environment(tmp_path / "site"))
    shell.run("run", "mine.toml")
    (result,) = shell.results("mine-v1")
    assert result.status == "ok", result.reason
    assert result.cell.plugins["algorithm"] == result.cell.plugins["dataset"] == "my-package 1.0"
    assert result.scores is not None
    assert len(result.scores.per_task) == 12


SUITE = """
name = "mine"
version = 1
title = "My algorithm on my tasks"

[[cells]]
algorithm = {name = "shrinking-maml", inner_rate = 0.05, decay = 0.1}
dataset = "my-tasks"
network = "mlp"
test = {ways = 5, shots = 1, queries = 2}
budget = {steps = 4, tasks = 2}
evaluation = {tasks = 12}
backend = {name = "cpu", threads = 1}
"""
