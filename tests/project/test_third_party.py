"""A third party's packages, built and installed by pip: a good one runs, a bad one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.shell import ROOT, Shell, install, shell_environment

BROKEN = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "toy-worse"
version = "0.4"

[project.entry-points.metabench]
absent = "toy_worse.absent"
twin = "toy_worse.twin"
wrong = "toy_worse.wrong"

[tool.setuptools]
packages = ["toy_worse"]
""",
    "toy_worse/__init__.py": "",
    "toy_worse/absent.py": "import no_such_module\n",
    "toy_worse/wrong.py": """
from metabench import hookimpl

@hookimpl
def metabench_networks(folder):
    return []
""",
    "toy_worse/twin.py": """
from metabench import hookimpl

@hookimpl
def metabench_algorithms():
    from toy_metabench.learners import Mishap

    class Twin(Mishap):
        "Has the name of another package's algorithm."
        name = "toy-mean"

    Twin.__qualname__ = "Twin"
    return [Twin]
""",
}


def test_third_party_package_is_listed_with_its_version_and_runs_its_suite(shell: Shell) -> None:
    listed = shell.run("list").stdout
    for name in ("toy-mean", "toy-linear", "toy-lines"):
        (line,) = [line for line in listed.splitlines() if line.startswith(f"{name} ")]
        assert "toy-metabench 1.2.3" in line
    assert "A third party's own suite" in listed
    done = shell.run("run", "toy")
    (result,) = shell.results("toy-v3")
    assert result.status == "ok"
    assert result.cell.plugins["algorithm"] == "toy-metabench 1.2.3"
    assert result.scores is not None
    assert len(result.scores.per_task) == 20
    assert result.training is not None
    assert result.training.losses[-1][1] < result.training.losses[0][1]
    assert "toy-mean" in done.stdout


@pytest.fixture(scope="module")
def broken_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with the toy package and a broken one."""
    folder = tmp_path_factory.mktemp("broken")
    package = folder / "toy-worse"
    for name, text in BROKEN.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return install(folder, ROOT / "tests" / "toy_package", package)


def test_broken_package_is_named_with_its_remedies_and_the_rest_works(
    broken_python: str, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, shell_environment(), broken_python)
    listed = shell.run("list")
    output = listed.stdout + listed.stderr
    for plugin, what, remedy in (
        ("absent", "No module named 'no_such_module'", "pip install --force-reinstall toy-worse"),
        ("twin", "'toy-mean' is already provided by plugin 'toy'", "Rename one of them"),
        ("wrong", "its hook metabench_networks has the argument 'folder'", "See the hooks in metabench"),
    ):
        (line,) = [line for line in output.splitlines() if f"plugin '{plugin}' (toy_worse.{plugin})" in line]
        assert "of toy-worse 0.4" in line
        assert what in line
        assert remedy in line
    assert "toy-linear" in listed.stdout

    output = shell.run("run", "toy", "--quiet").stderr
    assert "toy_worse.absent" in output
    (result,) = shell.results("toy-v3")
    assert (result.status, result.cell.plugins["algorithm"]) == ("ok", "toy-metabench 1.2.3")
