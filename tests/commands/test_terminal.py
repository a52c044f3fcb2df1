"""No text of a plugin or of a path reaches the terminal with its control characters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.shell import Shell, shell_environment, with_package

LOUD = """
"A package whose every text moves the cursor and sets the title."
from dataclasses import dataclass
from metabench import Backend, hookimpl, setting

ESCAPE = "\\x1b[2J\\x1b]0;owned\\x07\\x9b"

@dataclass(frozen=True, kw_only=True)
class Loud(Backend):
    name = "loud"
    volume: str = setting(ESCAPE, ESCAPE)
    def open(self): ...
    @classmethod
    def unavailable(cls): return ESCAPE

Loud.__doc__ = ESCAPE

@hookimpl
def metabench_backends(): return [Loud]

@hookimpl
def metabench_suites(): raise ValueError(ESCAPE)
"""


@pytest.fixture
def loud(tmp_path: Path) -> Shell:
    """The real command with that package installed."""
    return Shell(tmp_path, shell_environment(with_package(tmp_path / "site", "loud_package", LOUD)))


@pytest.mark.parametrize(
    ("command", "status"),
    [("list backends", 0), ("show loud", 0), ("show nothing\x1b[2J", 2), ("report no\x1b[2Jwhere", 2)],
)
def test_no_control_character_reaches_the_terminal(loud: Shell, command: str, status: int) -> None:
    done = loud.run(*command.split(), check=status)

    text = done.stdout + done.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert "2J" in text
