"""ANIL: MAML that adapts the head alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from metabench import Examples, Network, Preset, Workload, setting
from metabench.device import Device
from metabench.engine import TaskWeights, inner_steps
from metabench.learning import Adapted, GradientAlgorithm, GradientLearner


@dataclass(frozen=True, kw_only=True)
class Anil(GradientAlgorithm):
    """Learns features that serve all tasks, and the head from which a few gradient steps learn a task.

    A. Raghu, M. Raghu, S. Bengio, O. Vinyals: Rapid Learning or Feature Reuse? Towards Understanding the
    Effectiveness of MAML, ICLR 2020, section 4.1. As in MAML's own code batch norm takes the statistics of
    all queries, so the evaluation is transductive unless `statistics` says otherwise. Departures: those of
    `maml` in the units of the rate and in the steps of the test; by default one inner step at 0.4, which on a
    head alone does little on short budgets: rates of 0.5 to 2 suit it better.
    """

    name: ClassVar[str] = "anil"
    presets: ClassVar[Mapping[str, Preset]] = {
        "learn2learn-fc100": Preset(
            "the example of learn2learn, anil_fc100",
            {"inner_rate": 0.1, "steps": 5},
            'dataset = "fc100", budget = {steps = 1000, tasks = 32}',
        ),
        "learn2learn-mini-imagenet": Preset(
            "the example of learn2learn for mini-ImageNet",
            {"inner_rate": 0.1, "steps": 5},
            'dataset = "mini-imagenet", budget = {steps = 25000, tasks = 16}',
        ),
        "learn2learn-cifar-fs": Preset(
            "the example of learn2learn for CIFAR-FS",
            {"inner_rate": 0.05, "steps": 5},
            'dataset = "cifar-fs", budget = {steps = 2000, tasks = 16}',
        ),
    }

    first_order: bool = setting(False, "take the inner gradients for constants")

    def build(self, workload: Workload, network: Network | None, device: Device) -> "AnilLearner":
        """Build the learner of the features and of the head's starting point."""
        return AnilLearner(self, self.module(network, workload, device), workload)


class AnilLearner(GradientLearner):
    """MAML's equation 1 with steps on the head only; the meta-gradient reaches features and head."""

    def __init__(self, anil: Anil, module: nn.Module, workload: Workload) -> None:
        super().__init__(module, workload, anil)
        self.anil = anil

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """Return the head's weights after `steps` gradient steps on the support set's features."""
        features = self.network(support.x, part="features")

        def loss(weights: TaskWeights) -> Tensor:
            return self.loss(self.network(features, weights, part="head"), support.y)

        adapted = inner_steps(
            loss,
            self.start(len(support.x), part="head"),
            self.anil.inner_rate,
            self.test_steps if steps is None else steps,
            first_order=self.anil.first_order,
        )
        return Adapted(adapted, support.x)
