"""BOIL: MAML that adapts the body alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from metabench import Examples, Network, Preset, Workload, setting
from metabench.device import Device
from metabench.engine import inner_steps
from metabench.learning import Adapted, GradientAlgorithm, GradientLearner


@dataclass(frozen=True, kw_only=True)
class Boil(GradientAlgorithm):
    """Learns a head that serves all tasks, and the body from which a few gradient steps learn a task.

    J. Oh, H. Yoo, C. Kim, S.-Y. Yun: BOIL: Towards Representation Change for Few-shot Learning, ICLR 2021,
    section 3.1 (an inner rate of 0 for the head, which only the outer loop learns). As in MAML's own code
    batch norm takes the statistics of all queries, so the evaluation is transductive unless `statistics` says
    otherwise. Departure: an inner rate of 0.4 by default, where the authors' code has 0.5.
    """

    name: ClassVar[str] = "boil"
    presets: ClassVar[Mapping[str, Preset]] = {
        "oh2021": Preset(
            "the authors' code, main.py",
            {"inner_rate": 0.5},
            'network = "conv4" on images of 32 or 84 pixels',
        ),
    }

    first_order: bool = setting(False, "take the inner gradients for constants")

    def build(self, workload: Workload, network: Network | None, device: Device) -> "BoilLearner":
        """Build the learner of the head and of the body's starting point."""
        return BoilLearner(self, self.module(network, workload, device), workload)


class BoilLearner(GradientLearner):
    """MAML's equation 1 with steps on the body only; the meta-gradient reaches body and head."""

    def __init__(self, boil: Boil, module: nn.Module, workload: Workload) -> None:
        super().__init__(module, workload, boil)
        self.boil = boil

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """Return the body's weights after `steps` gradient steps on the support set."""
        adapted = inner_steps(
            self.loss_on(support),
            self.start(len(support.x), part="features"),
            self.boil.inner_rate,
            self.test_steps if steps is None else steps,
            first_order=self.boil.first_order,
        )
        return Adapted(adapted, support.x)
