"""SSH signatures of published files, made and checked by `ssh-keygen -Y` (OpenSSH 8.2 or later).

results/allowed_signers                                the keys that the results repository knows, by name
results/<suite>-v<version>/<machine>/SHA256SUMS        what the folder holds, as `sha256sum -c` reads it
results/<suite>-v<version>/<machine>/SHA256SUMS.sig    its signature
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from metabench.errors import MetabenchError, RequestError
from metabench.records.document import DocumentError, read_bytes

SUMS = "SHA256SUMS"
SUMS_SIGNATURE = f"{SUMS}.sig"
ALLOWED_SIGNERS = "allowed_signers"

OF_RESULTS = "metabench-results"
"""The namespace of signatures of `SHA256SUMS`."""
OF_RERUNS = "metabench-reproduction"
"""The namespace of signatures of reproductions: no signature of one kind passes for the other."""

LARGEST_SUMS = 16 * 2**20
LARGEST_SIGNATURE = 2**16
LARGEST_SIGNERS = 2**20
LONGEST_SECONDS = 60

_GOOD = re.compile(r"^Good .* signature .*(SHA256:[A-Za-z0-9+/=]+)$", re.MULTILINE)
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/=]+")


class SignatureError(MetabenchError):
    """A signature is not of this content, or no signature."""


@dataclass(frozen=True)
class Signer:
    """Whose signature it is: the key's fingerprint, and its name in `allowed_signers` ("" where unknown)."""

    key: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.key})" if self.name else f"{self.key}, a key that {ALLOWED_SIGNERS} lacks"


def can_check() -> bool:
    """Return whether signatures can be checked here: ssh-keygen is installed."""
    return shutil.which("ssh-keygen") is not None


def signers_beside(folder: Path) -> Path:
    """Return where the results repository of a machine's folder lists the keys that it knows."""
    return folder.parent.parent / ALLOWED_SIGNERS


def fingerprint(key: Path) -> str:
    """Return the fingerprint of a private or public key; raises RequestError where the file is no key."""
    _require_tool()
    done = _run(["-l", "-E", "sha256", "-f", str(key)])
    match = _FINGERPRINT.search(done.stdout.decode(errors="replace"))
    if done.returncode or match is None:
        raise RequestError(f"{key}: is no SSH key that ssh-keygen can read: {_complaint(done)}")
    return match[0]


def sign(content: bytes, key: Path, namespace: str) -> bytes:
    """Return the signature of `content` by a key, of which ssh-keygen may ask the passphrase.

    key: a private key, or a public one whose private key an agent holds. Raises RequestError where it cannot
    sign.
    """
    _require_tool()
    done = _run(["-Y", "sign", "-f", str(key), "-n", namespace], content, timeout=None)
    if done.returncode:
        raise RequestError(f"{key}: ssh-keygen cannot sign with it: {_complaint(done)}")
    return done.stdout


def check(content: bytes, signature: bytes, namespace: str, signers: Path) -> Signer:
    """Return who signed `content`; raises SignatureError where this is no signature of it.

    signers: the file with the known keys, which need not exist. A key that it does not allow for this
    namespace, or no longer, is unknown.
    """
    if not can_check():
        raise SignatureError("ssh-keygen is not installed")
    known = b""
    with suppress(DocumentError):  # no list, or none that can be read: no key is known
        known = read_bytes(signers, LARGEST_SIGNERS)
    parts = (content, signature, namespace.encode(), known)
    digest = b"".join(hashlib.sha256(part).digest() for part in parts)
    return _signer_of(_Signed(digest, content, signature, namespace, known))


@dataclass(frozen=True, slots=True)
class _Signed:
    """What a signature is checked of, equal to another one with the same digest."""

    digest: bytes
    content: bytes = field(compare=False)
    signature: bytes = field(compare=False)
    namespace: str = field(compare=False)
    known: bytes = field(compare=False)


@lru_cache(maxsize=256)
def _signer_of(signed: _Signed) -> Signer:
    """Return who signed; a folder's list is asked for with each record, a record by verify and report."""
    with TemporaryDirectory() as name:
        signature_file, signers_file = Path(name, "signature"), Path(name, ALLOWED_SIGNERS)
        signature_file.write_bytes(signed.signature)
        how = ["-n", signed.namespace, "-s", str(signature_file)]
        if signed.known:
            signers_file.write_bytes(signed.known)
            if signer := _known(signature_file, signers_file, how, signed.content):
                return signer
        done = _run(["-Y", "check-novalidate", *how], signed.content)
        if key := _good_key(done):
            return Signer(key)
        raise SignatureError(f"is no signature of this content: {_complaint(done)}")


def read_signed(
    path: Path, signature: Path, largest: int, namespace: str, signers: Path
) -> tuple[bytes, Signer]:
    """Return a file's content and who signed it.

    Raises DocumentError where one of the files is absent or unreadable, SignatureError where they disagree.
    """
    content = read_bytes(path, largest)
    return content, check(content, read_bytes(signature, LARGEST_SIGNATURE), namespace, signers)


def _known(signature: Path, signers: Path, how: Sequence[str], content: bytes) -> Signer | None:
    """Return who signed `content`, by the first name that the list allows for the key; None without one."""
    names = _run(["-Y", "find-principals", "-s", str(signature), "-f", str(signers)]).stdout
    for name in names.decode(errors="replace").splitlines():
        if key := _good_key(_run(["-Y", "verify", "-f", str(signers), "-I", name, *how], content)):
            return Signer(key, name)
    return None


def _good_key(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the fingerprint of the key whose signature ssh-keygen found good; "" where it did not."""
    good = _GOOD.search(done.stdout.decode(errors="replace"))
    return good[1] if good and not done.returncode else ""


def _run(
    arguments: Sequence[str], content: bytes = b"", timeout: float | None = LONGEST_SECONDS
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments], input=content, capture_output=True, timeout=timeout,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise SignatureError("ssh-keygen is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise SignatureError(f"ssh-keygen gave no answer within {LONGEST_SECONDS} s") from error


def _require_tool() -> None:
    if not can_check():
        raise RequestError("signing needs ssh-keygen of OpenSSH 8.2 or later, which is not installed")


def _complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"
