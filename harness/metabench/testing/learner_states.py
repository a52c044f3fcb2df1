"""What a learner's states must hold: the learned one to predict, with the one of training to train on."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metabench.contracts import Learner
from metabench.learning.losses import some_tasks
from metabench.results.states import pack, unpack
from metabench.testing.learner_bench import STEPS, TASKS, Bench
from metabench.worker.nested import join, take_apart

OTHER_WEIGHTS = 77
"""The seed of the initial weights of a learner that a state is loaded into; the workload's stays."""


def check_state(bench: Bench) -> None:
    """Check that a fresh learner with the learned state predicts the same, to the bit, without `finish`."""
    learner = bench.learner()
    if bench.trained:
        bench.train(learner)
    bench.finish(learner)
    state = saved_state(bench, learner)
    other = bench.learner(OTHER_WEIGHTS)
    load_state(bench, other, state)
    require_same_bits(
        bench, bench.predict(learner, bench.tasks()), bench.predict(other, bench.tasks()),
        "a fresh learner that loads state_dict() predicts otherwise: state_dict must hold all that adapt and "
        "predict need, what finish computed included",
    )  # fmt: skip
    require_equal_tensors_of(
        bench, state, saved_state(bench, other), "state_dict() differs from the one that was loaded"
    )


def check_training_state(bench: Bench) -> None:
    """Check that a fresh learner that loads both states trains on as the first one does, to the bit."""
    if not bench.trained:
        return
    for ranks in (1, 2):
        learners = [bench.learner() for _ in range(ranks)]
        train_ranks(bench, learners, 0, 2)
        state = saved_state(bench, learners[0])
        training = saved_training_state(bench, learners[0])
        fresh = [bench.learner(OTHER_WEIGHTS) for _ in range(ranks)]
        for learner in fresh:
            load_both(bench, learner, state, training)
        _require_same_training(
            bench, learners, fresh,
            "a fresh learner that loads state_dict() and training_state()" + " on two ranks" * (ranks > 1),
        )  # fmt: skip
        load_both(bench, learners[0], state, training)
        again = [learners[0], *fresh[1:]]
        for learner in again[1:]:
            load_both(bench, learner, state, training)
        train_ranks(bench, again, 2, 3)
        _require_same_parameters(
            bench, again[0], fresh[0], "a learner that goes back to an earlier state and trains on"
        )


def _require_same_training(
    bench: Bench, learners: Sequence[Learner], fresh: Sequence[Learner], title: str
) -> None:
    for group in (learners, fresh):
        train_ranks(bench, group, 2, 3)
        for learner in group:
            bench.finish(learner)
    _require_same_parameters(bench, learners[0], fresh[0], title)
    require_same_bits(
        bench, bench.predict(learners[0], bench.tasks()), bench.predict(fresh[0], bench.tasks()),
        f"{title} predicts otherwise after training on",
    )  # fmt: skip


def _require_same_parameters(bench: Bench, first: Learner, second: Learner, title: str) -> None:
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        require_same_bits(
            bench, a.detach(), b.detach(),
            f"{title} trains on otherwise: training_state must hold the optimizer with its moments, the "
            "schedule and heads that only training needs",
        )  # fmt: skip


def train_ranks(bench: Bench, learners: Sequence[Learner], first: int, steps: int) -> None:
    """Take steps as ranks do that share a batch: each learns on its part, all update by the mean gradient."""
    ends = [TASKS * rank // len(learners) for rank in range(len(learners) + 1)]
    for step in range(first, first + steps):
        batch = bench.batch(step)
        parts = [slice(*ends[rank : rank + 2]) for rank in range(len(learners))]
        shares = [(part.stop - part.start) / TASKS for part in parts]
        gradients = [
            bench.learn(learner, some_tasks(batch, part), step)[1]
            for learner, part in zip(learners, parts, strict=True)
        ]
        means = [
            torch.stack([g * share for g, share in zip(of_ranks, shares, strict=True)]).sum(0)
            for of_ranks in zip(*gradients, strict=True)
        ]
        for learner in learners:
            for parameter, mean in zip(learner.parameters(), means, strict=True):
                parameter.grad = mean.clone()
            with bench.subject.doing("update(step, total)"):
                learner.update(step, STEPS)


def saved_state(bench: Bench, learner: Learner) -> dict[str, Tensor]:
    """Return the learned state after the way through a file."""
    with bench.subject.doing("state_dict()"):
        state = learner.state_dict()
    bench.subject.require(
        isinstance(state, dict)
        and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in state.items()),
        "state_dict() must return tensors by name, in one flat dictionary; what only training needs belongs "
        "to training_state()",
    )
    with bench.subject.doing("writing state_dict() as safetensors"):
        return unpack(pack(state))


def saved_training_state(bench: Bench, learner: Learner) -> Mapping[str, Any]:
    """Return the state of training after the way through a file."""
    with bench.subject.doing("training_state()"):
        training = learner.training_state()
    with bench.subject.doing("writing training_state() as tensors and plain values"):
        tensors: dict[str, Tensor] = {}
        plain = json.dumps(take_apart(training, tensors))
        joined: Mapping[str, Any] = join(json.loads(plain), unpack(pack(tensors)))
    return joined


def load_state(bench: Bench, learner: Learner, state: Mapping[str, Tensor]) -> None:
    """Load a learned state; the state itself must not change."""
    with bench.subject.doing("load_state_dict(state)"):
        learner.load_state_dict(copy.deepcopy(dict(state)))


def load_both(
    bench: Bench, learner: Learner, state: Mapping[str, Tensor], training: Mapping[str, Any]
) -> None:
    """Load the learned state, then that of training."""
    load_state(bench, learner, state)
    with bench.subject.doing("load_training_state(state)"):
        learner.load_training_state(copy.deepcopy(training))


def require_same_bits(bench: Bench, a: Tensor, b: Tensor, what: str) -> None:
    """Raise ContractError with `what` unless both tensors are equal to the bit; NaN equals itself."""
    same = a.shape == b.shape and torch.equal(a.isnan(), b.isnan())
    bench.subject.require(same and torch.equal(a.nan_to_num(), b.nan_to_num()), what)


def require_equal_tensors_of(
    bench: Bench, first: Mapping[str, Tensor], second: Mapping[str, Tensor], what: str
) -> None:
    """Raise ContractError with `what` unless both states have the same names and tensors."""
    bench.subject.require(first.keys() == second.keys(), f"{what}: other names")
    for name in first:
        require_same_bits(bench, first[name], second[name], f"{what}: {name!r}")
