"""The folder that reports are written to: nobody's file is overwritten, nothing is written through a link."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from metabench.errors import RequestError
from metabench.records.document import DocumentError, read_bytes
from metabench.records.files import write_text

LIST = ".metabench-files"
"""The file that lists what metabench wrote to a folder, and may write again."""

LARGEST_LIST = 64 * 2**20


def write_into(folder: Path, write: Callable[[Path], Sequence[Path]], *, ours: bool = False) -> list[Path]:
    """Let `write` fill an empty folder, put its files into `folder`, and return what it returned.

    A reader of `folder` sees old files or whole new ones. ours: the folder holds nothing but reports.
    Raises RequestError, before anything is replaced, where a file is there that metabench did not write, or
    a link.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".part-", dir=folder) as name:
        part = Path(name)
        paths = write(part)
        names = sorted(path.relative_to(part) for path in part.rglob("*") if not path.is_dir())
        earlier = _listed(folder)
        for file in names:
            _require_free(folder, file, ours or file.as_posix() in earlier)
        for file in names:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(part / file, folder / file)
        listed = sorted({*earlier, *(file.as_posix() for file in names)})
        write_text(folder / LIST, "".join(f"{file}\n" for file in listed))
        return [folder / path.relative_to(part) for path in paths]


def require_no_link(folder: Path, path: Path) -> None:
    """Raise RequestError where a part of `path` beneath `folder` is a link, which may lead anywhere."""
    for part in (path, *path.parents):
        if part == folder:
            return
        if part.is_symlink():
            raise RequestError(f"{part} is a link: nothing is written through links; remove it")


def _require_free(folder: Path, name: Path, ours: bool) -> None:
    target = folder / name
    require_no_link(folder, target)
    if target.exists() and not ours:
        raise RequestError(
            f"{target} is there already and metabench did not write it; remove it, or name another folder"
        )


def _listed(folder: Path) -> set[str]:
    """Return the names of the files that metabench wrote to the folder, as far as its list can be read."""
    try:
        return set(read_bytes(folder / LIST, LARGEST_LIST).decode().splitlines())
    except (DocumentError, UnicodeDecodeError):
        return set()
