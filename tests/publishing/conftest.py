"""What the tests of publishing share."""

from __future__ import annotations

from pathlib import Path

import pytest

from metabench.commands.new import files


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard's repository as the command writes it."""
    folder = tmp_path_factory.mktemp("skeleton")
    for path, text in files("leaderboard", "tiny"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder
