"""The registry: what a good plugin provides, and how the problem of a bad one reads."""

import inspect
import sys
from importlib.metadata import EntryPoint, PathDistribution, entry_points
from pathlib import Path

import pytest

from metabench import Cell, Spec, hookspecs
from metabench.errors import SettingError, UnknownComponent
from metabench.plugins import KINDS, Registry, load

GOOD = """
from dataclasses import dataclass
from metabench import Metric, hookimpl

@dataclass(frozen=True, kw_only=True)
class Share(Metric):
    "A share."
    name = "{name}"
    def score(self, prediction, target):
        return prediction

@hookimpl
def metabench_metrics():
    return [Share]
"""


def registry_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> Registry:
    """A registry of these modules, one plugin each, beside our own metrics."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)
    points = [EntryPoint(name, name, "metabench") for name in modules]
    return load([*points, *entry_points(group="metabench", name="metrics")])


def point_of(site: Path, distribution: str, name: str, module: str) -> EntryPoint:
    """An entry point of a distribution that is installed in `site`, as its metadata there say."""
    folder = site / f"{distribution}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[metabench]\n{name} = {module}\n")
    (point,) = PathDistribution(folder).entry_points
    return point


def test_every_built_in_is_found_through_the_entry_points() -> None:
    registry = load()
    assert registry.problems == []
    for kind in KINDS:
        for entry in registry.entries(kind).values():
            assert entry.plugin.distribution
    assert {"maml", "protonet", "reptile", "nearest-neighbour"} <= set(registry.names("algorithm"))
    assert registry.find("network", "conv4").source == "metabench 0.1.0"


def test_a_class_is_importable_by_its_path_as_a_worker_does() -> None:
    for kind in KINDS:
        for entry in load().entries(kind).values():
            module, _, name = entry.path.partition(":")
            assert getattr(sys.modules[module], name) is entry.cls


def test_unknown_name_gives_the_likely_one() -> None:
    with pytest.raises(UnknownComponent, match="no algorithm is called 'mamml'; did you mean 'maml'"):
        load().find("algorithm", "mamml")


def test_plugin_that_fails_to_import_is_named_and_the_rest_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(tmp_path, monkeypatch, broken="import no_such_thing", good=GOOD.format(name="g"))
    assert {"accuracy", "g"} <= set(registry.names("metric"))
    (problem,) = registry.problems
    assert "plugin 'broken'" in str(problem)
    assert "No module named 'no_such_thing'" in str(problem)
    assert "Reinstall" in problem.remedy


def test_two_components_of_one_name_cite_both_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(tmp_path, monkeypatch, one=GOOD.format(name="g"), two=GOOD.format(name="g"))
    assert registry.find("metric", "g").plugin.name == "one"
    (problem,) = registry.problems
    assert "plugin 'two'" in str(problem)
    assert "metric 'g' is already provided by plugin 'one'" in str(problem)


def test_distributions_may_share_the_name_of_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"shared_{name}.py").write_text(GOOD.format(name=name))
        monkeypatch.delitem(sys.modules, f"shared_{name}", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    points = [point_of(tmp_path, f"dist-{n}", "metrics", f"shared_{n}") for n in ("one", "two")]
    registry = load([*points, *entry_points(group="metabench", name="metrics")])
    assert {"one", "two", "accuracy"} <= set(registry.names("metric"))
    assert registry.find("metric", "two").source == "dist-two 1.0"
    assert registry.problems == []


def test_outsider_with_the_name_of_our_entry_point_displaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aaa_first.py").write_text(GOOD.format(name="accuracy"))
    monkeypatch.syspath_prepend(tmp_path)
    outsider = point_of(tmp_path, "aaa", "metrics", "aaa_first")
    registry = load([outsider, *entry_points(group="metabench", name="metrics")])
    assert registry.find("metric", "accuracy").plugin.distribution == "metabench"
    (problem,) = registry.problems
    assert problem.plugin.distribution == "aaa"


def test_entry_point_of_another_package_s_module_is_reported(tmp_path: Path) -> None:
    outsider = point_of(tmp_path, "aaa", "mine", "metabench_plugins.metrics")
    registry = load([outsider, *entry_points(group="metabench", name="metrics")])
    assert registry.find("metric", "accuracy").plugin.distribution == "metabench"
    assert "already that of plugin 'metrics'" in str(registry.problems[0])


def test_built_in_wins_over_an_outsider_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_of(tmp_path, monkeypatch, a_first=GOOD.format(name="accuracy"))
    assert registry.find("metric", "accuracy").cls.__module__ == "metabench_plugins.metrics.accuracy"
    assert "already provided" in str(registry.problems[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def metabench_metrics(folder): return []", "its hook metabench_metrics has the argument 'folder'"),
        ("def metabench_metriks(): return []", "did you mean 'metabench_metrics'"),
    ],
)
def test_hook_with_a_wrong_signature_or_name_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    module = f"from metabench import hookimpl\n@hookimpl\n{text}\n"
    registry = registry_of(tmp_path, monkeypatch, wrong=module)
    assert message in str(registry.problems[0])
    assert "accuracy" in registry.names("metric")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("class M: name = 'm'", "is no subclass of metabench.Metric"),
        ("class M(Metric):\n    'M.'\n    name = 'm'", "lacks the methods score"),
        ("class M(Metric):\n    name = 'm'\n    def score(self, p, t): return p", "has no docstring"),
        ("class M(Metric):\n    'M.'\n    def score(self, p, t): return p", "has no `name"),
        (
            "class M(Metric):\n    'M.'\n    name = '../m'\n    def score(self, p, t): return p",
            "must have a name of up to 64 letters, digits and . _ + -, the first not a sign, got '../m'",
        ),
        (
            "class M(Metric):\n    'M.'\n    name = ''\n    def score(self, p, t): return p",
            "the first not a sign, got ''",
        ),
        (
            "class M(Metric):\n    'M.'\n    name = 'm'\n    k: int = setting(1, 'k')\n"
            "    def score(self, p, t): return p",
            "declares settings but is no dataclass",
        ),
    ],
)
def test_class_that_is_no_component_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    text = (
        "from metabench import Metric, hookimpl, setting\n"
        f"{body}\n@hookimpl\ndef metabench_metrics(): return [M]\n"
    )
    registry = registry_of(tmp_path, monkeypatch, odd=text)
    registry.entries("metric")
    assert message in str(registry.problems[0])


def test_plugin_of_another_contract_is_left_out_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(tmp_path, monkeypatch, later=f"METABENCH_CONTRACT = 99\n{GOOD.format(name='g')}")
    assert "g" not in registry.names("metric")
    assert "made for contract 99" in str(registry.problems[0])
    assert registry.problems[0].remedy == "Upgrade metabench."


def test_observer_that_raises_is_reported_once_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from metabench import hookimpl\n@hookimpl\ndef metabench_result(result): raise KeyError('x')\n"
    registry = registry_of(tmp_path, monkeypatch, nosy=text)
    with pytest.warns(UserWarning, match="its hook metabench_result raised KeyError: 'x'"):
        registry.observe("metabench_result", result=None)
    registry.observe("metabench_result", result=None)
    assert len(registry.problems) == 1


def test_every_kind_has_its_hook_and_every_component_hook_its_kind() -> None:
    observers = {"metabench_progress", "metabench_result", "metabench_suites"}
    hooks = {name for name in vars(hookspecs) if name.startswith("metabench_")} - observers

    assert hooks == {kind.hook for kind in KINDS.values()}
    for kind in KINDS.values():
        returned = inspect.signature(getattr(hookspecs, kind.hook)).return_annotation
        assert returned == f"Sequence[type[{kind.base.__name__}]]"


def test_kinds_of_a_cell_are_its_fields() -> None:
    fields = Cell.__dataclass_fields__

    assert {kind.name for kind in KINDS.values() if kind.in_cell} == {
        kind for kind in KINDS if kind in fields
    }


def test_a_component_is_made_from_its_spec() -> None:
    assert load().make("backend", Spec("cpu", {"threads": 2})).threads == 2
    with pytest.raises(SettingError, match="'cpu' has no setting 'threds'; did you mean 'threads'"):
        load().make("backend", Spec("cpu", {"threds": 2}))


def test_silence_takes_out_progress_and_nothing_else() -> None:
    registry = load()
    registry.silence()
    registry.silence()  # a second time changes nothing

    assert not registry.manager.has_plugin("metabench:progress")
    assert load().manager.has_plugin("metabench:progress")
    assert len(registry.manager.get_plugins()) == len(load().manager.get_plugins()) - 1
