"""MAML: a starting point from which a few gradient steps learn a task."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from metabench import Examples, Network, Workload, setting
from metabench.device import Device
from metabench.engine import inner_steps
from metabench.learning import Adapted, GradientAlgorithm, GradientLearner


@dataclass(frozen=True, kw_only=True)
class Maml(GradientAlgorithm):
    """Learns the weights from which a few gradient steps on a task's support set do best on its queries.

    C. Finn, P. Abbeel, S. Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, ICML
    2017, algorithm 2; with `first_order` the first-order approximation of its section 5.2. Departure: the
    paper clips the meta-gradient of Mini-ImageNet to ±10, here nothing is clipped. As in the authors' code
    batch norm takes the statistics of all queries, so the evaluation is transductive unless `statistics` says
    otherwise.
    """

    name: ClassVar[str] = "maml"

    first_order: bool = setting(False, "take the inner gradients for constants")

    def build(self, workload: Workload, network: Network | None, device: Device) -> "MamlLearner":
        """Build the learner of the whole network's starting point."""
        return MamlLearner(self, self.module(network, workload, device), workload)


class MamlLearner(GradientLearner):
    """θ'ᵢ = θ − α ∇L(θ; supportᵢ); the meta-objective is Σᵢ L(θ'ᵢ; queriesᵢ) (equation 1)."""

    def __init__(self, maml: Maml, module: nn.Module, workload: Workload) -> None:
        super().__init__(module, workload, maml)
        self.maml = maml

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """Return all weights after `steps` gradient steps on the support set."""
        adapted = inner_steps(
            self.loss_on(support),
            self.start(len(support.x)),
            self.maml.inner_rate,
            self.test_steps if steps is None else steps,
            first_order=self.maml.first_order,
        )
        return Adapted(adapted, support.x)
