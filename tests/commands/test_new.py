"""`metabench new`: the package of every kind installs, is listed, passes its own test and runs its suite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.shell import ROOT, Shell, shell_environment
from metabench.plugins import KINDS

NAMES = {kind: f"my-{kind}" for kind in KINDS}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one new package of each kind, as the command wrote them."""
    folder = tmp_path_factory.mktemp("new")
    shell = Shell(folder, shell_environment())
    for kind, name in NAMES.items():
        assert f"metabench run {name}" in shell.run("new", kind, name).stdout
    return folder


@pytest.fixture(scope="module")
def site(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The new packages, built and installed by pip."""
    site = tmp_path_factory.mktemp("new-site")
    sources = [str(path) for path in sorted(packages.glob("metabench-my-*"))]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
               "--disable-pip-version-check", "--target", str(site), *sources]  # fmt: skip
    subprocess.run(install, check=True, capture_output=True)
    return site


@pytest.fixture
def shell(tmp_path: Path, site: Path) -> Shell:
    return Shell(tmp_path, shell_environment(site))


def test_new_packages_are_listed_with_their_version(shell: Shell) -> None:
    listed = shell.run("list")
    assert "warning" not in listed.stderr
    for name in NAMES.values():
        lines = [line for line in listed.stdout.splitlines() if line.startswith(f"{name} ")]
        assert len(lines) == 2  # the component, and the suite of that name
        assert all(line.endswith(f"metabench-{name} 0.1.0") for line in lines)


def test_tests_of_new_packages_pass_unchanged(packages: Path, shell: Shell) -> None:
    tests = sorted(str(path) for path in packages.glob("metabench-my-*/tests/test_*.py"))
    assert len(tests) == len(KINDS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *tests]
    done = subprocess.run(command, cwd=shell.folder, env=shell.environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout
    assert f"{len(KINDS)} passed" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_suite_of_a_new_package_runs(shell: Shell, kind: str) -> None:
    name = NAMES[kind]
    options = {
        "executor": ["--executor", name, "--only", "algorithm=protonet"],
        "logger": ["--log", name, "--only", "algorithm=protonet"],
        "report": ["--only", "algorithm=protonet"],
        "algorithm": ["--skip", "algorithm=nearest-neighbour"],
        "metric": [],  # there is no axis of that name
    }
    # beside the algorithm, only the new component's own cell: the built-in's has been seen then
    shell.run("run", name, "--quiet", *options.get(kind, ["--only", f"{kind}={name}"]))
    results = shell.results(f"{name}-v1")
    assert {r.status for r in results} == {"ok"}
    if kind not in ("executor", "logger", "report"):
        assert f"metabench-{name} 0.1.0" in {r.cell.plugins[kind] for r in results}
    if kind == "algorithm":
        assert "metabench 0.1.0" in {r.cell.plugins[kind] for r in results}
    if kind == "logger":
        assert all((shell.folder / f"results/local/{name}-v1" / r.logs[name]).is_file() for r in results)
    if kind == "report":
        shell.run("report", "results/local", "--format", name)
        assert "<table>" in (shell.folder / "report" / f"{name}.html").read_text()


@pytest.mark.parametrize(
    "tool",
    [
        ["ruff", "check", "--line-length", "110", "--select", "E,F,W,I,B,UP"],
        ["ruff", "format", "--line-length", "110", "--check"],
        pytest.param(["mypy", "--strict"], marks=pytest.mark.slow),
    ],
    ids=lambda tool: "-".join(tool[:2]),
)
def test_new_code_is_typed_and_formatted(packages: Path, tool: list[str]) -> None:
    for package in sorted(packages.glob("metabench-my-*")):
        files = [str(path) for path in package.glob("metabench_my_*/*.py")]
        command = [sys.executable, "-m", *tool, *files]
        paths = {**os.environ, "MYPYPATH": f"{ROOT / 'harness'}:{ROOT / 'plugins'}"}
        done = subprocess.run(command, cwd=package, env=paths, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["algoritm", "x"], "no kind of component is called 'algoritm'; did you mean 'algorithm'?"),
        (["algorithm", "maml"], "the algorithm 'maml' is already provided by plugin 'algorithms'"),
        (["algorithm", "My Method"], "'My Method' is no name"),
        (["algorithm", "quick"], "a suite is already called 'quick'"),
        (["algorithm", "x", "--folder", "full"], "full exists and is not empty"),
    ],
)
def test_wrong_request_says_what_to_do(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert message in Shell(tmp_path, shell_environment()).run("new", *arguments, check=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
