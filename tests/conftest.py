"""What all tests share: `--slow`, one thread per test process, and where real data lies."""

import os
from pathlib import Path

import pytest

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
