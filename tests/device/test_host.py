"""What a result says of its machine: names that are no folders, arguments no text, several machines."""

from __future__ import annotations

import sys

import pytest

from metabench.device import host
from metabench.errors import RequestError
from metabench.runner import make_plan


@pytest.mark.parametrize(
    ("chosen", "name"),
    [("My Host!", "my-host"), ("日本", "machine-"), ("--", "machine-"), ("", "")],
)
def test_a_machine_always_has_a_name(monkeypatch: pytest.MonkeyPatch, chosen: str, name: str) -> None:
    monkeypatch.setenv("METABENCH_MACHINE", chosen)

    assert host.machine().startswith(name)
    assert host.machine()


def test_a_name_that_no_folder_can_have_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_MACHINE", "日本")
    (warning,) = make_plan("quick").warnings
    assert warning.startswith("METABENCH_MACHINE=日本 has no letter from a to z and no digit: results call")

    for name in ("aside", "Jobs", "report!"):
        monkeypatch.setenv("METABENCH_MACHINE", name)
        with pytest.raises(RequestError, match="METABENCH_MACHINE must not be"):
            make_plan("quick")
    monkeypatch.setenv("METABENCH_MACHINE", "local")
    assert make_plan("quick").warnings == ()


def test_several_machines_are_a_machine_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = host.host()
    alone = host.describe({}, own, {"nodes": 1})
    together = host.describe({}, own, {"nodes": 2})

    assert together["machine"] == f"{alone['machine']}-2-machines"
    assert together["cores"] == 2 * alone["cores"]


def test_an_argument_that_is_no_text_is_written_as_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/metabench", "report", "r\udcff\udcfe"])

    assert host.command_line() == r"metabench report 'r\xff\xfe'"
