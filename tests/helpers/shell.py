"""The real command in a scratch folder, and environments with packages that pip installed."""

import io
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from metabench.cli import main
from metabench.records.files import read_result
from metabench.records.result import Result

ROOT = Path(__file__).parents[2]
"""The top folder of the project."""


@dataclass(frozen=True)
class Shell:
    """Runs the real command in a scratch folder."""

    folder: Path
    environment: dict[str, str]
    python: str = sys.executable

    def run(self, *arguments: str, check: int | None = 0, **more: Any) -> subprocess.CompletedProcess[str]:
        """`metabench ARGUMENTS`; fails unless the exit status is `check` (None: any)."""
        done = subprocess.run(
            self.argv(*arguments), cwd=self.folder, env=self.environment, text=True, capture_output=True,
            timeout=240, **more,
        )  # fmt: skip
        assert check is None or done.returncode == check, done.stdout + done.stderr
        return done

    def argv(self, *arguments: str) -> list[str]:
        """The command line of `metabench ARGUMENTS`."""
        return [self.python, "-m", "metabench.cli", *arguments]

    def results(self, suite: str, results: str = "results/local") -> list[Result]:
        """The stored results of a suite, by name of the file."""
        return [read_result(path) for path in sorted((self.folder / results / suite).glob("*.json"))]


class InProcess(Shell):
    """Runs the same command in the process of the tests, which has loaded torch; its workers are as ever."""

    def run(self, *arguments: str, check: int | None = 0, **more: Any) -> subprocess.CompletedProcess[str]:
        """`metabench ARGUMENTS`; fails unless the exit status is `check` (None: any)."""
        assert not more, "only a process of its own takes these"
        output, errors, status = io.StringIO(), io.StringIO(), 0
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with (
                chdir(self.folder),
                patch.dict(os.environ, self.environment, clear=True),
                redirect_stdout(output),
                redirect_stderr(errors),
            ):
                main(list(arguments))
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, handler)
        assert check is None or status == check, output.getvalue() + errors.getvalue()
        return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())


def install(folder: Path, *packages: Path) -> str:
    """A virtual environment with these packages, built and installed by pip; returns its interpreter.

    It sees the packages of the environment that runs the tests, and needs no network.
    """
    python = _environment(folder)
    wheels = str(folder / "wheels")
    for package in packages:
        source = shutil.copytree(package, folder / "source" / package.name)  # pip builds in the source
        _pip(python, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", wheels, str(source))
        _pip(python, "install", "--no-index", "--find-links", wheels, package_name(package))
    return python


def install_editable(folder: Path, package: Path) -> tuple[str, Path]:
    """A virtual environment with a copy of a package that can be edited; its interpreter, and the copy."""
    python = _environment(folder)
    source = Path(shutil.copytree(package, folder / "source" / package.name))
    _pip(python, "install", "--no-index", "--no-build-isolation", "--no-deps", "--editable", str(source))
    return python, source


def _environment(folder: Path) -> str:
    home = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    site = next(home.glob("lib/python*/site-packages"))
    (site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return str(home / "bin" / "python")


def _pip(python: str, *arguments: str) -> None:
    pip = [python, "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def package_name(package: Path) -> str:
    """The name of the distribution whose source lies in this folder."""
    name: str = tomllib.loads((package / "pyproject.toml").read_text())["project"]["name"]
    return name


def shell_environment(*sites: Path) -> dict[str, str]:
    """The environment of a command that sees these folders of site packages too."""
    paths = [*map(str, sites), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error", "COLUMNS": "200"}


def with_package(site: Path, name: str, code: str) -> Path:
    """A folder for `shell_environment` that holds one plugin package: a module of this name and code."""
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    distribution = name.replace("_", "-")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[metabench]\n{name} = {name}\n")
    (site / f"{name}.py").write_text(code)
    return site
