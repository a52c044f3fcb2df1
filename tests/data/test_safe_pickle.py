"""Pickles: arrays and plain containers are read, anything else is refused before it is imported."""

from __future__ import annotations

import collections
import io
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metabench import DataError
from metabench.data.safe_pickle import read_pickle

PLAIN: dict[str, Any] = {
    "image_data": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "class_dict": collections.OrderedDict(n01=[0, 1], n02=[np.int64(2)]),
    "pairs": [(1, 2.5), {"x"}, b"bytes", None, True],
    "words": np.array(["a", "b"], dtype=object),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_are_read(protocol: int) -> None:
    content = read_pickle(pickle.dumps(PLAIN, protocol=protocol))
    assert (content["image_data"] == PLAIN["image_data"]).all()
    assert content["image_data"].dtype == np.uint8
    assert content["class_dict"] == PLAIN["class_dict"]
    assert content["pairs"] == PLAIN["pairs"]
    assert content["words"].tolist() == ["a", "b"]


def test_strings_of_python_2_are_read() -> None:
    assert read_pickle(b"(dp0\nS'n\\xe9'\np1\nI5\ns.") == {"né": 5}


class Evil:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (os.system, ("touch evil",)),
        (subprocess.check_output, (["touch", "evil"],)),
        (eval, ("open('evil', 'w')",)),
        (getattr, (b"", "join")),
        (io.open, ("evil", "w")),
        (np.load, ("evil.npy",)),
        (np.frombuffer, (b"",)),
    ],
)
def test_what_could_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, arguments: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.pkl").write_bytes(pickle.dumps({"image_data": Evil(call, *arguments)}))
    with pytest.raises(DataError, match=r"data\.pkl names .*only arrays and plain containers"):
        read_pickle(tmp_path / "data.pkl")
    assert not (tmp_path / "evil").exists()


def test_a_huge_array_out_of_thin_air_is_refused() -> None:
    with pytest.raises(DataError):
        read_pickle(pickle.dumps(Evil(np.ndarray, (1 << 50,))))


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_a_torn_pickle_is_named(tmp_path: Path, cut: int) -> None:
    (tmp_path / "data.pkl").write_bytes(pickle.dumps(PLAIN)[:-cut])
    with pytest.raises(DataError, match=r"data\.pkl is no whole pickle"):
        read_pickle(tmp_path / "data.pkl")


FIELD_FAR_AWAY = {"x": (np.dtype("f8"), 1 << 16)}


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("V8", (3, "|", None, ("x",), FIELD_FAR_AWAY, 8, 1, 0)),
        ("f8", (3, "<", None, ("x",), FIELD_FAR_AWAY, 8, 8, 0)),
        ("u1", (3, "|", (np.dtype("f8"), (4096,)), None, None, 1, 1, 0)),
    ],
)
def test_a_type_that_reaches_beyond_its_elements_is_refused(code: str, state: tuple[Any, ...]) -> None:
    """The state of a numpy type is believed by numpy: its fields may lie anywhere in memory."""

    class Far:
        def __reduce__(self) -> Any:
            return np.dtype, (code, False, True), state

    class Holder:
        def __reduce__(self) -> Any:
            whole = np.zeros(4, "f8").__reduce__()
            return whole[0], whole[1], (1, (4,), Far(), False, bytes(32))

    with pytest.raises(DataError, match=r"type 'V8'|structured type"):
        read_pickle(pickle.dumps({"image_data": Holder()}, 2))
    assert np.dtype("u1") == np.uint8


def test_a_structured_array_is_refused() -> None:
    with pytest.raises(DataError, match="no plain number"):
        read_pickle(pickle.dumps(np.zeros(4, [("x", "f8")])))


def test_a_pickle_that_declares_more_than_memory_is_named() -> None:
    with pytest.raises(DataError, match=r"more than fits in memory|no whole pickle"):
        read_pickle(b"\x80\x04\x8e" + (10**15).to_bytes(8, "little") + b"abc.")
