"""Modified Hausdorff distance of drawings: the floor of Lake's one-shot challenge."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metabench import Algorithm, Examples, Network, Protocol, Workload, setting
from metabench.device import Device
from metabench.learning import UntrainedLearner, fixed_ways
from metabench.records import DataKind, Outputs


@dataclass(frozen=True, kw_only=True)
class Hausdorff(Algorithm):
    """Predicts the class of the support drawing whose ink is nearest, without any training.

    M.-P. Dubuisson, A. Jain: A modified Hausdorff distance for object matching, ICPR 1994, as in the demo
    of B. Lake et al., Human-level concept learning through probabilistic program induction, Science 2015:
    the coordinates of a drawing's ink pixels, less their mean, are its points. Lake's runs are read at their
    105 pixels. Each query is predicted alone: the evaluation is not transductive. Class scores are negative
    distances, which no loss has scaled: metrics of probabilities are refused.
    """

    name: ClassVar[str] = "hausdorff"
    needs_network: ClassVar[bool] = False
    any_ways: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    ink: float = setting(0.5, "an input above this is ink")

    def train_protocol(self, test: Protocol) -> None:
        """Return None: nothing is trained."""

    def predicts(self, kind: DataKind) -> Outputs:
        """Return "scores"."""
        return "scores"

    def build(self, workload: Workload, network: Network | None, device: Device) -> "HausdorffLearner":
        """Build the learner; it holds no tensors."""
        return HausdorffLearner(self, workload)


class HausdorffLearner(UntrainedLearner):
    """Compares the ink of queries with that of the support set."""

    outputs = "scores"
    transductive = False

    def __init__(self, settings: Hausdorff, workload: Workload) -> None:
        self.ink = settings.ink
        self.ways = fixed_ways(workload)

    def adapt(self, support: Examples, steps: int | None = None) -> Examples:
        """Return the support set itself: x [T, n, *input], y [T, n]."""
        return support

    def predict(self, state: Examples, query_x: Tensor) -> Tensor:
        """Return class scores [T, q, ways], minus the distance to the class's nearest example.

        A class that the support set lacks scores minus infinity.
        """
        ways = self.ways or int(state.y.max()) + 1
        distances = torch.stack(
            [self._distances(query, support) for query, support in zip(query_x, state.x, strict=True)]
        )
        absent = torch.full((*distances.shape[:2], ways), -torch.inf).to(distances)
        return absent.scatter_reduce(2, state.y[:, None].expand_as(distances), -distances, "amax")

    def _distances(self, query_x: Tensor, support_x: Tensor) -> Tensor:
        """Return the distances [q, n] of one task's queries and support examples."""
        queries, support = ([self._points(x) for x in examples] for examples in (query_x, support_x))
        return torch.stack([torch.stack([modified_hausdorff(a, b) for b in support]) for a in queries])

    def _points(self, x: Tensor) -> Tensor:
        """Return the places [points, axes] of an input's ink about their mean; without ink the origin."""
        places = x if x.dim() < 3 else x.amax(0)  # an image's first axis is its channels
        points = (places > self.ink).nonzero().to(x.dtype)
        return points - points.mean(0) if len(points) else points.new_zeros(1, places.dim())


def modified_hausdorff(a: Tensor, b: Tensor) -> Tensor:
    """Return the larger mean distance from points of a [p, d] or b [r, d] to the nearest of the other."""
    squares = a.new_zeros(len(a), len(b))
    for of_a, of_b in zip(a.mT, b.mT, strict=True):
        difference = of_a[:, None] - of_b
        squares.addcmul_(difference, difference)
    return torch.maximum(squares.amin(1).sqrt().mean(), squares.amin(0).sqrt().mean())
