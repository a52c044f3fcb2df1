"""MAML: a starting point from which a few gradient steps learn a task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from metabench import Examples, Network, Preset, Workload, setting
from metabench.device import Device
from metabench.engine import inner_steps
from metabench.learning import Adapted, GradientAlgorithm, GradientLearner


@dataclass(frozen=True, kw_only=True)
class Maml(GradientAlgorithm):
    """Learns the weights from which a few gradient steps on a task's support set do best on its queries.

    C. Finn, P. Abbeel, S. Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, ICML
    2017, algorithm 2; with `first_order` the first-order approximation of its section 5.2. As in the authors'
    code batch norm takes the statistics of all queries, so the evaluation is transductive unless `statistics`
    says otherwise. Departures: the loss of a support set is its mean, where that code sums over classes, so
    that the paper's 0.4 for 5 ways is an `inner_rate` of 2 here, as in the presets; the test takes as many
    steps as training unless `test_steps` says otherwise, where the paper takes 3 or 10 and that code 10; all
    weights adapt, also scales and shifts of batch norm, where that code has no scales and does not adapt
    shifts; the paper clips the meta-gradient of Mini-ImageNet to ±10, here nothing is clipped.
    """

    name: ClassVar[str] = "maml"
    presets: ClassVar[Mapping[str, Preset]] = {
        "finn2017": Preset(
            "Finn et al. 2017, appendix A.1: 0.4 on the summed loss of 5 classes, here on their mean",
            {"inner_rate": 2.0, "test_steps": 3},
            'dataset = "omniglot", network = "conv4", budget = {steps = 60000, tasks = 32}; 5 ways',
        ),
        "finn2017-20way": Preset(
            "Finn et al. 2017, appendix A.1: 0.1 on the summed loss of 20 classes, here on their mean",
            {"inner_rate": 2.0, "steps": 5},
            'dataset = "omniglot", network = "conv4", budget = {steps = 60000, tasks = 16}; 20 ways',
        ),
        "finn2017-mini-imagenet": Preset(
            "Finn et al. 2017, appendix A.1: 0.01 on the summed loss of 5 classes, here on their mean",
            {"inner_rate": 0.05, "steps": 5, "test_steps": 10},
            'dataset = "mini-imagenet", network = {name = "conv4", width = 32}, '
            "budget = {steps = 60000, tasks = 4}; 15 queries",
        ),
        "finn2017-sinusoid": Preset(
            "Finn et al. 2017, section 5.1 (the authors' code: 0.001)",
            {"inner_rate": 0.01},
            'dataset = "sinusoid", network = "mlp", budget = {steps = 70000, tasks = 25}; 10 shots',
        ),
        "learn2learn-omniglot": Preset(
            "the example of learn2learn, maml_omniglot",
            {"inner_rate": 0.5, "rate": 0.003},
            'dataset = "omniglot", network = "conv4", budget = {steps = 60000, tasks = 32}; queries as shots',
        ),
    }

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
