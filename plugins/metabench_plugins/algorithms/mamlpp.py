"""MAML++: MAML that learns each layer's step sizes and trains more steadily."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from metabench import Episodes, Examples, Network, Preset, Workload, setting
from metabench.device import Device
from metabench.engine import TaskWeights, inner_steps
from metabench.learning import Adapted, GradientAlgorithm, GradientLearner


@dataclass(frozen=True, kw_only=True)
class MamlPlusPlus(GradientAlgorithm):
    """MAML with learned rates per layer and step, a loss after each step, and annealed order and rate.

    A. Antoniou, H. Edwards, A. Storkey: How to train your MAML, ICLR 2019, section 4: multi-step loss,
    derivative-order annealing, per-layer per-step learning rates, cosine annealing of the outer rate.
    Departures: batch norm always uses the batch's statistics, and its scales and shifts are adapted and are
    the same for all steps (the paper keeps running statistics and scales per step); the annealing is set in
    fractions of the training budget where the paper counts epochs; inner rates start at 0.1 (0.01 in the
    authors' configuration); nothing is clipped (that code: ±10 on mini-ImageNet); one model is tested, where
    the paper's figures are of an ensemble of the five best by validation. As in the authors' code batch norm
    takes the statistics of all queries, so the evaluation is transductive unless `statistics` says otherwise.
    """

    name: ClassVar[str] = "maml++"
    presets: ClassVar[Mapping[str, Preset]] = {
        "antoniou2019": Preset(
            "the authors' configuration for mini-ImageNet",
            {"inner_rate": 0.01, "final_rate": 0.001, "first_order_share": 0.0},
            'dataset = "mini-imagenet", network = {name = "conv4", width = 48}',
        ),
    }

    inner_rate: float = setting(0.1, "where every inner rate starts", above=0)
    steps: int = setting(5, "inner steps in training", at_least=1)
    final_rate: float = setting(1e-5, "outer rate at the end of training", at_least=0)
    first_order_share: float = setting(0.3, "fraction of training at first order", at_least=0, at_most=1)
    multi_step_share: float = setting(
        0.15, "fraction of training with multi-step loss", at_least=0, at_most=1
    )

    def build(self, workload: Workload, network: Network | None, device: Device) -> "MamlPlusPlusLearner":
        """Build the learner of the starting point and of the rates."""
        return MamlPlusPlusLearner(self, self.module(network, workload, device), workload)


class MamlPlusPlusLearner(GradientLearner):
    """Σₖ vₖ L(θₖ; queries), θₖ₊₁ = θₖ − αₖ ∇L(θₖ; support), with α per layer and step (section 4)."""

    anneals = True

    def __init__(self, settings: MamlPlusPlus, module: nn.Module, workload: Workload) -> None:
        self.names = [name for name, weight in module.named_parameters() if weight.requires_grad]
        shape = (settings.steps, len(self.names))
        rates = nn.Parameter(next(module.parameters()).new_full(shape, settings.inner_rate))
        super().__init__(module, workload, settings, meta=nn.ParameterList([rates]))
        self.settings = settings
        self.rates = rates

    def task_loss(self, episodes: Episodes, step: int, total: int) -> Tensor:
        """Return the sum of the query losses after each inner step, weighted as in this step of training."""
        settings = self.settings
        first_order = step < settings.first_order_share * total
        weights_of_steps = multi_step_weights(self.steps, step, settings.multi_step_share * total)
        support, query = episodes.support, episodes.query
        loss = query.x.new_zeros(len(query.x))
        weights: TaskWeights = self.start(len(support.x))
        for k, v in enumerate(weights_of_steps):
            weights = self._step(weights, support, k, first_order)
            if v > 0:
                loss = loss + v * self.loss(self.run(query.x, weights, support.x), query.y)
        return loss

    def phase(self, step: int, total: int) -> str | None:
        """Return the order of the derivative; None while the weights of the inner steps are annealed."""
        if step < self.settings.multi_step_share * total:
            return None
        return "first order" if step < self.settings.first_order_share * total else "second order"

    def _step(self, weights: TaskWeights, support: Examples, k: int, first_order: bool) -> TaskWeights:
        """Take one inner step with the rates of step k; steps beyond those of training use the last rates."""
        rates = dict(zip(self.names, self.rates[min(k, self.steps - 1)], strict=True))
        loss = self.loss_on(support)
        return inner_steps(loss, weights, rates, steps=1, first_order=first_order)

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """Return all weights after `steps` steps on the support set with the learned rates."""
        weights: TaskWeights = self.start(len(support.x))
        for k in range(self.test_steps if steps is None else steps):
            weights = self._step(weights, support, k, first_order=False)
        return Adapted(weights, support.x)

    def update(self, step: int, total: int) -> None:
        """Take a step of Adam, whose rate falls along a cosine from `rate` to `final_rate`."""
        assert self.optimizer is not None
        first, last = self.settings.rate, self.settings.final_rate
        for group in self.optimizer.param_groups:
            group["lr"] = last + (first - last) * (1 + math.cos(math.pi * step / max(1, total))) / 2
        super().update(step, total)


def multi_step_weights(steps: int, step: int, annealed: float) -> list[float]:
    """Return vₖ: equal at first, then moving to the last step, all of it after `annealed` meta-steps.

    As in the authors' code, no weight falls below 0.03 / steps before the annealing has ended.
    """
    if step >= annealed:
        return [0.0] * (steps - 1) + [1.0]
    early = max(1 / steps * (1 - step / annealed), 0.03 / steps)
    return [early] * (steps - 1) + [1 - early * (steps - 1)]
