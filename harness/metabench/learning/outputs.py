"""Predictions as metrics take them: the one place that turns a learner's outputs into what a metric needs."""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.records.outputs import SERVED_BY, Needs, Outputs

NO_CLASS = -1
"""The predicted class of a query with a score of NaN: it is right nowhere."""


def as_needed(prediction: Tensor, outputs: Outputs, needs: Needs) -> Tensor:
    """Return a learner's predictions [T, q, outputs] as a metric with this need takes them.

    Logits become log-probabilities wherever class scores are asked for: they are known up to a constant for
    each query, which would decide how a metric ranks queries. Of equal scores the first class is predicted.
    Raises ValueError where the outputs do not serve the need (`metabench.records.outputs.mismatch`).
    """
    if outputs not in SERVED_BY[needs]:
        raise ValueError(f"a metric that needs {needs} cannot score {outputs}")
    if needs == "classes":
        return prediction.argmax(-1).masked_fill(prediction.isnan().any(-1), NO_CLASS)
    if outputs == "logits":
        short = prediction.dtype in (torch.float16, torch.bfloat16)
        return (prediction.float() if short else prediction).log_softmax(-1)
    return prediction
