"""FLOPs of a meta-step: multiplications and additions of its matrix products and convolutions.

torch's own counter is right except for one formula: it counts the weight gradient of a grouped convolution
as if there were one group, which multiplies it by the number of tasks where tasks lie in the channel axis.
Elementwise work, normalisation and linear solvers are not counted (a few per cent of a convolutional net).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from metabench.contracts import Episodes, Examples, Learner
from metabench.engine.execution import Execution


def flops_per_step(
    learner: Learner, batch: Episodes | Examples, step: int = 0, total: int = 1
) -> float | None:
    """Return the FLOPs of one `learner.learn(batch, step, total)`, on this rank's batch; None if uncountable.

    A step that runs compiled or captured calls no operation of torch, so it is counted in eager execution.
    The learner's state and gradients are restored. Call it outside every timed part: it slows the step.
    """
    try:
        with _Restored(learner), _eager(learner), counter() as counted:
            learner.learn(batch, step, total)
    except Exception:  # a learner that cannot run under the counter keeps its result, without this column
        return None
    return float(counted.get_total_flops()) or None


def counter() -> FlopCounterMode:
    """Return torch's FLOP counter, with the gradient of grouped convolutions corrected.

    Usage: `with counter() as counted: …`, then `counted.get_total_flops()`.
    """
    return FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: convolution_gradient_flops}
    )


def convolution_gradient_flops(
    grad_shape: torch.Size,
    x_shape: torch.Size,
    w_shape: torch.Size,
    bias_sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: list[bool],
    out_shape: Any = None,
    **rest: Any,
) -> int:
    """Return the FLOPs of both gradients: each costs as much as the convolution itself.

    w_shape: [outputs, inputs / groups, *kernel] ([inputs, outputs / groups, *kernel] where transposed),
    which includes the groups; the gradient of a bias is a sum and is not counted.
    """
    places = prod(x_shape[2:] if transposed else grad_shape[2:])
    return sum(output_mask[:2]) * 2 * x_shape[0] * places * prod(w_shape)


@contextmanager
def _eager(learner: Learner) -> Iterator[None]:
    """Run the learner's meta-step operation by operation within this context."""
    execution = getattr(learner, "execution", None)
    if not isinstance(execution, Execution):
        if any(word in learner.path for word in ("graph", "compile")):
            raise ValueError(f"{type(learner).__name__} hides its operations")
        yield
        return
    mode, execution.mode = execution.mode, "eager"
    try:
        yield
    finally:
        execution.mode = mode


class _Restored:
    """Restores a learner's state, its gradients and the state of torch's RNG on leaving."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._random = torch.random.fork_rng()

    def __enter__(self) -> None:
        self._state = deepcopy(self._learner.state_dict())
        self._training = deepcopy(self._learner.training_state())
        self._gradients = [None if p.grad is None else p.grad.clone() for p in self._learner.parameters()]
        self._random.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._random.__exit__(*error)
        self._learner.load_state_dict(self._state)
        self._learner.load_training_state(self._training)
        for parameter, gradient in zip(self._learner.parameters(), self._gradients, strict=True):
            parameter.grad = gradient
