"""The tree of exceptions that metabench raises.

    MetabenchError
    ├── RequestError          the request itself is wrong: the command line ends with exit status 2
    │   ├── SettingError      a component's setting is unknown or has a wrong value
    │   ├── UnknownComponent  no component of that name is installed
    │   └── SuiteError        mistakes in a suite file, all reported at once
    ├── PluginError           a plugin does not keep the contract
    ├── StoreError            results cannot be read or written (a full disk, a foreign file)
    ├── DataError             data is absent, damaged, or leaks between splits
    └── CellEnd               ends the running cell with a status and a reason; raised inside a worker
        ├── Skip              the cell cannot run here (absent hardware, more ranks than tasks)
        ├── Invalid           the cell makes no sense (a network whose output does not fit)
        └── Diverged          the loss is no longer a finite number

Library code raises; only the command line prints and exits.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class MetabenchError(Exception):
    """The base of every error that metabench raises on purpose; its text is written for the user."""


class RequestError(MetabenchError):
    """The request is wrong; nothing has run."""


class SettingError(RequestError):
    """A component's setting is unknown or has a wrong value."""


class UnknownComponent(RequestError):  # noqa: N818 - `except UnknownComponent` reads well
    """No component of that name is installed."""


class SuiteError(RequestError):
    """Mistakes in a suite; `mistakes` lists them, one a line."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("\n".join(self.mistakes))


class PluginError(MetabenchError):
    """A plugin does not keep the contract."""


class StoreError(MetabenchError):
    """Results cannot be read or written."""


class DataError(MetabenchError):
    """Data is absent, damaged, or leaks between splits."""


class CellEnd(MetabenchError):  # noqa: N818 - an outcome, not always an error
    """Ends the running cell with `status` and this error's text as the reason."""

    status: str = "failed"


class Skip(CellEnd):
    """The cell cannot run here; the text is the reason."""

    status = "skipped"


class Invalid(CellEnd):
    """The cell makes no sense; the text is the reason."""

    status = "invalid"


class Diverged(CellEnd):
    """The loss is no longer a finite number."""

    status = "diverged"


def did_you_mean(asked: str, names: Iterable[str]) -> str:
    """Return the end of an error message: the name most like `asked`, if any is, and all known names.

    >>> did_you_mean("sinus", ["omniglot", "sinusoid"])
    "did you mean 'sinusoid'? known: omniglot, sinusoid"
    """
    names = sorted(set(names))
    close = get_close_matches(asked, names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
