"""R2-D2: each task's classifier is a ridge regression in closed form, and the embedding learns from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Network, Preset, Workload, setting
from metabench.device import Device
from metabench.learning import (
    EmbeddingLearner,
    EpisodicAlgorithm,
)


@dataclass(frozen=True, kw_only=True)
class R2D2(EpisodicAlgorithm):
    """Solves each task by ridge regression on a learned embedding, and learns through the solution.

    L. Bertinetto et al.: Meta-learning with differentiable closed-form solvers, ICLR 2019, equations 3 to
    7; training tasks have 16 ways as in the paper for mini-ImageNet (20 there for CIFAR-FS, 60 for Omniglot),
    and the penalty and the calibration of the scores are learned, as it says. As in the authors' code batch
    norm takes the statistics of a task's support and queries in one batch in training, and those of
    meta-train in the test. Departures: the cell's network embeds, instead of the paper's own; training tasks
    have the shots of the test, where that code samples 1 to 10; in its published runs the penalty stays at
    50 for each support example and the calibration starts at 1e-4 or 10, where both start at 1 here; the rate
    is constant unless `halve_every` says otherwise (2,000 there).
    """

    name: ClassVar[str] = "r2d2"
    presets: ClassVar[Mapping[str, Preset]] = {
        "bertinetto2019": Preset(
            "the authors' code, experiments.sh, Omniglot",
            {"train_ways": 60, "halve_every": 2000},
            'dataset = "omniglot", budget = {tasks = 1}',
        ),
        "bertinetto2019-mini-imagenet": Preset(
            "the authors' code, experiments.sh",
            {"train_ways": 16, "halve_every": 2000},
            'dataset = "mini-imagenet", budget = {tasks = 1}',
        ),
        "bertinetto2019-cifar-fs": Preset(
            "the authors' code, experiments.sh",
            {"train_ways": 20, "halve_every": 2000},
            'dataset = "cifar-fs", budget = {tasks = 1}',
        ),
    }

    train_ways: int = setting(16, "classes of a training task; 0: as in the test", at_least=0)
    penalty: float = setting(1.0, "the ridge penalty λ at the start of training", above=0)
    scale: float = setting(1.0, "the factor α of the scores at the start of training", above=0)
    rate: float = setting(5e-3, "learning rate of Adam", above=0)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "R2D2Learner":
        """Build the learner of an embedding, of the penalty and of the calibration."""
        solver = Ridge(self.penalty, self.scale).to(device.torch, device.dtype)
        return R2D2Learner(self, self.embedding(workload, network, device), solver, workload)


class R2D2Learner(EmbeddingLearner):
    """Ridge regression of one-hot classes on embedded examples."""

    def __init__(self, settings: R2D2, module: nn.Module, solver: "Ridge", workload: Workload) -> None:
        super().__init__(settings, module, workload, [solver])
        self.solver = solver

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Tensor:
        """Return the regression weights [T, d + 1, ways]; the last feature is 1, for the intercept."""
        targets = F.one_hot(y, ways).to(features.dtype)
        return ridge(_with_one(features), targets, self.solver.log_penalty.exp())

    def score(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return calibrated scores α X W + β, [T, q, ways] (equation 7)."""
        return self.solver.log_scale.exp() * (_with_one(features) @ fitted) + self.solver.shift


class Ridge(nn.Module):
    """The learned parameters of the solver: λ and α by their logarithms, and β."""

    def __init__(self, penalty: float, scale: float) -> None:
        super().__init__()
        self.log_penalty = nn.Parameter(torch.tensor(penalty).log())
        self.log_scale = nn.Parameter(torch.tensor(scale).log())
        self.shift = nn.Parameter(torch.zeros(()))


def ridge(x: Tensor, y: Tensor, penalty: Tensor) -> Tensor:
    """Return W = argmin ‖X W − Y‖² + λ ‖W‖², [T, d, ways]: x [T, n, d], y [T, n, ways], penalty λ > 0.

    Xᵀ (X Xᵀ + λ I)⁻¹ Y (equation 6, Woodbury) where there are fewer examples than features, so that the
    system grows with the shots only; (Xᵀ X + λ I)⁻¹ Xᵀ Y (equation 4) otherwise.
    """
    n, d = x.shape[1:]
    eye = torch.eye(min(n, d), dtype=x.dtype, device=x.device)
    if n < d:
        weights: Tensor = x.mT @ torch.linalg.solve(x @ x.mT + penalty * eye, y)
    else:
        weights = torch.linalg.solve(x.mT @ x + penalty * eye, x.mT @ y)
    return weights


def _with_one(features: Tensor) -> Tensor:
    padded: Tensor = F.pad(features, (0, 1), value=1.0)
    return padded
