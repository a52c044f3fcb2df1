"""How a public name of metabench goes: it works for one more release and says what to use instead.

    def __getattr__(name: str) -> Any:          at the end of the module that the name leaves
        return renamed(__name__, name, {"old_name": "metabench.learning.base.new_name"})

A whole contract goes by `metabench.contracts.DEPRECATED_CONTRACTS`, a hook by pluggy's `warn_on_impl`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any


class MetabenchDeprecationWarning(FutureWarning):
    """What was used works in this release and in no later one; shown by default, to users too."""


def warn_deprecated(what: str, instead: str, *, stacklevel: int = 2) -> None:
    """Warns the caller's caller that `what` goes with the next release and names what to use instead."""
    told = f"{what} is deprecated and goes with the next release of metabench; use {instead}"
    warnings.warn(told, MetabenchDeprecationWarning, stacklevel=stacklevel + 1)


def renamed(module: str, name: str, names: Mapping[str, str]) -> Any:
    """What a module's `__getattr__` gives for an old name: the object at its new path, with a warning.

    names: old name → "package.module.new_name"; raises AttributeError for any other name.
    """
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warn_deprecated(f"{module}.{name}", names[name], stacklevel=3)
    home, _, attribute = names[name].rpartition(".")
    return getattr(import_module(home), attribute)
