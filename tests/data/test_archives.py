"""Archives read in place: whole ones, and those that would harm."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from metabench import DataError
from metabench.data.archives import member_names, members

FILES = {"set/a/1.png": b"one", "set/b/2.png": b"two" * 1000, "set/notes.txt": b""}


def zipped(path: Path, files: dict[str, bytes], **options: int) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("set/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(
    path: Path, files: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None
) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if change:
                change(info)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_members_come_with_their_content(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    zipped(path, FILES) if kind == "zip" else tarred(path, FILES)
    assert dict(members(path)) == FILES
    assert dict(members(path, lambda name: name.endswith("1.png"))) == {"set/a/1.png": b"one"}
    assert member_names(path) == list(FILES)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "C:\\evil", "a\\..\\..\\evil"])
@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / f"a.{kind}"
    zipped(path, {name: b"x"}) if kind == "zip" else tarred(path, {name: b"x"})
    with pytest.raises(DataError, match=r"a\.\w+: the member .*evil.* points outside"):
        list(members(path))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    with pytest.raises(DataError, match="'set/link' is a link or a device"):
        list(members(tarred(tmp_path / "a.tgz", {"set/link": b""}, change)))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("set/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="'set/link' is no plain file"):
        list(members(tmp_path / "a.zip"))


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"set/bomb": bytes(1 << 24)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 15
    with pytest.raises(DataError, match="'set/bomb' would grow 200 times or more"):
        list(members(path))


def test_sizes_past_the_bounds_are_refused(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tgz", {"set/large": bytes(5000), "set/other": bytes(5000)})
    with pytest.raises(DataError, match="'set/large' it is larger than the bounds"):
        list(members(path, max_member_bytes=4999))
    with pytest.raises(DataError, match="'set/other' it is larger than the bounds"):
        list(members(path, max_total_bytes=9999))


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_a_truncated_archive_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    zipped(path, FILES) if kind == "zip" else tarred(path, FILES)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=rf"a\.{kind} is damaged .*; remove it and fetch it again"):
        list(members(path))


def test_a_zip_whose_content_was_changed_is_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", FILES)
    path.write_bytes(path.read_bytes().replace(b"twotwo", b"twoTWO"))
    with pytest.raises(DataError, match="is damaged"):
        list(members(path))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_huge_header_of_a_tar_is_refused_before_it_is_read(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 1 << 40
    with gzip.open(tmp_path / "a.tgz", "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(1 << 16))
    with pytest.raises(DataError, match=r"a\.tgz is damaged .*a header of 1099511627776 bytes is larger"):
        list(members(tmp_path / "a.tgz"))


def test_a_zip_whose_members_overlap_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a": os.urandom(5000)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist += 100 * [archive.filelist[-1]]
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"a\.zip: its members overlap"):
        list(members(path))


def test_an_encrypted_zip_is_named(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "a.zip", {"a": b"123"}).read_bytes())
    content[content.rfind(b"PK\3\4") + 6] |= 1
    content[content.rfind(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip cannot be unpacked .*encrypted"):
        list(members(tmp_path / "a.zip"))
