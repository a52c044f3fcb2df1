"""What all tests share: `--slow`, one thread per test process, and where real data lies."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from made_results import store
from metabench.result import Result
from metabench.store import read_result
from submissions import honest

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="runs for minutes; run it with --slow"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real Omniglot archives; tests that want it are skipped where it is absent."""
    folder = Path(os.environ.get("METABENCH_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "omniglot" / "images_background_small1.zip").exists():
        pytest.skip("no Omniglot archives: METABENCH_DATA names no folder with omniglot/*.zip")
    return folder


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


def install(folder: Path, *packages: Path) -> str:
    """A virtual environment with these packages, built and installed by pip; returns its interpreter.

    It sees the packages of the environment that runs the tests, and needs no network.
    """
    home = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    site = next(home.glob("lib/python*/site-packages"))
    (site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    python = str(home / "bin" / "python")
    wheels = str(folder / "wheels")
    for package in packages:
        source = shutil.copytree(package, folder / "source" / package.name)  # pip builds in the source
        _pip(python, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", wheels, str(source))
        _pip(python, "install", "--no-index", "--find-links", wheels, package_name(package))
    return python


def _pip(python: str, *arguments: str) -> None:
    pip = [python, "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def package_name(package: Path) -> str:
    """The name of the distribution whose source lies in this folder."""
    name: str = tomllib.loads((package / "pyproject.toml").read_text())["project"]["name"]
    return name


@pytest.fixture(scope="session")
def toy_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of a virtual environment that has the toy package."""
    return install(tmp_path_factory.mktemp("toy"), ROOT / "tests" / "toy_package")


@pytest.fixture
def shell(tmp_path: Path, toy_python: str) -> Shell:
    """The real command, in a scratch folder, with the toy package installed."""
    return Shell(tmp_path, shell_environment(), toy_python)


def shell_environment(*sites: Path) -> dict[str, str]:
    """The environment of a command that sees these folders of site packages too."""
    paths = [*map(str, sites), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error", "COLUMNS": "200"}


@pytest.fixture
def stored_results(tmp_path: Path) -> list[Path]:
    """The files of a small set of honest results."""
    return store(tmp_path / "results", honest())
