"""What the tests of suites share."""

from pathlib import Path

import pytest

from helpers.suites import Reader
from metabench.plugins import Registry, load
from metabench.suite import Suite, read


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load()


@pytest.fixture
def suite_of(tmp_path: Path, registry: Registry) -> Reader:
    def make(text: str) -> Suite:
        path = tmp_path / "s.toml"
        path.write_text(text)
        return read(registry, str(path))

    return make
