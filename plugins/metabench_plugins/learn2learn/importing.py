"""Imports learn2learn when a component is built, and never before; silences a notice of gym."""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType

from metabench import Component, Skip

INSTALL = "python -m metabench_plugins.learn2learn.install"
"""The command that installs learn2learn."""


@dataclass(frozen=True, kw_only=True)
class FromLibrary(Component):
    """A component that needs learn2learn."""

    @classmethod
    def unavailable(cls) -> str | None:
        """Return None where learn2learn is installed, else the reason and the command that installs it.

        It looks for the package without importing it: the import takes seconds.
        """
        if importlib.util.find_spec("learn2learn") is None:
            return f"learn2learn is not installed; install it with: {INSTALL}"
        return None


def learn2learn() -> ModuleType:
    """Return the library; raise `Skip` with the command that installs it where it is absent.

    Its requirement gym prints at each import that it is no longer maintained. It looks that text up by its
    own version in a table of the package gym-notices; the entry of the installed version is removed from
    the table first, and nothing else is silenced.
    """
    reason = FromLibrary.unavailable()
    if reason is not None:
        raise Skip(reason)
    if "learn2learn" not in sys.modules:
        _silence_gym()
    return importlib.import_module("learn2learn")


def _silence_gym() -> None:
    try:
        notices = importlib.import_module("gym_notices.notices").notices
        notices.pop(metadata.version("gym"), None)
    except (ImportError, AttributeError):
        return  # another gym, or none: its notices stay
