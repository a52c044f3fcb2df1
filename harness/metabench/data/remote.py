"""The files that a data set needs: what they are, whether they are here, and how to fetch them.

    RemoteFile("omniglot/images_background.zip", ("https://…", "https://…"), md5="68d2…")

`fetch` resumes an interrupted download, tries every mirror in turn, and checks the digest before the file
gets its name; a second process that fetches the same file waits for the first. METABENCH_MIRROR names a
server with the same paths that is tried first. Proxies are taken from the environment (HTTPS_PROXY,
NO_PROXY), as the library requests does.
"""

from __future__ import annotations

import logging
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from metabench.contracts import Dataset
from metabench.data.locks import acquire
from metabench.errors import DataError
from metabench.folders import data_folder, file_digest

if TYPE_CHECKING:
    import requests

TRIES = 4  # of one mirror in a row that give no byte, before the next mirror is tried
WAIT_SECONDS = 1.0  # before the second try; twice as long before each further one
TIMEOUT_SECONDS = 30.0  # without a byte
CHUNK = 1 << 18

log = logging.getLogger("metabench.data")

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, its bytes so far and its size where that is known."""


@dataclass(frozen=True)
class RemoteFile:
    """One file that a data set needs.

    path: below the data folder; urls: mirrors in the order in which they are tried, none where the file
    must be fetched by hand; sha256, md5: its digest, where upstream publishes one; size: its bytes;
    most: a bound on its bytes where the size is not known; by_hand: where a person gets it; content: the
    digest of what is packed in it, by `content_digest`, for files that may be packed in another way.
    """

    path: str
    urls: tuple[str, ...] = ()
    sha256: str = ""
    md5: str = ""
    size: int | None = None
    most: int = 1 << 36
    by_hand: str = ""
    content: str = ""
    content_digest: Callable[[Path], str] | None = None

    @property
    def place(self) -> Path:
        """Return where the file lies on this machine, once it is here."""
        return data_folder() / self.path

    def here(self) -> bool:
        """Return whether the file is at its place, with the right size if that is known; reads no content."""
        try:
            size = self.place.stat().st_size
        except OSError:
            return False
        return size > 0 and self.size in (None, size)

    def fault(self) -> str | None:
        """Return what is wrong with the size or the digest of the file at its place, or None."""
        if not self.place.is_file():
            return f"{self.place} does not exist"
        size = self.place.stat().st_size
        if self.size not in (None, size):
            return f"{self.place} must have {self.size} bytes, got {size}"
        return self._wrong(self.place)

    def is_repacked(self, path: Path) -> bool:
        """Return whether a file holds the known content, however it is packed."""
        if self.content_digest is None or not self.content:
            return False
        try:
            return self.content_digest(path) == self.content
        except DataError:
            return False

    def has_known_bytes(self) -> bool:
        """Return whether the bytes at its place have the known digest."""
        return self._wrong_bytes(self.place) is None

    def _wrong(self, path: Path) -> str | None:
        wrong = self._wrong_bytes(path)
        return None if wrong is None or self.is_repacked(path) else wrong

    def _wrong_bytes(self, path: Path) -> str | None:
        for kind, known in (("sha256", self.sha256), ("md5", self.md5)):
            if known:
                digest = file_digest(path, kind)
                return None if digest == known else f"{path} must have the {kind} {known}, got {digest}"
        return None


class FilesDataset(Dataset):
    """A data set made of files: `files` lists them, `missing` and `metabench data` do the rest."""

    @abstractmethod
    def files(self) -> Sequence[RemoteFile]:
        """Return what must be in the data folder before `load`."""

    def missing(self) -> str | None:
        """Return the first absent file with the command that fetches it, or where a person gets it."""
        absent = [file for file in self.files() if not file.here()]
        if not absent:
            return None
        first = absent[0]
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        if not first.urls:
            return f"{first.place} is absent{more}: {first.by_hand}, and put it there"
        return f"{first.place} is absent{more}: run `metabench data fetch {self.name}`"


def fetch(file: RemoteFile, progress: Progress = lambda name, done, size: None) -> Path:
    """Download the file and return its place; raises DataError with the fault of every mirror."""
    place = file.place
    if place.exists():
        return _sound(file)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with acquire(place.with_name(f"{place.name}.lock"), f"fetches {file.path}"):
            if place.exists():  # another process has fetched it meanwhile
                return _sound(file)
            _download(file, place, progress)
    except OSError as error:
        raise DataError(
            f"{place} cannot be written ({error}); name another folder with METABENCH_DATA or --data"
        ) from None
    return place


def _sound(file: RemoteFile) -> Path:
    fault = file.fault()
    if fault is not None:
        raise DataError(f"{fault}; remove it and run `metabench data fetch`")
    return file.place


def _urls(file: RemoteFile) -> tuple[str, ...]:
    mirror = os.environ.get("METABENCH_MIRROR", "").rstrip("/")
    return (f"{mirror}/{file.path}", *file.urls) if mirror else file.urls


def _download(file: RemoteFile, place: Path, progress: Progress) -> None:
    urls = _urls(file)
    if not urls:
        raise DataError(f"{file.path} cannot be fetched: {file.by_hand}, and put it at {place}")
    part = place.with_name(f"{place.name}.part")
    faults = []
    for url in urls:
        try:
            _from_mirror(file, url, part, progress)
        except DataError as error:
            log.warning("%s: %s", url, error)
            faults.append(f"  {url}: {error}")
            continue
        os.replace(part, place)
        if not (file.sha256 or file.md5):
            log.warning(
                "%s: upstream publishes no digest; its content is checked when it is loaded", file.path
            )
        return
    hint = file.by_hand or "fetch it by other means"
    raise DataError("\n".join([f"no mirror gave {file.path}:", *faults, f"  {hint}, and put it at {place}"]))


def _from_mirror(file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
    """Complete `part` from one mirror and check it; a resumed part that is wrong is fetched again once."""
    for _ in range(2):
        resumed = part.exists() and part.stat().st_size > 0
        _complete(file, url, part, progress)
        wrong = file._wrong(part)
        if wrong is None:
            return
        part.unlink()
        if not resumed:
            break
    raise DataError(wrong.replace(str(part), "its file") if wrong else "")


def _complete(file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
    requests = _requests()
    idle = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _request(file, url, part, progress)
            return
        except requests.HTTPError as error:
            status = error.response.status_code
            if status not in (408, 425, 429, 500, 502, 503, 504):
                raise DataError(f"answered {status} {error.response.reason}") from None
            reason = f"answered {status} {error.response.reason}"
        except requests.RequestException as error:
            reason = _describe(error)
        gained = part.exists() and part.stat().st_size > before
        idle = 0 if gained else idle + 1
        if idle >= TRIES:
            raise DataError(reason)
        time.sleep(0 if gained else WAIT_SECONDS * 2 ** (idle - 1))


def _request(file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
    requests = _requests()
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "metabench", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == 416 and start:  # nothing after `start`: complete, or another file
            if response.headers.get("Content-Range", "").endswith(f"/{start}"):
                return
            part.unlink()
            raise requests.ConnectionError("the part at hand is longer than the file; starting again")
        response.raise_for_status()
        if response.status_code != 206 or not response.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        ):
            start = 0
        size = _size(file, response, start)
        with part.open("ab" if start else "wb") as sink:
            for chunk in response.iter_content(CHUNK):
                start += len(chunk)
                if start > (size or file.most):
                    raise DataError(f"must give {size or file.most} bytes, gave more")
                sink.write(chunk)
                progress(file.path, start, size)


def _size(file: RemoteFile, response: requests.Response, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    size = start + int(length) if length.isdigit() else None
    if file.size is not None and size not in (None, file.size):
        raise DataError(f"must have a file of {file.size} bytes, has one of {size}")
    if size is not None and size > file.most:
        raise DataError(f"must have a file of at most {file.most} bytes, has one of {size}")
    return file.size or size


def _requests() -> ModuleType:
    try:
        import requests
    except ImportError:
        raise DataError(
            "downloads need the library requests: pip install 'metabench[data]', or fetch the file by hand"
        ) from None
    module: ModuleType = requests
    return module


def _describe(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text[:200]}"
