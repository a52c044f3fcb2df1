"""Checks of the records of reruns beside results: their signatures, and what their own figures say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from metabench.errors import MetabenchError
from metabench.folders import file_digest
from metabench.publishing.findings import Finding
from metabench.publishing.sign import NOT_CHECKED, signed_by
from metabench.publishing.verdict import compare
from metabench.records.cell import Cell
from metabench.records.document import DocumentError, read_document
from metabench.records.files import read_result
from metabench.records.identity import digest_of
from metabench.records.result import Result
from metabench.results.reproductions import (
    LARGEST_RECORD,
    RerunRecord,
    read_record,
    record_files,
    result_of,
)
from metabench.results.signatures import SignatureError, can_check, signers_beside


def record_findings(paths: Iterable[Path], signers: Path | None) -> Iterator[Finding]:
    """Yield what the records beside these results say, and what contradicts them.

    signers: the file with the known keys; None for that of the results repository.
    """
    for folder in dict.fromkeys(path.parent for path in paths):
        known = signers or signers_beside(folder)
        for record in record_files(folder):
            for what, serious in _checked(record, known):
                yield Finding(str(record), "reproduction", what, serious)


def _checked(path: Path, signers: Path) -> Iterator[tuple[str, bool]]:
    """Yield what is wrong with a record (True), or what it says (False)."""
    try:
        if can_check():
            record, signer = read_record(path, signers)
            own = signer.key == signed_by(path.parents[2], signers)
            doubt = "; not counted, since it signed the row itself" if own else ""
            signature = f"signed by {signer}{doubt}"
        else:
            record = RerunRecord.from_json(read_document(path, LARGEST_RECORD))
            signature = NOT_CHECKED
        contradictions = list(_contradictions(record, result_of(path)))
    except (DocumentError, SignatureError, MetabenchError) as error:
        yield str(error), True
    except Exception as error:  # whatever a foreign file makes reading raise, it is no record
        yield f"is no record of a rerun: {error}"[:500], True
    else:
        yield from ((what, True) for what in contradictions)
        if not contradictions:
            yield f"{record.verdict} on {record.machine}, {signature}", False


def _contradictions(record: RerunRecord, file: Path) -> Iterator[str]:
    """Yield what in a record its rerun, or the result beside it, contradicts."""
    old, rerun = read_result(file), Result.from_json(record.rerun)
    if record.result != file_digest(file):
        yield f"is of another content of {file.name}"
        return
    if not same_cell(old.cell, rerun.cell):
        yield f"its rerun is of another cell than {file.name}"
        return
    if record.rerun.get("seal") != digest_of({k: v for k, v in record.rerun.items() if k != "seal"}):
        yield "its rerun was changed after metabench wrote it"
    for name, value in (("machine", rerun.environment.get("machine")), ("date", rerun.started)):
        if getattr(record, name) != value:
            yield f"its {name} is {getattr(record, name)!r:.60}, its rerun says {value!r:.60}"
    verdict = compare(old, rerun).verdict
    if (record.verdict, record.reproduced) != (verdict.value, verdict.confirms):
        yield f"says {record.verdict!r:.60}, its figures say {verdict.value!r}"


def same_cell(first: Cell, second: Cell) -> bool:
    """Return whether two cells ask for the same, as far as their plugins have the same settings."""
    if any(getattr(first, name) != getattr(second, name) for name in _OWN):
        return False
    components, others = first.components(), second.components()
    return components.keys() == others.keys() and all(
        spec.name == others[kind].name and _agree(spec.settings, others[kind].settings)
        for kind, spec in components.items()
    )


_OWN = (
    "suite", "suite_version", "seed", "test", "train", "budget", "evaluation", "weights", "scored", "tuning",
)  # fmt: skip
"""The fields that a rerun takes over from its result as they are."""


def _agree(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return all(first[name] == second[name] for name in first.keys() & second.keys())
