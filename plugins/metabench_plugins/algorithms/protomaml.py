"""Proto-MAML: MAML whose head starts as the prototypes of the task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metabench import Examples, Invalid, Network, Preset, Workload, setting
from metabench.device import Device
from metabench.engine import TaskWeights, inner_steps
from metabench.learning import (
    STATISTICS,
    STATISTICS_HELP,
    TASK_STATISTICS,
    TRAIN_STATISTICS_HELP,
    Adapted,
    GradientAlgorithm,
    GradientLearner,
    equal_ways,
)


@dataclass(frozen=True, kw_only=True)
class ProtoMaml(GradientAlgorithm):
    """Adapts features and a linear head, which starts as the nearest-prototype classifier of the task.

    E. Triantafillou et al.: Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples, ICLR
    2020, section 3 ("fo-Proto-MAML"; the paper takes the first order only, here it is a setting). The
    meta-gradient flows through the head's start, as in the paper. As in the authors' code batch norm takes
    the statistics of the support set, in training and test alike. Departures: scales and shifts of batch norm
    adapt, where that code keeps them; by default one step at 0.1, where that code takes 5 at 0.01, and at
    best 6 at 0.0054; no weight decay (1e-4 in that code).
    """

    name: ClassVar[str] = "protomaml"
    kinds: ClassVar[frozenset[str]] = frozenset({"classification"})
    any_ways: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "triantafillou2020": Preset(
            "the authors' code, the best rate and steps of their search",
            {"first_order": True, "inner_rate": 0.0054, "steps": 6},
            "",
        ),
    }

    inner_rate: float = setting(0.1, "step size of adaptation, α", above=0)
    statistics: str = setting("support", STATISTICS_HELP, choices=STATISTICS)
    train_statistics: str = setting("support", TRAIN_STATISTICS_HELP, choices=TASK_STATISTICS)
    first_order: bool = setting(False, "take the inner gradients for constants")

    def build(self, workload: Workload, network: Network | None, device: Device) -> "ProtoMamlLearner":
        """Build the learner of the features; the head is each task's own."""
        if self.execution != "eager" and equal_ways(workload) is None:
            raise Invalid(
                f"{self.name}: execution must be 'eager' where ways differ from task to task, got "
                f"{self.execution!r}: the size of the head is read from each task's labels"
            )
        return ProtoMamlLearner(self, self.module(network, workload, device, head=False), workload)


class ProtoMamlLearner(GradientLearner):
    """A head W = 2c, b = −‖c‖² scores by the distance to the prototypes c (section 3)."""

    def __init__(self, protomaml: ProtoMaml, module: nn.Module, workload: Workload) -> None:
        super().__init__(module, workload, protomaml)
        self.protomaml = protomaml
        self.ways = equal_ways(workload)

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """Return the features' weights and the head after `steps` gradient steps on the support set."""

        def loss(weights: TaskWeights) -> Tensor:
            return self.loss(scores(self.network(support.x, weights, part="features"), weights), support.y)

        ways = self.ways or int(support.y.max()) + 1
        features = self.network(support.x, part="features")
        adapted = inner_steps(
            loss,
            {**self.start(len(support.x)), **head_of_prototypes(features, support.y, ways)},
            self.protomaml.inner_rate,
            self.test_steps if steps is None else steps,
            first_order=self.protomaml.first_order,
        )
        return Adapted(adapted, support.x)

    def predict(self, state: Adapted, query_x: Tensor) -> Tensor:
        """Return class scores [T, q, ways] of the adapted features and head."""
        return scores(self.run(query_x, state.weights, state.support_x, part="features"), state.weights)


def head_of_prototypes(features: Tensor, y: Tensor, ways: int) -> dict[str, Tensor]:
    """Return the head that scores as −‖f − c‖² does, up to ‖f‖²: features [T, n, d], y [T, n]."""
    classes = torch.arange(ways, device=y.device)
    member = (y.unsqueeze(2) == classes).to(features.dtype)  # [T, n, ways]; one_hot cannot be compiled
    c = (member / member.sum(1, keepdim=True).clamp(min=1)).mT @ features
    return {"prototype.weight": 2 * c, "prototype.bias": -c.square().sum(2)}


def scores(features: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Return f Wᵀ + b: features [T, n, d], W [T, ways, d], b [T, ways]; returns [T, n, ways]."""
    return torch.baddbmm(weights["prototype.bias"].unsqueeze(1), features, weights["prototype.weight"].mT)
