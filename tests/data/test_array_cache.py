"""Arrays that are computed once: kept, verified, computed again if they are damaged."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from metabench import DataError
from metabench.data import cache, locks
from metabench.data.cache import cached, digest
from metabench.folders import cache_folder, data_folder

VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path))


class Maker:
    """Fills arrays and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, out: np.ndarray) -> None:
        self.times += 1
        out[:] = VALUES


def test_an_array_is_made_once() -> None:
    make = Maker()
    for _ in range(2):
        assert (cached("a", VALUES.shape, make) == VALUES).all()
    assert make.times == 1


@pytest.mark.parametrize("damage", [b"", b"no array at all", None])
def test_a_damaged_array_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    make = Maker()
    cached("a", VALUES.shape, make)
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-5] if damage is None else damage)
    assert (cached("a", VALUES.shape, make) == VALUES).all()
    assert make.times == 2


@pytest.mark.parametrize("sha256", [None, digest(VALUES)])
@pytest.mark.parametrize("same_time", [False, True])
def test_a_flipped_bit_is_found_and_the_array_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sha256: str | None, same_time: bool
) -> None:
    make = Maker()
    cached("a", VALUES.shape, make, sha256=sha256)
    path = tmp_path / "a.npy"
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 0x80]) + content[-2:])
    if same_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (cached("a", VALUES.shape, make, sha256=sha256) == VALUES).all()
    assert make.times == 2
    assert "a.npy is damaged (its content differs from its digests) and is computed again" in caplog.text


def test_damage_far_inside_a_large_file_is_found(tmp_path: Path) -> None:
    shape, times = (40 * cache.BLOCK_BYTES,), []

    def fill(out: np.ndarray) -> None:
        times.append(1)
        out[:] = 7

    cached("large", shape, fill)
    with (tmp_path / "large.npy").open("r+b") as file:
        file.seek(33 * cache.BLOCK_BYTES + 5)
        file.write(b"\0")
    assert (cached("large", shape, fill) == 7).all()
    assert len(times) == 2


def test_bit_rot_that_leaves_no_trace_is_found_by_sampling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    cached("a", VALUES.shape, make)
    path = tmp_path / "a.npy"
    verified = cache._state(path)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    monkeypatch.setattr(cache, "_state", lambda path: verified)  # as a disk that changes bits by itself
    assert (cached("a", VALUES.shape, make) == VALUES).all()
    assert make.times == 2


def test_a_copied_cache_is_verified_once_and_kept(tmp_path: Path) -> None:
    make = Maker()
    cached("a", VALUES.shape, make)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").unlink()
    (tmp_path / "a.npy").write_bytes(content)
    before = (tmp_path / "a.json").read_bytes()
    assert (cached("a", VALUES.shape, make) == VALUES).all()
    assert (make.times, (tmp_path / "a.json").read_bytes() != before) == (1, True)


@pytest.mark.parametrize("record", [None, "", "{}", "[]", '{"digest": 1, "blocks": 2, "verified": 3}'])
def test_an_array_without_a_sound_record_is_computed_again(tmp_path: Path, record: str | None) -> None:
    make = Maker()
    cached("a", VALUES.shape, make)
    if record is None:
        (tmp_path / "a.json").unlink()
    else:
        (tmp_path / "a.json").write_text(record)
    assert (cached("a", VALUES.shape, make) == VALUES).all()
    assert make.times == 2


def test_a_full_disk_is_an_error_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)  # a disk that is full is hardware
    with pytest.raises(DataError, match=r"No space left.*needs 0\.0 MiB; free .* or set METABENCH_CACHE"):
        cached("a", VALUES.shape, Maker())
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_making_another_array_than_known_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"must have the digest 00, got {digest(VALUES)}"):
        cached("a", VALUES.shape, Maker(), sha256="00")
    assert not (tmp_path / "a.npy").exists()


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(out: np.ndarray) -> None:
        raise DataError("torn")

    with pytest.raises(DataError, match="torn"):
        cached("a", VALUES.shape, fail)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_made_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert (cached("a", VALUES.shape, Maker()) == VALUES).all()
    assert "set METABENCH_CACHE" in caplog.text


def test_two_processes_make_an_array_once(tmp_path: Path) -> None:
    program = (
        "import time, pathlib\n"
        "from metabench.data import cached\n"
        "def make(out):\n"
        "    with open('made', 'a') as file: file.write('x')\n"
        "    time.sleep(0.5)\n"
        "    out[:] = 7\n"
        "assert (cached('a', (3,), make) == 7).all()\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env={**os.environ}) for _ in range(2)
    ]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "made").read_text() == "x"


def test_waiting_for_another_process_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "NOTICE_SECONDS", 0.05)
    held = threading.Event()

    def hold() -> None:
        with FileLock(tmp_path / "a.lock"):
            held.set()
            time.sleep(0.5)

    threading.Thread(target=hold).start()
    held.wait()
    assert (cached("a", VALUES.shape, Maker()) == VALUES).all()
    assert f"waiting for another process, which computes a.npy and holds {tmp_path / 'a.lock'}" in caplog.text


def test_folders_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path / "d"))
    assert data_folder() == tmp_path / "d"
    monkeypatch.delenv("METABENCH_DATA")
    assert data_folder().parts[-2:] == ("metabench", "data")
