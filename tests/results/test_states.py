"""Learned states in files: the same bytes for the same tensors, and nothing else is read."""

import os
from pathlib import Path

import pytest
import torch

from metabench.errors import StoreError
from metabench.results.states import pack, read_state, read_state_bytes, unpack, write_state

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3, dtype=torch.int64)}


def test_state_comes_back_to_the_bit_with_types_and_shapes(tmp_path: Path) -> None:
    state = {**STATE, "c": torch.randn(3, dtype=torch.float64).to(torch.bfloat16), "d": torch.zeros(0, 4)}
    digest = write_state(tmp_path / "x.safetensors", state)
    read = read_state(tmp_path / "x.safetensors", digest)
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_equal_tensors_have_equal_bytes_in_any_order() -> None:
    assert pack(STATE) == pack(dict(reversed(STATE.items())))
    assert pack(STATE) != pack({**STATE, "b": torch.tensor(4)})


def test_tensors_that_share_memory_are_kept() -> None:
    both = torch.arange(4.0)
    read = unpack(pack({"x": both[:2], "y": both}))
    assert read["y"].tolist() == [0, 1, 2, 3]


def test_other_content_than_the_digest_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    digest = write_state(path, STATE)
    write_state(path, {**STATE, "b": torch.tensor(4)})
    with pytest.raises(StoreError, match=f"must have the SHA-256 {digest}"):
        read_state(path, digest)


def test_pickle_is_refused(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.pt")
    with pytest.raises(StoreError, match="no safetensors"):
        read_state(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00{}trailing"])
def test_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="no safetensors"):
        read_state(path)


def test_link_pipe_and_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    write_state(tmp_path / "x.safetensors", STATE)
    (tmp_path / "link").symlink_to(tmp_path / "x.safetensors")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "absent"):
        with pytest.raises(StoreError):
            read_state(tmp_path / name)


def test_state_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    write_state(tmp_path / "x.safetensors", STATE)
    with pytest.raises(StoreError, match="must have at most 16 bytes"):
        read_state_bytes(tmp_path / "x.safetensors", largest=16)
