"""`--with`: any callable is a row, and its path is imported only for the person who names it."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import metabench
from metabench.errors import RequestError
from metabench.plugins import load
from metabench.publishing.parameters import count_parameters
from metabench.publishing.reproduce import reproduce
from metabench.records.files import read_result
from metabench.runner import execute, make_plan
from metabench.suite import Arguments, read_arguments

THEIRS = """
import helping

def nearest(support_x, support_y, query_x):
    distances = ((query_x[:, None] - support_x[None]) ** 2).reshape(len(query_x), len(support_x), -1).sum(2)
    return helping.SIGN * distances[:, support_y.argsort()]
"""


@pytest.fixture(autouse=True)
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of anyone's in the folder where one is, and a module beside it that it imports."""
    (tmp_path / "theirs.py").write_text(THEIRS)
    (tmp_path / "helping.py").write_text("SIGN = -1.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("theirs", "helping"):
        sys.modules.pop(name, None)


def arguments(*callables: str, save: Path | None = None) -> Arguments:
    return Arguments(
        callables=callables, datasets=["blobs"], tests=["5w1s5q"], evaluation={"tasks": 4}, save=save
    )


def test_a_path_has_settings_arguments_and_a_label(tmp_path: Path) -> None:
    texts = (
        "theirs:nearest,takes=numpy",
        "sklearn.neighbors:KNeighborsClassifier,n_neighbors=1,metric=cosine",
    )
    ours, installed = read_arguments(load(), arguments(*texts)).cells
    assert (ours.algorithm.name, ours.label) == ("callable", "nearest")
    assert (ours.algorithm.settings["takes"], ours.algorithm.settings["arguments"]) == ("numpy", None)
    assert installed.label == "KNeighborsClassifier(n_neighbors=1, metric=cosine)"
    assert installed.algorithm.settings["arguments"] == {"n_neighbors": 1, "metric": "cosine"}
    assert str(installed.algorithm.settings["content"]).startswith("scikit-learn ")
    (tmp_path / "helping.py").write_text("SIGN = -2.0\n")  # another source, another cell
    assert read_arguments(load(), arguments(texts[0])).cells[0].digest != ours.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thiers:nearest", "there is no module 'thiers', neither installed nor in"),
        ("sklearn/neighbors", "must be like mypkg.mymod:predict"),
        ("theirs:nearest,takes=jax", "'callable', setting 'takes': must be one of"),
        ("theirs:nearest,k", "'k' is no setting"),
    ],
)
def test_a_wrong_path_is_named_before_anything_runs(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_arguments(load(), arguments(text))


def test_a_path_in_a_suite_or_a_result_is_imported_only_where_a_person_repeats_it(tmp_path: Path) -> None:
    saved = tmp_path / "mine.toml"
    plan = make_plan(arguments=arguments("theirs:nearest", save=saved), backend="cpu:threads=1")
    (result,) = execute(plan).results
    assert (result.status, result.path) == ("ok", "numpy, one task, checked"), result.reason
    (cell,) = plan.cells
    remedy = "algorithm 'callable' would import 'theirs:nearest', .* --allow-import theirs"
    with pytest.raises(RequestError, match=remedy):
        make_plan(str(saved), rerun=True)
    assert make_plan(str(saved), allow_import=["theirs"]).to_run == []
    with pytest.raises(RequestError, match=remedy):
        execute(replace(plan, finished={}, rerun=True, imports=frozenset()))
    path = plan.store.path(cell)
    assert read_result(path).cell.algorithm.settings["path"] == "theirs:nearest"
    with pytest.raises(RequestError, match=remedy):
        reproduce(path, tmp_path / "again")
    with pytest.raises(RequestError, match=remedy):
        count_parameters(load(), cell)
    assert count_parameters(load(), cell, ["theirs"]) == 0


def test_rows_of_a_function_are_those_of_the_same_method_as_a_component() -> None:
    frame = metabench.run(
        callables="theirs:nearest", algorithms="nearest-neighbour", datasets="blobs", test="5w1s5q",
        evaluation={"tasks": 4}, backend="cpu:threads=1", quiet=True,
    )  # fmt: skip
    assert list(frame["status"]) == ["ok", "ok"]
    assert frame["mean"][0] == frame["mean"][1]
