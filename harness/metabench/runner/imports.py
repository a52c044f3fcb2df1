"""Who may have code imported by a path: the person who runs, never a suite or a result."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from metabench.errors import RequestError
from metabench.plugins import Registry
from metabench.records.cell import Cell
from metabench.records.imported import module_of
from metabench.records.metric_scores import component_slots


def imports_of(registry: Registry, cell: Cell) -> Iterator[tuple[str, str]]:
    """Yield what a cell would import by a path: the component that names it, and the path."""
    for _, kind, spec in component_slots(cell):
        for name in registry.find(kind, spec.name).cls.imported:
            path = spec.settings.get(name)
            if isinstance(path, str) and path:
                yield f"{kind} {spec.name!r}", path


def require_allowed_imports(registry: Registry, cells: Iterable[Cell], allowed: Collection[str]) -> None:
    """Raise RequestError unless the module of every path that these cells would import is allowed."""
    refused = {
        f"{component} would import {path!r}, which only the person who runs may say; if you trust that code, "
        f"repeat its module: --allow-import {module_of(path)}": None
        for cell in cells
        for component, path in imports_of(registry, cell)
        if module_of(path) not in allowed
    }
    if refused:
        raise RequestError("\n".join(refused))
