"""The code at hand: what stored results are compared with, and what a run's results name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from metabench.folders import cache_folder
from metabench.plugins import Registry
from metabench.records.cell import Cell
from metabench.records.code import CACHE_NAME, Code, CodeReader, changed_code
from metabench.records.result import Result

NAMED = 3
"""At most so many results are named."""


def code_here(registry: Registry, cells: Iterable[Cell]) -> list[Code]:
    """Return the digests of the code that each cell would run with now."""
    reader = CodeReader(cache_folder() / CACHE_NAME)
    return [reader.code_of(registry.classes(cell), cell.plugins) for cell in cells]


def made_by_other_code(registry: Registry, results: Mapping[str, Result]) -> dict[str, tuple[str, ...]]:
    """Return, by digest of the cell, which kinds of component have other code now than made the result.

    Of a result that does not say what code made it there are none.
    """
    here = code_here(registry, [result.cell for result in results.values()])
    kinds = {
        digest: tuple(changed_code(result.code, code))
        for (digest, result), code in zip(results.items(), here, strict=True)
    }
    return {digest: changed for digest, changed in kinds.items() if changed or not results[digest].code}


def code_warnings(results: Mapping[str, Result], other: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return a warning that names the stored results which other code made, where there are any."""
    changed = [f"{results[digest].cell.id} ({', '.join(kinds)})" for digest, kinds in other.items() if kinds]
    unknown = [results[digest].cell.id for digest, kinds in other.items() if not kinds]
    return (
        *_warning(changed, "made by other code than is installed now"),
        *_warning(unknown, "made by code that was not recorded"),
    )


def _warning(named: list[str], what: str) -> Iterable[str]:
    if named:
        were = "1 stored result was" if len(named) == 1 else f"{len(named)} stored results were"
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        listed = ", ".join(named[:NAMED])
        yield f"{were} {what}: {listed}{more}; --rerun measures again"
