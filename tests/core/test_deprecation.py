"""A deprecated name or contract works for one release, with a warning that says what to use."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import MappingProxyType

import pytest

from metabench import contracts
from metabench.deprecation import MetabenchDeprecationWarning, renamed, warn_deprecated
from metabench.learning import task_losses
from metabench.plugins import load

PLUGIN = """
from dataclasses import dataclass
from metabench import Metric, hookimpl

METABENCH_CONTRACT = {version}

@dataclass(frozen=True, kw_only=True)
class Old(Metric):
    "An old one."
    name = "old-metric"
    def score(self, prediction, target):
        return prediction

@hookimpl
def metabench_metrics():
    return [Old]
"""


def test_renamed_name_still_works_and_names_its_new_path() -> None:
    names = {"losses_of_tasks": "metabench.learning.task_losses"}
    with pytest.warns(MetabenchDeprecationWarning) as caught:
        assert renamed("metabench.old", "losses_of_tasks", names) is task_losses
    assert str(caught[0].message) == (
        "metabench.old.losses_of_tasks is deprecated and will be removed in the next release of metabench; "
        "use metabench.learning.task_losses"
    )
    with pytest.raises(AttributeError, match=r"module 'metabench\.old' has no attribute 'other'"):
        renamed("metabench.old", "other", names)


def test_warning_points_at_the_line_that_uses_the_old_name() -> None:
    def old() -> None:
        warn_deprecated("old()", "new()")

    with pytest.warns(MetabenchDeprecationWarning, match=r"use new\(\)") as caught:
        old()
    assert caught[0].filename == __file__


def test_deprecation_is_shown_to_users_by_default() -> None:
    assert issubclass(MetabenchDeprecationWarning, FutureWarning)


def test_plugin_of_a_deprecated_contract_works_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old_plugin.py").write_text(PLUGIN.format(version=0))
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("old", "old_plugin", "metabench")]
    assert "old-metric" not in load(points).names("metric")
    monkeypatch.delitem(sys.modules, "old_plugin")
    monkeypatch.setattr(contracts, "DEPRECATED_CONTRACTS", MappingProxyType({0: "score one task at a time"}))
    registry = load(points)
    assert "old-metric" in registry.names("metric")
    (problem,) = registry.problems
    assert "made for contract 0, which the next release no longer takes" in str(problem)
    assert "score one task at a time" in problem.remedy
