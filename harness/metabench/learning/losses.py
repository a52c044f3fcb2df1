"""The loss of each task, and the gradient of its mean over a batch of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from metabench.contracts import Episodes, Examples
from metabench.records.outputs import DataKind, Outputs

Batch = TypeVar("Batch", Episodes, Examples)
HOST_INPUTS = 128 * 28 * 28
"""Input elements that pass a network at once on a CPU: more of them fault more pages than they save calls."""
DEVICE_INPUTS = 8192 * 28 * 28
"""Input elements that pass a network at once on an accelerator; bounds the memory of activations."""


def task_losses(kind: DataKind, prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean loss of each task, [T]: cross entropy, or squared error for regression.

    prediction: [T, q, outputs]; target: [T, q] class numbers, or [T, q, outputs] values.
    """
    if kind == "regression":
        return F.mse_loss(prediction, target, reduction="none").flatten(1).mean(1)
    flat = F.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none")
    return flat.view(target.shape).mean(1)


def outputs_of(kind: DataKind) -> Outputs:
    """Return the type of predictions that are trained by `task_losses`: logits, or values in regression."""
    return "values" if kind == "regression" else "logits"


def mean_gradient(
    parameters: Sequence[Tensor], losses: Callable[[Batch], Tensor], batch: Batch, at_once: int = 0
) -> Tensor:
    """Leave in `.grad` the gradient of the mean loss over the batch's tasks; return the losses [T].

    losses: gives the loss of each task, [T], of a part of the batch; at_once: how many tasks are run
    together (0: as many as suit the device), so that memory does not grow with the meta-batch.
    """
    tasks = len(batch.index if isinstance(batch, Episodes) else batch.x)
    at_once = at_once or _tasks_at_once(batch)
    for parameter in parameters:
        parameter.grad = None
    losses_of_parts = []
    for start in range(0, tasks, at_once):
        part = losses(some_tasks(batch, slice(start, start + at_once)))
        (part.sum() / tasks).backward(inputs=list(parameters))  # type: ignore[no-untyped-call]  # torch's own
        losses_of_parts.append(part.detach())
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return torch.cat(losses_of_parts)


def _tasks_at_once(batch: Episodes | Examples) -> int:
    """Return how many tasks (or micro-batches) pass a network at once on the batch's device."""
    inputs = (batch.support.x, batch.query.x) if isinstance(batch, Episodes) else (batch.x,)
    limit = HOST_INPUTS if inputs[0].device.type == "cpu" else DEVICE_INPUTS
    return max(1, limit // sum(x[0].numel() for x in inputs))


def some_tasks(batch: Batch, span: slice) -> Batch:
    """Return the tasks of a batch (or its micro-batches) that `span` takes, as views."""
    if isinstance(batch, Episodes):
        support, query = (Examples(part.x[span], part.y[span]) for part in (batch.support, batch.query))
        return Episodes(support, query, batch.classes[span], batch.index[span])
    return Examples(batch.x[span], batch.y[span])
