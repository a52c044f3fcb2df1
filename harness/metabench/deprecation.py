"""Retire a public name of metabench: it works for one more release and warns what to use instead.

    def __getattr__(name: str) -> Any:          at the end of the module that had the name
        return renamed(__name__, name, {"old_name": "metabench.learning.new_name"})

A whole contract is retired by `metabench.contracts.DEPRECATED_CONTRACTS`, a hook by pluggy's `warn_on_impl`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any


class MetabenchDeprecationWarning(FutureWarning):
    """A name that works in this release and in no later one was used; shown to users by default."""


def warn_deprecated(what: str, instead: str, *, stacklevel: int = 2) -> None:
    """Warn the caller's caller that `what` is removed in the next release, and what to use instead."""
    message = f"{what} is deprecated and will be removed in the next release of metabench; use {instead}"
    warnings.warn(message, MetabenchDeprecationWarning, stacklevel=stacklevel + 1)


def renamed(module: str, name: str, names: Mapping[str, str]) -> Any:
    """Return the object at the new path of an old name, with a warning, for a module's `__getattr__`.

    names: old name → "package.module.new_name"; raises AttributeError for any other name.
    """
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warn_deprecated(f"{module}.{name}", names[name], stacklevel=3)
    module_path, _, attribute = names[name].rpartition(".")
    return getattr(import_module(module_path), attribute)
