"""Code that a cell imports by a path, `module:name`: which source or version it is."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path

from metabench.errors import RequestError
from metabench.records.code import INSTALLED, CodeReader

DIGITS = 16
"""Digits of the digest of a source, of the 64 that SHA-256 has."""


def module_of(path: str) -> str:
    """Return the module of `module:name`; raises RequestError for any other form."""
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise RequestError(f"{path!r} must be like mypkg.mymod:predict")
    return module


def content_of(path: str) -> str:
    """Return what a path would import now: a digest of its source, or of an installed package the version.

    The source is that of the module and of all modules beside it that it imports. Nothing is imported but
    packages that hold the module. Raises RequestError where there is no such module.
    """
    module = module_of(path)
    with working_folder_on_path():
        spec = _spec(module.partition(".")[0])
        if spec is None:
            raise RequestError(f"there is no module {module!r}, neither installed nor in {os.getcwd()}")
        place = Path(next(iter(spec.submodule_search_locations or []), spec.origin or ""))
        if INSTALLED & {*place.parts} or spec.origin in ("built-in", "frozen"):
            return _version(module.partition(".")[0])
        if _spec(module) is None:
            raise RequestError(f"there is no module {module!r} in {place}")
        return CodeReader().component(module)[:DIGITS]


@contextmanager
def working_folder_on_path() -> Iterator[None]:
    """Find modules of the folder where one is, too, as `python -m` does."""
    folder = os.getcwd()
    added = folder not in sys.path and "" not in sys.path
    if added:
        sys.path.append(folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if added:
            sys.path.remove(folder)


def _spec(module: str) -> ModuleSpec | None:
    with suppress(ImportError, ValueError):
        return importlib.util.find_spec(module)
    return None


def _version(package: str) -> str:
    names = importlib.metadata.packages_distributions().get(package, [])
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names)))
