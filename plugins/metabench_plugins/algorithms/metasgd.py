"""Meta-SGD: MAML that learns a step size for each weight."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from metabench import Examples, Network, Preset, Workload, setting
from metabench.device import Device
from metabench.engine import inner_steps
from metabench.learning import Adapted, GradientAlgorithm, GradientLearner


@dataclass(frozen=True, kw_only=True)
class MetaSgd(GradientAlgorithm):
    """Learns the starting point together with a rate for each weight, which sets an update's direction too.

    Z. Li, F. Zhou, F. Chen, H. Li: Meta-SGD: Learning to Learn Quickly for Few-Shot Learning,
    arXiv:1707.09835, equation 3. Departures: every rate starts at `inner_rate`, where the paper draws them
    between 0.005 and 0.1; more than one inner step is possible, with the same rates. As in MAML's own code
    batch norm takes the statistics of all queries, so the evaluation is transductive unless `statistics` says
    otherwise.
    """

    name: ClassVar[str] = "metasgd"
    presets: ClassVar[Mapping[str, Preset]] = {
        "li2017": Preset(
            "Li et al. 2017, section 4.2: rates drawn from 0.005 to 0.1, here at their mean",
            {"inner_rate": 0.0525},
            'dataset = "mini-imagenet", network = {name = "conv4", width = 32}, '
            "budget = {steps = 60000, tasks = 4}",
        ),
    }

    inner_rate: float = setting(0.1, "where every rate starts", above=0)
    first_order: bool = setting(False, "take the inner gradients for constants; the rates still learn")

    def build(self, workload: Workload, network: Network | None, device: Device) -> "MetaSgdLearner":
        """Build the learner of the starting point and of the rates."""
        return MetaSgdLearner(self, self.module(network, workload, device), workload)


class MetaSgdLearner(GradientLearner):
    """θ'ᵢ = θ − α ∘ ∇L(θ; supportᵢ), with θ and α both learned (equation 3)."""

    def __init__(self, metasgd: MetaSgd, module: nn.Module, workload: Workload) -> None:
        adapted = {name: w for name, w in module.named_parameters() if w.requires_grad}
        rates = nn.ParameterList(torch.full_like(w, metasgd.inner_rate) for w in adapted.values())
        super().__init__(module, workload, metasgd, meta=rates)
        self.first_order = metasgd.first_order
        self.names = list(adapted)
        self.rates = rates

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """Return all weights after `steps` steps on the support set with each weight's own rate."""
        adapted = inner_steps(
            self.loss_on(support),
            self.start(len(support.x)),
            dict(zip(self.names, self.rates, strict=True)),
            self.test_steps if steps is None else steps,
            first_order=self.first_order,
        )
        return Adapted(adapted, support.x)
