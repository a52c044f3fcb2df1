"""One cell in a process of its own: what its result says of how it ran."""

from __future__ import annotations

import pytest

from helpers.shell import Shell
from metabench.device import Device
from metabench.worker import cell as worker
from metabench.worker.disturbance import look, worst

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

    found = {str(result.cell.network): result.path for result in shell.results("paths-v1")}
    assert found == {"toy-attention": "vmap (no rule for call_function softmax)", "mlp": "batched"}


class Machine(Device):
    """Two ranks, of which the other one tells what is given here."""

    def __init__(self, other: dict[str, object]) -> None:
        super().__init__()
        self.other = other

    def condition(self) -> dict[str, object]:
        return {"sm_mhz": 1800, "others_cores": 0.1, "throttled": []}

    def gather(self, values):  # type: ignore[no-untyped-def]
        import json

        return [list(values), list(json.dumps(self.other).encode())]


def test_look_tells_the_worst_of_all_ranks() -> None:
    other = {"sm_mhz": 900, "others_cores": 1.5, "throttled": ["power cap"], "reference_seconds": 7.0}

    assert look(Machine(other)) == other


def test_figure_that_one_rank_lacks_is_that_of_the_others() -> None:
    assert worst([{"load_1min": 1.0}, {"load_1min": 2.0, "celsius": 60}]) == {"load_1min": 2.0, "celsius": 60}


@pytest.mark.parametrize(("step", "wanted"), [(0, 0), (1, 0), (30, 29)])
def test_cost_is_that_of_the_last_step(step: int, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from metabench.records import Budget
    from metabench.worker import cell_run
    from worker.test_cell_run import Follower, run_of

    asked = []
    monkeypatch.setattr(cell_run, "draw", lambda run, step: asked.append(step))
    run = run_of(Follower(), Budget(steps=step, tasks=2))
    cell_run.train(run)

    assert worker._cost(run) == {}
    assert asked == [wanted]
