"""Archives read in place: nothing is unpacked to disk, so no member can land outside a folder.

    for name, content in members(path): …

The name and the declared size of every member are checked before it is read, and the bytes read are
counted: absolute names, `..`, links, devices, sizes past the bounds and zip bombs raise DataError.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from metabench.errors import DataError

MAX_MEMBER_BYTES = 1 << 30
MAX_TOTAL_BYTES = 1 << 36
MAX_RATIO = 200  # of a zip member's bytes to its compressed ones, above a MiB; deflate's own limit is 1032
MAX_MEMBERS = 5_000_000
MAX_HEADER_BYTES = 1 << 20  # of one extended header of a tar, which is read into memory

Wanted = Callable[[str], bool]


def members(
    path: Path,
    wanted: Wanted = lambda name: True,
    *,
    max_member_bytes: int = MAX_MEMBER_BYTES,
    max_total_bytes: int = MAX_TOTAL_BYTES,
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the wanted files of a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz.

    The order is the archive's. All members are checked, wanted or not. Raises DataError, naming archive
    and member, where a member is unsafe or damaged.
    """
    read = _zip if zipfile.is_zipfile(path) else _tar
    total = count = 0
    try:
        for name, size, opened in read(path):
            count += 1
            if size > max_member_bytes or total + size > max_total_bytes or count > MAX_MEMBERS:
                raise DataError(f"{path}: with the member {name!r} it is larger than the bounds allow")
            if wanted(name):
                content = _content(opened, size, f"{path}: the member {name!r}")
                total += len(content)
                yield name, content
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())  # tarfile lists the packings it tried, one a line
        raise DataError(f"{path} is damaged ({reason}); remove it and fetch it again") from error
    except (NotImplementedError, RuntimeError, zlib.error, lzma.LZMAError) as error:  # encrypted, damaged
        raise DataError(f"{path} cannot be unpacked ({error})") from error


def member_names(path: Path) -> list[str]:
    """Return the names of the files in an archive; reads no content of a zip."""
    names: list[str] = []

    def note(name: str) -> bool:
        names.append(name)
        return False

    for _ in members(path, note):
        pass
    return names


def _zip(path: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    with zipfile.ZipFile(path) as archive:
        if sum(info.compress_size for info in archive.infolist()) > path.stat().st_size:
            raise DataError(f"{path}: its members overlap, so that it would grow without bound")
        for info in archive.infolist():
            _safe(path, info.filename)
            if info.is_dir():
                continue
            kind = info.external_attr >> 28  # of the Unix file mode, where the archive has one: 8 is a file
            if kind not in (0, 8):
                raise DataError(f"{path}: the member {info.filename!r} is no plain file")
            if info.file_size > (1 << 20) and info.file_size > MAX_RATIO * info.compress_size:
                raise DataError(f"{path}: the member {info.filename!r} would grow {MAX_RATIO} times or more")
            yield info.filename, info.file_size, lambda info=info: archive.open(info)  # type: ignore[misc]


def _tar(path: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    with tarfile.open(path, "r:*", tarinfo=_Header) as archive:
        for info in archive:
            _safe(path, info.name)
            if info.isdir():
                continue
            if not info.isfile():
                raise DataError(f"{path}: the member {info.name!r} is a link or a device, not a plain file")
            yield info.name, info.size, lambda info=info: archive.extractfile(info)  # type: ignore[misc]


class _Header(tarfile.TarInfo):
    """A header of a tar, refused before an extended header (a long name, attributes) fills the memory."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: Any, errors: str) -> Any:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED and header.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {header.size} bytes is larger than the bounds allow")
        return header


_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


def _content(opened: Callable[[], IO[bytes]], size: int, title: str) -> bytes:
    with opened() as file:
        content = file.read(size + 1)
    if len(content) != size:
        raise DataError(f"{title} does not have the {size} bytes that the archive states")
    return content


def _safe(path: Path, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in parts or "\0" in name:
        raise DataError(f"{path}: the member {name!r} points outside the archive's own folder")
