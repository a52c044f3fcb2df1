"""Requests beyond a bound: each is refused within a second, with a message that says the bound."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.results import made_cell
from metabench import Cell
from metabench.errors import RequestError, SuiteError
from metabench.plugins import KINDS, load
from metabench.runner import make_plan
from metabench.suite.bounds import MOST_CELLS, require_distinct_ids
from metabench.suite.suite import read

SUITE = """
name = "large"
version = 1
[defaults]
dataset = {name = "blobs", shape = [4], classes = 10, held_out = 10}
test = {ways = 5, shots = 1, queries = 2}
evaluation = {tasks = 12, batch = 6}
[[cells]]
algorithm = "nearest-neighbour"
"""
SWEEP = "[cells.sweep]\n" + "".join(
    f'"{key}" = {list(range(2, 12))}\n'
    for key in ("budget.steps", "budget.tasks", "evaluation.tasks", "evaluation.batch",
                "budget.validation_tasks", "evaluation.seed", "budget.seconds")
)  # fmt: skip
LEVELS = 100_000
DEEP = "must nest tables and lists at most 16 levels deep"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("x = " + "[" * LEVELS + "]" * LEVELS, DEEP),
        ("x = " + "{a = " * 300 + "1" + "}" * 300, DEEP),
        (".".join("a" * LEVELS) + " = 1", DEEP),
        ("[" + ".".join(["'b'"] * LEVELS) + "]", DEEP),
        ("x = " + "[" * 20 + "]" * 20, DEEP),
        (SWEEP, "must ask for at most 20000 cells, seeds counted, asks for 10000000"),
        (f"seeds = {list(range(100_000))}", "asks for 100000"),
        (f"seeds = {list(range(1_000_000))}", "must have at most 1048576 bytes"),
        ("[[cells]]\n" * 30_000, "asks for 30001"),
        ("label = '" + "x" * 2**20 + "'", "must have at most 1048576 bytes"),
        ("seeds = [" + "9" * 400 + "]", "integers must fit 64 bits"),
        ("seeds = [" + "9" * 5_000 + "]", "not a TOML file"),
        ("budget = {target = nan}", "must be .*finite number|must be float or none"),
        ("budget = {seconds = inf}", "must be .*finite number|must be float or none"),
    ],
    ids=lambda text: text[:20],
)
def test_a_suite_beyond_a_bound_is_refused_at_once(tmp_path: Path, more: str, message: str) -> None:
    path = tmp_path / "large.toml"
    path.write_text(SUITE + more)
    registry = load()
    for kind in KINDS:
        registry.entries(kind)  # importing torch is not what is measured

    start = time.process_time()
    with pytest.raises(SuiteError, match=message):
        read(registry, str(path))

    assert time.process_time() - start < 1


def test_seeds_of_the_command_line_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text(SUITE)

    with pytest.raises(SuiteError, match="asks for 1000000"):
        read(load(), str(tmp_path / "large.toml"), seeds=range(1_000_000))


def test_a_suite_may_have_many_cells(tmp_path: Path) -> None:
    drawn = SUITE.replace('"nearest-neighbour"', '"protonet"\nnetwork = "mlp"')
    (tmp_path / "large.toml").write_text(drawn + f"seeds = {list(range(300))}")

    assert len(read(load(), str(tmp_path / "large.toml")).cells) == 300
    assert MOST_CELLS == 20_000


class _SameId(Cell):
    id = "one-id"


def test_two_cells_of_one_id_are_refused() -> None:
    first, second = (replace(_SameId(**vars(made_cell())), seed=seed) for seed in (0, 1))

    require_distinct_ids(Path("s.toml"), [first, first])
    with pytest.raises(SuiteError, match="two cells must not have one id, one-id"):
        require_distinct_ids(Path("s.toml"), [first, second])


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.0, 1e10])
def test_a_timeout_is_a_finite_number_of_seconds_above_0(seconds: float) -> None:
    with pytest.raises(RequestError, match=r"--timeout must be a number of seconds > 0, at most 1e\+09, got"):
        make_plan("quick", timeout=seconds)
