"""Downloads: resumed, checked, from the next mirror, and by one process at a time."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.http_server import Served, serve
from metabench import DataError
from metabench.data import remote
from metabench.data.remote import RemoteFile, fetch

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    monkeypatch.delenv("METABENCH_MIRROR", raising=False)
    monkeypatch.setattr(remote, "WAIT_SECONDS", 0.0)


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(Served({"/a.bin": CONTENT})) as running:
        yield running


def dead_address() -> str:
    """An address of this machine at which nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def test_a_file_comes_whole_with_its_progress(served: Served, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    place = fetch(RemoteFile("set/a.bin", (f"{served.url}/a.bin",), SHA256), lambda *step: steps.append(step))
    assert place == tmp_path / "set" / "a.bin"
    assert place.read_bytes() == CONTENT
    assert steps[-1] == ("set/a.bin", len(CONTENT), len(CONTENT))


def test_a_broken_transfer_goes_on_where_it_broke(served: Served) -> None:
    served.cut["/a.bin"] = [300_000, 300_000]
    place = fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), SHA256))
    assert place.read_bytes() == CONTENT
    starts = [int(asked[6:-1]) if asked else 0 for _, asked in served.asked]
    assert starts == sorted(starts)
    assert len(starts) == 3
    assert starts[2] > starts[1] > 0


def test_a_part_left_by_a_killed_process_is_continued(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:500_000])
    fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), SHA256))
    assert served.asked == [("/a.bin", "bytes=500000-")]
    assert not (tmp_path / "a.bin.part").exists()


def test_a_whole_part_needs_no_byte_more(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    assert fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), SHA256)).read_bytes() == CONTENT


def test_a_part_of_another_file_is_fetched_anew(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"x" * 500_000)
    assert fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), SHA256)).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_anew(served: Served, tmp_path: Path) -> None:
    served.ranges = False
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:500_000])
    assert fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), SHA256)).read_bytes() == CONTENT
    assert len(served.asked) == 1


def test_a_busy_server_is_asked_again(served: Served) -> None:
    served.status["/a.bin"] = [503, 429]
    assert fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), SHA256)).read_bytes() == CONTENT


def test_a_dead_first_mirror_is_passed_over(served: Served) -> None:
    file = RemoteFile("a.bin", (f"{dead_address()}/a.bin", f"{served.url}/a.bin"), SHA256)
    assert fetch(file).read_bytes() == CONTENT


def test_a_mirror_with_another_file_is_passed_over(served: Served) -> None:
    served.files = {"/bad.bin": b"y" * len(CONTENT), "/a.bin": CONTENT}
    file = RemoteFile("a.bin", (f"{served.url}/bad.bin", f"{served.url}/a.bin"), SHA256)
    assert fetch(file).read_bytes() == CONTENT


def test_a_wrong_digest_leaves_nothing_and_names_both(served: Served, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"must have the sha256 {'0' * 64}, got {SHA256}") as caught:
        fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), "0" * 64, by_hand="ask the author"))
    assert f"ask the author, and put it at {tmp_path / 'a.bin'}" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_every_mirror_is_named_when_all_fail(served: Served) -> None:
    dead = dead_address()
    with pytest.raises(DataError) as caught:
        fetch(RemoteFile("a.bin", (f"{dead}/a.bin", f"{served.url}/absent.bin"), SHA256))
    assert f"{dead}/a.bin: ConnectionError" in str(caught.value)
    assert f"{served.url}/absent.bin: answered 404" in str(caught.value)


def test_a_file_larger_than_its_bound_is_refused(served: Served) -> None:
    with pytest.raises(DataError, match="must have a file of at most 1000 bytes"):
        fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), most=1000))


def test_a_stream_of_unknown_size_ends_at_its_bound(served: Served, tmp_path: Path) -> None:
    served.lengths = False
    assert fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), SHA256)).read_bytes() == CONTENT
    with pytest.raises(DataError, match="must give 300000 bytes, gave more"):
        fetch(RemoteFile("b.bin", (f"{served.url}/a.bin",), most=300_000))
    assert not (tmp_path / "b.bin").exists()


def test_a_damaged_file_at_its_place_is_named_and_kept(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"other")
    with pytest.raises(DataError, match="remove it"):
        fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), SHA256))
    assert (tmp_path / "a.bin").read_bytes() == b"other"


def test_a_file_without_urls_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"sign the licence, and put it at {tmp_path / 'a.bin'}"):
        fetch(RemoteFile("a.bin", by_hand="sign the licence"))


def test_a_mirror_of_the_user_comes_first(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.files = {"/mirror/set/a.bin": CONTENT}
    monkeypatch.setenv("METABENCH_MIRROR", f"{served.url}/mirror/")
    assert fetch(RemoteFile("set/a.bin", (f"{dead_address()}/a.bin",), SHA256)).read_bytes() == CONTENT


def test_a_proxy_is_taken_from_the_environment(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.files = {"http://nowhere.invalid/a.bin": CONTENT}
    monkeypatch.setenv("http_proxy", served.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetch(RemoteFile("a.bin", ("http://nowhere.invalid/a.bin",), SHA256)).read_bytes() == CONTENT


def test_without_the_library_the_extra_is_named(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)  # as where it is not installed
    with pytest.raises(DataError, match=r"pip install 'metabench\[data\]'"):
        fetch(RemoteFile("a.bin", (f"{served.url}/a.bin",), SHA256))


def test_a_folder_that_cannot_be_written_is_named(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match="name another folder with METABENCH_DATA or --data"):
        fetch(RemoteFile("set/a.bin", (f"{served.url}/a.bin",), SHA256))


def test_two_processes_fetch_a_file_once(served: Served, tmp_path: Path) -> None:
    served.pause_seconds = 0.5
    program = (
        "from metabench.data.remote import RemoteFile, fetch\n"
        f"fetch(RemoteFile('a.bin', ('{served.url}/a.bin',), '{SHA256}'))"
    )
    both = [subprocess.Popen([sys.executable, "-c", program], env={**os.environ}) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert served.asked == [("/a.bin", None)]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
