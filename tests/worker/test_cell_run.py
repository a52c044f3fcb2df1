"""The loop: what it times, keeps, ends on and checks."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metabench import (
    Batches,
    Budget,
    Cell,
    Diverged,
    Episodes,
    Evaluation,
    Examples,
    Protocol,
    Source,
    Spec,
)
from metabench.device import Device
from metabench.learning import ModuleLearner, task_losses
from metabench.records import Split
from metabench.worker import cell_run
from metabench_plugins.metrics.mse import MeanSquaredError


class Shifts(Source):
    """Tasks y = task number's own constant; labelled batches count upwards."""

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        number = torch.tensor(list(indices))
        value = ((number * 7 + seed) % 5).double()[:, None, None] + (100.0 if split == "test" else 0.0)
        n, q = protocol.shots, protocol.queries
        x = torch.arange(n + q, dtype=torch.float64).expand(len(number), -1)[..., None]
        y = value.expand(-1, n + q, -1)
        none = torch.zeros(len(number), 0, dtype=torch.long)
        return Episodes(Examples(x[:, :n], y[:, :n]), Examples(x[:, n:], y[:, n:]), none, number)

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        x = torch.tensor([[[float(i)]] * batches.micro for i in indices], dtype=torch.float64)
        return Examples(x, x[..., 0].long())

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        return {"value": np.array([(i * 7 + seed) % 5 for i in indices])}


class Follower(ModuleLearner):
    """Predicts the support's mean plus a learned offset; `script` overrides its losses or its offset."""

    def __init__(self, offsets: Sequence[float] = (), losses: Sequence[float] = ()) -> None:
        module = nn.Module()
        module.register_parameter("offset", nn.Parameter(torch.ones((), dtype=torch.float64)))
        super().__init__(module, torch.optim.SGD(module.parameters(), 0.1))
        self.offsets, self.losses = list(offsets), list(losses)
        self.finished: list[list[float]] = []

    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        self.module.zero_grad()
        losses = task_losses(
            "regression", self.predict(self.adapt(batch.support), batch.query.x), batch.query.y
        )
        losses.mean().backward()
        if self.losses:
            return torch.full_like(losses, self.losses[step]).detach()
        return losses.detach()

    def update(self, step: int, total: int) -> None:
        if self.offsets:
            with torch.no_grad():
                self.module.offset.fill_(self.offsets[step])  # type: ignore[operator]  # it is the parameter
        else:
            super().update(step, total)

    def adapt(self, support: Examples, steps: int | None = None) -> Tensor:
        return support.y.mean(1, keepdim=True) + (0 if steps is None else steps)

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        return (state + self.module.offset).expand(-1, query_x.shape[1], -1)

    def finish(self, batches: Iterator[Examples]) -> None:
        self.finished.append([float(b.x[0, 0]) for b in itertools.islice(batches, 3)])


class Draining(Shifts):
    """Every meta-train draw costs a joule, every other one a hundred."""

    def __init__(self, device: "Metered") -> None:
        self.device = device

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        self.device.joules += 1.0 if split == "train" else 100.0
        return super().episodes(split, protocol, indices, seed)


class Metered(Device):
    joules = 0.0

    def energy(self) -> dict[str, float]:
        return {"meter": self.joules}


class Counted(Device):
    """A device whose clock goes on by one at each moment that is noted."""

    count = 0.0

    def moment(self) -> float:
        self.count += 1
        return self.count


class Mask(Follower):
    """Refuses to answer with -inf: below the mean of the queries, or everywhere."""

    def __init__(self, everywhere: bool) -> None:
        super().__init__()
        self.everywhere = everywhere

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        refused = torch.ones_like(query_x).bool() if self.everywhere else query_x < query_x.mean(1, True)
        return super().predict(state, query_x).masked_fill(refused, -math.inf)


class Crowd(Follower):
    """Cannot predict a single query, as batch norm cannot; `peeks` at the number of the others."""

    def __init__(self, peeks: bool) -> None:
        super().__init__()
        self.peeks = peeks

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        assert query_x.shape[1] > 1
        spread = query_x.std(1, keepdim=True) if self.peeks else 0.0
        return super().predict(state, query_x) + spread


class Peeker(Follower):
    """Predicts with the mean of the queries: the others of the task show."""

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        return super().predict(state, query_x) + query_x.mean(1, keepdim=True)


class EqualScore(MeanSquaredError):  # noqa: N818 - a metric
    """Finds every prediction as good, so that one of infinity can be scored."""

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.zeros(len(prediction))


def cell(budget: Budget, evaluation: Evaluation | None = None, train: Any = Protocol(1, 3, 2)) -> Cell:  # noqa: B008 - frozen
    return Cell(
        suite="s", suite_version=1, algorithm=Spec("follower"), network=None, dataset=Spec("shifts"),
        test=Protocol(1, 3, 2), train=train, budget=budget,
        evaluation=evaluation or Evaluation(10, metric="mse"), backend=Spec("cpu"), seed=3, plugins={},
    )  # fmt: skip


def run_of(
    learner: Follower, budget: Budget, evaluation: Evaluation | None = None, **more: Any
) -> cell_run.Run:
    device = Device(dtype=torch.float64)
    return cell_run.Run(cell(budget, evaluation, **more), learner, Shifts(), MeanSquaredError(), device)


def test_blocks_cover_every_step_once_and_warm_up_stands_apart() -> None:
    run = run_of(Follower(), Budget(steps=200, tasks=4))
    cell_run.train(run)
    done = run.training
    assert [b.steps for b in done.warmup] == [1] * 5
    assert sum(b.steps for b in (*done.warmup, *done.blocks)) == done.steps == 200
    assert done.seconds == pytest.approx(sum(b.seconds for b in (*done.warmup, *done.blocks)))
    assert all(b.sampling + b.learning + b.communication + b.updating <= b.seconds for b in done.blocks)
    assert done.tasks == 800


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (Budget(steps=2000, validate_every=200), 50),
        (Budget(steps=2000, validate_every=64), 32),
        (Budget(steps=100_000), 50),
        (Budget(steps=100_000, seconds=60), 10),
        (Budget(steps=3), 1),
    ],
)
def test_block_divides_the_validation_interval(budget: Budget, steps: int) -> None:
    assert cell_run.block_steps(budget) == steps


def test_best_state_by_validation_is_scored() -> None:
    offsets = [3.0, 0.5, 2.0, 4.0]
    learner = Follower(offsets=offsets)
    run = run_of(learner, Budget(steps=4, tasks=2, validate_every=1, validation_tasks=5))
    cell_run.train(run)
    assert run.training.best_step == 2
    assert [v.mean for v in run.training.validations] == pytest.approx([o**2 for o in offsets])
    scores = cell_run.evaluate(run)
    assert scores.per_task == pytest.approx([0.25] * 10)
    assert scores.state == "best validation, step 2"


def test_without_validation_the_last_state_is_scored() -> None:
    run = run_of(Follower(offsets=[3.0, 0.5]), Budget(steps=2, tasks=2))
    cell_run.train(run)
    assert cell_run.evaluate(run).state == "last"


def test_loss_that_is_no_number_ends_training_and_keeps_what_was_measured() -> None:
    run = run_of(Follower(losses=[1.0] * 30 + [math.nan] * 70), Budget(steps=100, tasks=2))
    with pytest.raises(Diverged, match="loss is nan"):
        cell_run.train(run)
    assert 30 < run.training.steps < 100
    assert run.training.losses[0] == (1, 1.0)


def test_validation_score_that_is_no_number_ends_training() -> None:
    run = run_of(Follower(offsets=[math.nan, 1.0]), Budget(steps=2, validate_every=1, validation_tasks=4))
    with pytest.raises(Diverged, match="validation score is nan after 1 steps"):
        cell_run.train(run)
    assert run.training.best_step is None


def test_test_score_that_is_no_number_is_no_result() -> None:
    run = run_of(Follower(offsets=[math.nan]), Budget(steps=1))
    cell_run.train(run)
    with pytest.raises(Diverged, match="no finite number"):
        cell_run.evaluate(run)


def test_energy_of_training_leaves_validation_out() -> None:
    device = Metered(dtype=torch.float64)
    budget = Budget(steps=6, tasks=2, validate_every=2, validation_tasks=4, target=0.0)
    run = cell_run.Run(cell(budget), Follower(), Draining(device), MeanSquaredError(), device)
    cell_run.train(run)
    assert device.joules == 306.0
    assert run.training.energy == {"meter": 6.0}
    assert run.training.target_energy == {}  # the target was missed


def test_energy_to_the_target_is_what_training_took_until_then() -> None:
    device = Metered(dtype=torch.float64)
    budget = Budget(steps=6, tasks=2, validate_every=2, validation_tasks=4, target=1e9)
    run = cell_run.Run(cell(budget), Follower(), Draining(device), MeanSquaredError(), device)
    cell_run.train(run)
    assert run.training.target_step == 2
    assert run.training.target_energy == {"meter": 2.0}


def test_parts_of_a_step_are_timed_by_the_device() -> None:
    device = Counted(dtype=torch.float64)
    run = cell_run.Run(cell(Budget(steps=40, tasks=2)), Follower(), Shifts(), MeanSquaredError(), device)
    cell_run.train(run)
    for block in (*run.training.warmup, *run.training.blocks):
        parts = (block.sampling, block.learning, block.communication, block.updating)
        assert parts == (block.steps,) * 4


def test_target_ends_training_and_is_noted_with_its_time() -> None:
    offsets = [1 / (step + 1) for step in range(50)]
    run = run_of(
        Follower(offsets=offsets),
        Budget(steps=50, tasks=2, validate_every=5, validation_tasks=5, target=0.011),
    )
    cell_run.train(run)
    assert run.training.ended_by == "target"
    assert run.training.target_step == 10
    assert run.training.target_seconds == run.training.seconds


def test_seconds_end_training() -> None:
    run = run_of(Follower(), Budget(steps=10**6, tasks=2, seconds=0.2))
    cell_run.train(run)
    assert run.training.ended_by == "seconds"
    assert 0.2 <= run.training.seconds < 5


def test_no_budget_leaves_the_learner_untrained() -> None:
    learner = Follower()
    run = run_of(learner, Budget(steps=0))
    cell_run.train(run)
    assert learner.parameters()[0].item() == 1.0
    assert cell_run.evaluate(run).per_task == pytest.approx([1.0] * 10)


def test_test_tasks_are_the_same_for_every_training_seed_and_curve_follows_the_steps() -> None:
    evaluation = Evaluation(12, metric="mse", batch=5, curve=(0, 2), latency_tasks=3)
    scores = cell_run.evaluate(run_of(Follower(), Budget(), evaluation))
    assert scores.manifest == cell_run.manifest_digest(Shifts(), "test", Protocol(1, 3, 2), evaluation)
    other = cell_run.manifest_digest(Shifts(), "test", Protocol(1, 3, 2), Evaluation(12, seed=2))
    assert scores.manifest != other
    assert scores.adapt_tasks == (5, 5, 2)
    assert len(scores.latency_seconds) == 3
    assert scores.curve["0"] == pytest.approx([1.0] * 12)
    assert scores.curve["2"] == pytest.approx([9.0] * 12)


def test_dependence_on_other_queries_is_found_out() -> None:
    assert cell_run.evaluate(run_of(Follower(), Budget())).transductive_found is False
    assert cell_run.evaluate(run_of(Peeker(), Budget())).transductive_found is True


@pytest.mark.parametrize("queries", [2, 3, 4, 5])
@pytest.mark.parametrize("peeks", [True, False])
def test_check_of_transduction_never_asks_for_a_single_query(queries: int, peeks: bool) -> None:
    run = run_of(Crowd(peeks), Budget())
    run.cell = replace(run.cell, test=Protocol(1, 3, queries))
    assert cell_run.evaluate(run).transductive_found is peeks


@pytest.mark.parametrize("everywhere", [True, False])
def test_check_of_transduction_compares_infinities(everywhere: bool) -> None:
    run = run_of(Mask(everywhere), Budget())
    run.metric = EqualScore()
    assert cell_run.evaluate(run).transductive_found is not everywhere


def test_finish_sees_the_same_labelled_examples_each_time() -> None:
    learner = Follower()
    run = run_of(learner, Budget(steps=4, tasks=2, validate_every=2, validation_tasks=2))
    cell_run.train(run)
    cell_run.evaluate(run)
    assert learner.finished == [[0.0, 1.0, 2.0]] * 3


def test_ranks_share_out_every_unit_once() -> None:
    class Rank(Device):
        def __init__(self, rank: int, world: int) -> None:
            super().__init__()
            self.rank, self.world_size = rank, world

    for count, world in itertools.product((1, 5, 32), (1, 2, 3, 4)):
        shares = [cell_run.share(count, Rank(rank, world)) for rank in range(world)]
        assert [i for share in shares for i in share] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_supervised_batches_are_drawn_as_micro_batches() -> None:
    run = run_of(Follower(), Budget(steps=1, tasks=48), train=Batches(48, 16))
    drawn = cell_run.draw(run, 2)
    assert isinstance(drawn, Examples)
    assert drawn.y[:, 0].tolist() == [6, 7, 8]  # three micro-batches a step, numbered on from step to step
