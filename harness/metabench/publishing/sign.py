"""Signed folders of results: what a machine's folder holds is listed with digests, and the list is signed.

The signature says who published the files and that they are unchanged since. It says nothing of how they
were made: docs/trust.md has what it proves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from metabench.errors import RequestError
from metabench.folders import file_digest
from metabench.publishing.findings import Finding
from metabench.records.document import DocumentError, read_bytes
from metabench.records.files import write_bytes
from metabench.report.destination import require_no_link
from metabench.results import signatures
from metabench.results.cache import REPRODUCED
from metabench.results.signatures import (
    LARGEST_SUMS,
    OF_RESULTS,
    SUMS,
    SUMS_SIGNATURE,
    SignatureError,
    can_check,
    signers_beside,
)
from metabench.results.withdrawn import NAME as WITHDRAWN

UNSIGNED = "unsigned"
NOT_CHECKED = "signature not checked: ssh-keygen is not installed"

NOT_LISTED = (SUMS, SUMS_SIGNATURE, REPRODUCED, WITHDRAWN)
"""What is added after signing: records of reruns, which have signatures of their own, and withdrawals."""

_SUITE_FOLDER = re.compile(r".-v[0-9]+")
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def sign_folder(folder: Path, key: Path) -> list[Path]:
    """Write and sign the list of a machine's folder; return the files written."""
    sums = "".join(f"{file_digest(folder / name)}  {name}\n" for name in _names(folder)).encode(
        errors="surrogateescape"
    )
    signature = signatures.sign(sums, key, OF_RESULTS)
    files = {folder / SUMS: sums, folder / SUMS_SIGNATURE: signature}
    for path, content in files.items():
        require_no_link(folder, path)
        write_bytes(path, content)
    return list(files)


def require_signable(folders: Iterable[Path], key: Path | None) -> None:
    """Raise RequestError where files added to these folders would break a signature.

    A signed folder takes files of its own signer alone: nobody vouches for the results of another.
    """
    own = signatures.fingerprint(key) if key else ""
    for folder in folders:
        if not (folder / SUMS).exists():
            continue
        if not key:
            raise RequestError(f"{folder} is signed: name the key that signed it, with --sign KEY")
        signer = signed_by(folder, signers_beside(folder))
        if signer != own:
            raise RequestError(
                f"{folder} is signed by {signer or 'nobody'}, not by {own}; remove its {SUMS} in a commit "
                "that says why, or run under another METABENCH_MACHINE"
            )


def signed_by(folder: Path, signers: Path) -> str:
    """Return the fingerprint of the key that signed a folder's list; "" where no signature of it is there."""
    try:
        _, signer = _read_sums(folder, signers)
    except (DocumentError, SignatureError):
        return ""
    return signer.key


def signature_findings(paths: Iterable[Path], signers: Path | None) -> Iterator[Finding]:
    """Yield whose signature each published folder of these results has, and what contradicts its list.

    signers: the file with the known keys; None for that of the results repository.
    """
    for folder in published_folders(paths):
        yield from _folder_findings(folder, signers or signers_beside(folder))


def published_folders(paths: Iterable[Path]) -> list[Path]:
    """Return the machines' folders of these files: what a folder of a suite contains."""
    folders = dict.fromkeys(path.parent for path in paths)
    return [folder for folder in folders if _SUITE_FOLDER.search(folder.parent.name)]


def _folder_findings(folder: Path, signers: Path) -> Iterator[Finding]:
    if not (folder / SUMS).exists() and not (folder / SUMS_SIGNATURE).exists():
        yield Finding(str(folder), "signature", UNSIGNED, serious=False)
        return
    if not can_check():
        yield Finding(str(folder), "signature", NOT_CHECKED, serious=False)
    else:
        try:
            _, signer = _read_sums(folder, signers)
            yield Finding(str(folder), "signature", f"signed by {signer}", serious=False)
        except (DocumentError, SignatureError) as error:
            yield Finding(str(folder / SUMS_SIGNATURE), "signature", str(error))
    try:
        listed = _listed(folder)
    except DocumentError as error:
        yield Finding(str(folder / SUMS), "signature", str(error))
        return
    yield from _list_findings(folder, listed)


def _list_findings(folder: Path, listed: Mapping[str, str]) -> Iterator[Finding]:
    present = set(_names(folder))
    for name in sorted(present | listed.keys()):
        if name not in listed:
            yield Finding(str(folder / name), "signature", f"is not listed in {SUMS}: added after signing")
        elif name not in present:
            yield Finding(str(folder / name), "signature", f"is listed in {SUMS}, but absent")
        elif file_digest(folder / name) != listed[name]:
            yield Finding(
                str(folder / name), "signature", f"differs from its digest in {SUMS}: changed after signing"
            )


def _names(folder: Path) -> Iterator[str]:
    """Yield the files of a folder that its list covers, in order."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        regular = path.is_file() and not path.is_symlink()
        if regular and parts[0] not in NOT_LISTED and not _hidden(parts):
            yield PurePosixPath(*parts).as_posix()


def _hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") for part in parts)


def _read_sums(folder: Path, signers: Path) -> tuple[bytes, signatures.Signer]:
    paths = folder / SUMS, folder / SUMS_SIGNATURE
    return signatures.read_signed(*paths, LARGEST_SUMS, OF_RESULTS, signers)


def _listed(folder: Path) -> dict[str, str]:
    """Return the digest of each file that a folder's list names; raises DocumentError for a broken line."""
    text = read_bytes(folder / SUMS, LARGEST_SUMS).decode(errors="surrogateescape")
    listed = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise DocumentError(f"each line must be a SHA-256 and a name, got {line!r:.80}")
        listed[match[2]] = match[1]
    return listed
