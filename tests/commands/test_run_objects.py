"""`metabench.run` of classes, objects and functions of a script, which no package provides."""

import linecache
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.shell import shell_environment
from metabench import REQUIRED, setting
from metabench.errors import RequestError
from metabench.plugins import load
from metabench.publishing.publish import publish
from metabench.publishing.verify import Verified
from metabench.records.carried import LOCAL, carry, received
from metabench.records.files import read_result
from metabench.settings import describe_settings
from metabench.suite import Arguments, read_arguments
from metabench_plugins.algorithms.nearest_neighbour import NearestNeighbour
from metabench_plugins.datasets.blobs import Blobs

SCRIPT = '''
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import metabench
from metabench_plugins.algorithms.nearest_neighbour import NearestNeighbour

POWER = 1

def scale():
    return 2.0 ** POWER

def nearest(support_x, support_y, query_x):
    distances = ((query_x[:, None] - support_x[None]) ** 2).sum(2)
    return support_y[distances.argmin(1)]

@dataclass(frozen=True, kw_only=True)
class Stretched(NearestNeighbour):
    """Nearest neighbour, stretched."""

    name: ClassVar[str] = "stretched"
    power: int = metabench.setting(metabench.REQUIRED, "of the factor")

    def build(self, workload, network, device):
        learner = super().build(workload, network, device)
        predict = learner.predict
        learner.predict = lambda state, query_x: scale() * predict(state, query_x)
        return learner

frame = metabench.run(
    algorithms=[Stretched(power=3), nearest], datasets="blobs", test="5w1s5q",
    evaluation={"tasks": 4}, backend="cpu:threads=1", quiet=True,
)
print(list(frame["status"]), len(set(frame["mean"])))
'''


def test_a_class_and_a_function_of_a_script_are_rows_that_cannot_be_published(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "mine.py"], cwd=tmp_path, env=shell_environment(), capture_output=True, text=True
    )
    assert done.stdout == "['ok', 'ok'] 1\n", done.stdout + done.stderr
    paths = sorted((tmp_path / "results/local/runs-v1").glob("*.json"))
    results = {result.cell.algorithm.name: result for result in map(read_result, paths)}
    own = results["stretched"]
    assert own.cell.algorithm.settings == {"distance": "euclidean", "power": 3}
    assert own.cell.plugins["algorithm"].startswith(f"{LOCAL} ")
    source = own.environment["sources"]["algorithm"]
    assert "class Stretched(NearestNeighbour):" in source
    assert "def scale():" in source
    assert "POWER = 1" in source
    assert "def nearest(" in results["nearest"].environment["sources"]["algorithm"]
    path = next(path for path in paths if path.name.startswith("stretched"))
    with pytest.raises(RequestError, match="its algorithm is of a script or notebook"):
        publish(Verified((path,), (), ()), tmp_path / "published")


NOTEBOOK = """
def double(x):
    return FACTOR * x

@dataclass(frozen=True, kw_only=True)
class Doubled(NearestNeighbour):
    name = "doubled"
    needed: int = setting(REQUIRED, "a number")
    def train_protocol(self, test):
        return double(None)
"""


def test_a_class_of_a_notebook_has_its_source_and_travels_with_what_it_uses() -> None:
    linecache.cache["<cell 1>"] = (len(NOTEBOOK), None, NOTEBOOK.splitlines(keepends=True), "<cell 1>")
    names = {"__name__": "__main__", "dataclass": dataclass, "setting": setting, "REQUIRED": REQUIRED}
    names |= {"NearestNeighbour": NearestNeighbour, "FACTOR": 3}
    exec(compile(NOTEBOOK, "<cell 1>", "exec"), names)
    doubled = names["Doubled"]
    assert isinstance(doubled, type)
    carried = carry(doubled)
    for line in ("@dataclass(frozen=True", "class Doubled(", "def double(x):", "FACTOR = 3"):
        assert line in carried.source
    names["FACTOR"] = 4
    assert carry(doubled).version != carried.version


class Furthest(NearestNeighbour):
    name = "furthest"


class Namesake(NearestNeighbour):
    """Has the name of what it inherits from."""


def arguments(**changes: object) -> Arguments:
    given = {"algorithms": [NearestNeighbour], "datasets": [Blobs()], "tests": ["5w1s5q"], **changes}
    return Arguments(**given)  # type: ignore[arg-type]


def test_other_source_is_another_cell_and_the_settings_of_an_object_are_the_cells() -> None:
    registry = load()
    installed, own, *_ = read_arguments(
        registry, arguments(algorithms=[NearestNeighbour(distance="cosine"), Furthest])
    ).cells
    assert installed.algorithm.settings["distance"] == "cosine"
    assert installed.plugins["algorithm"].startswith("metabench ")
    cls = received(registry.carried(own)["algorithm"].pickled, ())
    assert [item.name for item in describe_settings(cls)] == ["distance"]
    assert carry(Furthest).version == own.plugins["algorithm"].removeprefix(f"{LOCAL} ")
    assert carry(Furthest).version != carry(Namesake).version


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithms": [Namesake]}, "plugin .* provides the algorithm 'nearest-neighbour' already"),
        ({"algorithms": [3]}, "--algorithm must be a name, a table, .* or something to call, got 3"),
        ({"datasets": [3]}, "--dataset must be a name, a table, or a class or object of metabench.Dataset"),
        ({"datasets": [NearestNeighbour]}, "--dataset NearestNeighbour: the class is no sub"),
        ({"algorithms": [lambda x: x], "save": Path("mine.toml")}, "no package provides lambda, which"),
    ],
)  # fmt: skip
def test_what_is_no_component_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_arguments(load(), arguments(**changes))


def test_an_installed_estimator_is_named_by_its_path() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    registry = load()
    by_object = read_arguments(registry, arguments(algorithms=[KNeighborsClassifier(n_neighbors=1)])).cells
    by_class = read_arguments(registry, arguments(algorithms=[KNeighborsClassifier])).cells
    assert [cell.label for cell in (*by_object, *by_class)] == [
        "KNeighborsClassifier(n_neighbors=1)", "KNeighborsClassifier"
    ]  # fmt: skip
