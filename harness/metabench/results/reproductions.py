"""Records of reruns: what somebody got who ran the cell of a published result again, signed with their key.

<folder of the result>/reproduced/<cell id>/<date>-<key>.json        the record
<folder of the result>/reproduced/<cell id>/<date>-<key>.json.sig    its signature

A record holds the rerun's own result, with its machine, environment and code, and the verdict of comparing.
A row counts the keys that its results repository knows, but for the key that signed the row itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from metabench.errors import MetabenchError
from metabench.folders import file_digest
from metabench.records.document import DocumentError, read_document
from metabench.records.files import write_bytes
from metabench.records.identity import canonical_json
from metabench.results.cache import LINK, REPRODUCED
from metabench.results.signatures import (
    LARGEST_SUMS,
    OF_RERUNS,
    OF_RESULTS,
    SUMS,
    SUMS_SIGNATURE,
    SignatureError,
    Signer,
    can_check,
    read_signed,
    sign,
    signers_beside,
)

VERSION = 1
LARGEST_RECORD = 64 * 2**20


@dataclass(frozen=True)
class RerunRecord:
    """The record of one rerun.

    result: the SHA-256 of the file that was rerun; verdict: in words; reproduced: None where it is undecided;
    findings: errors that `verify` had found in the file; key: the fingerprint of the key that signs this;
    rerun: the rerun's result as JSON.
    """

    result: str
    verdict: str
    reproduced: bool | None
    findings: tuple[str, ...]
    machine: str
    date: str
    key: str
    rerun: Mapping[str, Any]
    record: int = VERSION

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RerunRecord:
        """Return the record in a document; raises ValueError where a field is absent or of another kind."""
        for name, kinds in _KINDS.items():
            if name not in document:
                raise ValueError(f"{name} is absent")
            if not isinstance(document[name], kinds):
                raise ValueError(f"{name} must be {_WORDS[kinds[0]]}, got {document[name]!r:.60}")
        if document["record"] != VERSION:
            raise ValueError(f"record must be {VERSION}, got {document['record']!r:.60}")
        if document.keys() - cls.__dataclass_fields__.keys():
            raise ValueError(f"unknown field {min(document.keys() - cls.__dataclass_fields__.keys())!r:.60}")
        if datetime.fromisoformat(document["date"]).tzinfo is None:
            raise ValueError(f"date must state its time zone, got {document['date']!r:.60}")
        return cls(**{**document, "findings": tuple(map(str, document["findings"]))})

    @property
    def when(self) -> datetime:
        """The time of the rerun."""
        return datetime.fromisoformat(self.date)


_KINDS: Mapping[str, tuple[type, ...]] = {
    "record": (int,), "result": (str,), "verdict": (str,), "reproduced": (bool, type(None)),
    "findings": (list,), "machine": (str,), "date": (str,), "key": (str,), "rerun": (dict,),
}  # fmt: skip
_WORDS = {int: "a number", str: "a text", bool: "true, false or null", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class Reruns:
    """How many known keys reproduced a result, and how many did not."""

    reproduced: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()


def write_record(path: Path, record: RerunRecord, key: Path) -> None:
    """Write the record of a rerun, and its signature beside it."""
    content = canonical_json(asdict(record)).encode()
    signature = sign(content, key, OF_RERUNS)
    write_bytes(path, content)
    write_bytes(signature_of(path), signature)


def record_path(result: Path, record: RerunRecord) -> Path:
    """Return where the record of a rerun of this result lies."""
    when = re.sub(r"[^0-9]", "", record.date)[:14]
    short = re.sub(r"[^A-Za-z0-9]", "", record.key.removeprefix("SHA256:"))[:12]
    return result.parent / REPRODUCED / result.stem / f"{when}-{short}.json"


def signature_of(record: Path) -> Path:
    """Return the file with the signature of a record."""
    return record.with_name(f"{record.name}.sig")


def result_of(record: Path) -> Path:
    """Return the file of the result that a record is of."""
    return record.parents[2] / f"{record.parent.name}.json"


def record_files(folder: Path) -> Iterator[Path]:
    """Yield the files of the records in a folder of results, in the order of their names."""
    top = folder / REPRODUCED
    if top.is_symlink() or not top.is_dir():
        return
    for cell in sorted(top.iterdir()):
        if cell.is_dir() and not cell.is_symlink():
            yield from sorted(cell.glob("*.json"))


def read_record(path: Path, signers: Path) -> tuple[RerunRecord, Signer]:
    """Return a record and who signed it.

    Raises DocumentError or ValueError where it is no record, SignatureError where nobody signed it, or
    another key than it says.
    """
    if path.is_symlink():
        raise DocumentError(LINK)
    document = read_document(path, LARGEST_RECORD)
    record = RerunRecord.from_json(document)
    _, signer = read_signed(path, signature_of(path), LARGEST_RECORD, OF_RERUNS, signers)
    if signer.key != record.key:
        raise SignatureError(f"is signed by {signer.key}, but says {record.key:.60}")
    return record, signer


def reruns_of(files: Iterable[str]) -> dict[str, Reruns]:
    """Return what known keys say of these results, by file; files without a record are left out.

    Of several records of a key the latest counts, and only where it is of the file as it is now. Where
    signatures cannot be checked, nothing counts.
    """
    wanted = {file for file in files if file}
    counted: dict[str, Reruns] = {}
    for name in sorted({os.path.dirname(file) for file in wanted}):
        folder = Path(name)
        by_result: dict[Path, list[Path]] = {}
        for record in record_files(folder):
            by_result.setdefault(result_of(record), []).append(record)
        present = {result: records for result, records in by_result.items() if str(result) in wanted}
        if present and can_check():
            own = _signer_of(folder)
            counted |= {str(result): _count(result, of_it, own) for result, of_it in present.items()}
    return counted


def _count(result: Path, records: Iterable[Path], own: str) -> Reruns:
    signers, digest = signers_beside(result.parent), file_digest(result)
    latest: dict[str, RerunRecord] = {}
    for path in records:
        try:
            record, signer = read_record(path, signers)
        except (DocumentError, ValueError, MetabenchError):  # `verify` says what is wrong with it
            continue
        if not signer.name or signer.key == own or record.result != digest:
            continue
        if signer.key not in latest or latest[signer.key].when < record.when:
            latest[signer.key] = record
    return Reruns(
        frozenset(key for key, record in latest.items() if record.reproduced is True),
        frozenset(key for key, record in latest.items() if record.reproduced is False),
    )


def _signer_of(folder: Path) -> str:
    paths = folder / SUMS, folder / SUMS_SIGNATURE
    try:
        return read_signed(*paths, LARGEST_SUMS, OF_RESULTS, signers_beside(folder))[1].key
    except (DocumentError, SignatureError):
        return ""
