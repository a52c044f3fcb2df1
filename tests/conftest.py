"""What all tests share: `--slow`, one thread per test process, and where real data lies."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from metabench.result import Result
from metabench.store import read_result

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
    """Runs the real command in a scratch folder, with the toy package installed beside metabench."""

    folder: Path
    environment: dict[str, str]

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
        return [sys.executable, "-m", "metabench.cli", *arguments]

    def results(self, suite: str, results: str = "results/local") -> list[Result]:
        """The stored results of a suite, by name of the file."""
        return [read_result(path) for path in sorted((self.folder / results / suite).glob("*.json"))]


@pytest.fixture(scope="session")
def toy_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of site packages with the toy package, built and installed by pip."""
    source = tmp_path_factory.mktemp("toy-source") / "toy"
    shutil.copytree(ROOT / "tests" / "toy_package", source)
    site = tmp_path_factory.mktemp("toy-site")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
               "--disable-pip-version-check", "--target", str(site), str(source)]  # fmt: skip
    subprocess.run(install, check=True, capture_output=True)
    return site


@pytest.fixture
def shell(tmp_path: Path, toy_site: Path) -> Shell:
    """The real command, in a scratch folder, with the toy package installed."""
    return Shell(tmp_path, shell_environment(toy_site))


def shell_environment(*sites: Path) -> dict[str, str]:
    """The environment of a command that sees these folders of site packages too."""
    paths = [*map(str, sites), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error", "COLUMNS": "200"}
