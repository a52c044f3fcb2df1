"""One cell in a process of its own: what its result says of how it ran."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from helpers.shell import Shell
from helpers.toy_runs import Follower, run_of
from metabench import Budget, Episodes, Examples
from metabench.worker import cell as worker
from metabench.worker.cell_run import CellRun, draw
from metabench.worker.training import train

SUITE = """
name = "paths"
version = 1
[[cells]]
algorithm = "maml"
dataset = "toy-lines"
test = {ways = 1, shots = 4, queries = 4}
budget = {steps = 2, tasks = 4}
evaluation = {tasks = 4}
backend = {name = "cpu", threads = 1}
[cells.sweep]
network = ["toy-attention", "mlp"]
"""


def test_result_names_the_engine_path_and_why_it_is_not_the_fast_one(shell: Shell) -> None:
    (shell.folder / "paths.toml").write_text(SUITE)

    shell.run("run", "paths.toml", "--quiet")

    paths = {str(result.cell.network): result.path for result in shell.results("paths-v1")}
    assert paths["toy-attention"] == "vmap (no rule for call_function softmax)"
    assert paths["mlp"] in ("batched", "batched, kernels")


@pytest.mark.parametrize(("steps", "drawn"), [(0, []), (1, [0]), (30, [29])])
def test_cost_is_that_of_the_last_step(steps: int, drawn: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = []

    def noted_draw(run: CellRun, step: int) -> Sequence[Episodes | Examples]:
        numbers.append(step)
        return draw(run, step)

    monkeypatch.setattr(worker, "draw", noted_draw)
    run = run_of(Follower(), Budget(steps=steps, tasks=2))
    train(run)

    assert worker._cost(run) == {}  # the toy learner has no products to count
    assert numbers == drawn
