"""Nothing that a plugin raises silences a command: it is a problem that names the plugin."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from helpers.results import made_cell, made_result
from helpers.shell import ROOT, Shell, shell_environment
from metabench.errors import PluginError, RequestError, UnknownComponent
from metabench.plugin_calls import describe_exception, plugin_call
from metabench.plugins import Registry, load

RAISED = {
    "exit": "raise SystemExit(0)",
    "interrupt": "raise KeyboardInterrupt",
    "generator": "raise GeneratorExit",
    "own": "raise type('Mine', (BaseException,), {})('by itself')",
    "arguments": "import argparse; argparse.ArgumentParser().parse_args(['--unknown'])",
}

HOOK = """
from metabench import hookimpl
@hookimpl
def metabench_{name}:
    {statement}
"""


def registry_of(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Registry:
    """A registry of a plugin `bad` of this text, beside our own metrics."""
    (folder / "bad_plugin.py").write_text(text)
    monkeypatch.delitem(sys.modules, "bad_plugin", raising=False)
    monkeypatch.syspath_prepend(folder)
    bad = EntryPoint("bad", "bad_plugin", "metabench")
    return load([bad, *entry_points(group="metabench", name="metrics")])


@pytest.mark.parametrize("statement", RAISED.values(), ids=RAISED)
def test_whatever_an_import_raises_is_a_problem_of_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    registry = registry_of(tmp_path, monkeypatch, statement)

    (problem,) = registry.problems
    assert str(problem).startswith("plugin 'bad' (bad_plugin) of unknown 0: it fails to import: ")
    assert "accuracy" in registry.names("metric")


@pytest.mark.parametrize("statement", RAISED.values(), ids=RAISED)
def test_whatever_a_hook_raises_is_a_problem_of_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    registry = registry_of(tmp_path, monkeypatch, HOOK.format(name="metrics()", statement=statement))

    assert "accuracy" in registry.names("metric")
    (problem,) = registry.problems
    assert "its hook metabench_metrics raised " in str(problem)


@pytest.mark.parametrize("statement", RAISED.values(), ids=RAISED)
def test_whatever_an_observer_raises_is_a_problem_and_the_observer_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    registry = registry_of(tmp_path, monkeypatch, HOOK.format(name="result(result)", statement=statement))

    with pytest.warns(UserWarning, match="its hook metabench_result raised"):
        registry.observe("metabench_result", result=made_result(made_cell()))
    registry.observe("metabench_result", result=made_result(made_cell()))

    (problem,) = registry.problems
    assert problem.plugin.name == "bad"


def test_a_class_that_cannot_be_looked_at_and_a_strange_contract_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = """
from metabench import Metric, hookimpl
class Meta(type(Metric)):
    def __getattribute__(cls, name):
        if name == "name":
            raise SystemExit(0)
        return super().__getattribute__(name)
@hookimpl
def metabench_metrics():
    return [Meta("Odd", (Metric,), {})]
"""
    registry = registry_of(tmp_path, monkeypatch, strange)
    assert "accuracy" in registry.names("metric")
    assert "looking at what it provides raised SystemExit: 0" in str(registry.problems[0])

    registry = registry_of(tmp_path, monkeypatch, "METABENCH_CONTRACT = {}")
    assert "its module raised TypeError" in str(registry.problems[0])


def test_an_unknown_component_names_the_problems_of_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(tmp_path, monkeypatch, "raise ImportError('libcudart is missing')")

    with pytest.raises(UnknownComponent, match=r"no metric is called 'mine'(.|\n)*libcudart is missing"):
        registry.find("metric", "mine")


def _exit_when_interrupted() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        sys.exit(0)


def test_an_interrupt_of_the_user_stays_one_whatever_a_plugin_makes_of_it() -> None:
    with pytest.raises(KeyboardInterrupt), plugin_call("it"):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), plugin_call("it"):
        _exit_when_interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_errors_of_metabench_pass() -> None:
    with pytest.raises(RequestError, match="ours"), plugin_call("it"):
        raise RequestError("ours")
    with pytest.raises(PluginError, match="it raised ValueError: theirs"), plugin_call("it"):
        raise ValueError("theirs")


def test_the_text_of_an_exception_has_no_escapes_and_may_be_unreadable() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe_exception(ImportError("\x1b[2J\x1b]0;owned\x07")) == "ImportError:  [2J ]0;owned "
    assert describe_exception(MuteError()) == "MuteError: its text cannot be read"


def installed(folder: Path, text: str) -> Shell:
    """The command in a folder, with a plugin of this text installed."""
    site = folder / "site"
    (site / "bad-1.0.dist-info").mkdir(parents=True)
    (site / "bad-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (site / "bad-1.0.dist-info/entry_points.txt").write_text("[metabench]\nbad = bad_plugin\n")
    (site / "bad_plugin.py").write_text(text)
    return Shell(folder, shell_environment(site) | {"METABENCH_CACHE": str(folder / "cache")})


@pytest.mark.parametrize(
    "text", ["import sys; sys.exit(0)", HOOK.format(name="algorithms()", statement="raise SystemExit(0)")]
)
def test_verify_of_an_edited_result_ends_with_1_beside_a_plugin_that_exits(tmp_path: Path, text: str) -> None:
    shell = installed(tmp_path, text)
    edited = next((ROOT / "results/sine-v2").glob("*/maml-*-s0-*.json"))
    shutil.copy(edited, tmp_path / edited.name)
    content = (tmp_path / edited.name).read_text()
    (tmp_path / edited.name).write_text(content.replace('"parameters":', '"parameters":1', 1))

    done = shell.run("verify", edited.name, check=1)

    assert "edited" in done.stdout + done.stderr or "seal" in done.stdout + done.stderr


def test_list_names_a_plugin_that_exits_and_no_escape_reaches_the_terminal(tmp_path: Path) -> None:
    shell = installed(tmp_path, "raise SystemExit('\\x1b[2J')")

    done = shell.run("list", "metrics", check=None)

    assert done.returncode in (0, 1)
    assert "accuracy" in done.stdout
    assert "plugin 'bad'" in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_without_docstrings_components_work(tmp_path: Path) -> None:
    shell = Shell(tmp_path, shell_environment() | {"PYTHONOPTIMIZE": "2"})

    done = shell.run("list", "metrics")

    assert "accuracy" in done.stdout
    assert done.stderr == ""
