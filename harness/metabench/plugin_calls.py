"""Calls of plugins' code: whatever it raises becomes an error that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from metabench.errors import MetabenchError, PluginError
from metabench.interrupts import noticed_interrupts
from metabench.text import printable


@contextmanager
def plugin_call(what: str, *passes: type[Exception]) -> Iterator[None]:
    """Turn whatever the code of a plugin raises in the block into a PluginError: "`what` raised …".

    So sys.exit and a KeyboardInterrupt of the plugin's own are errors, too. Errors of metabench's own and of
    the kinds that pass do so, and an interrupt of the user's stays one, whatever the plugin makes of it.
    """
    with noticed_interrupts() as interrupted:
        try:
            yield
        except BaseException as error:
            if isinstance(error, (MetabenchError, *passes)):
                raise
            if interrupted():
                raise KeyboardInterrupt from error
            raise PluginError(f"{what} raised {describe_exception(error)}") from error


def describe_exception(error: BaseException) -> str:
    """Return the type and the text of an exception, without control characters."""
    try:
        text = str(error)
    except Exception:  # of a plugin's own class
        text = "its text cannot be read"
    return printable(f"{type(error).__name__}: {text}")
