"""What all tests share: `--slow`, one thread per test process, and where real data lies."""

import os
import shutil
from pathlib import Path

import pytest

from helpers.results import store
from helpers.shell import ROOT, Shell, install, shell_environment
from helpers.submissions import honest

os.environ.setdefault("OMP_NUM_THREADS", "1")


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


@pytest.fixture(scope="session")
def toy_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of a virtual environment that has the toy package."""
    return install(tmp_path_factory.mktemp("toy"), ROOT / "tests" / "toy_package")


@pytest.fixture
def shell(tmp_path: Path, toy_python: str) -> Shell:
    """The real command, in a scratch folder, with the toy package installed."""
    return Shell(tmp_path, shell_environment(), toy_python)


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory, toy_python: str) -> tuple[Path, str]:
    """A folder in which the suite `toy` was run with `--quiet`, to be copied, and what was printed."""
    folder = tmp_path_factory.mktemp("toy-run")
    done = Shell(folder, shell_environment(), toy_python).run("run", "toy", "--quiet")
    return folder, done.stdout + done.stderr


@pytest.fixture
def ran(shell: Shell, toy_run: tuple[Path, str]) -> Shell:
    """The real command where the suite `toy` has been run, with one result, which is `ok`."""
    shutil.copytree(toy_run[0], shell.folder, dirs_exist_ok=True)
    return shell


@pytest.fixture
def stored_results(tmp_path: Path) -> list[Path]:
    """The files of a small set of honest results."""
    return store(tmp_path / "results", honest())
