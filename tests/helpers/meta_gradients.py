"""Every gradient-based algorithm on small random tasks, with its meta-gradient by a plain loop over tasks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers.reference_loop import (
    adapted_loss,
    imaml_gradient,
    loss_of,
    mamlpp_loss,
    mean_gradient_of,
    metalstm_loss,
    protomaml_loss,
    stepped,
    tasks_of,
)
from metabench import Episodes, Examples, Facts, Protocol, Workload
from metabench.device import Device
from metabench.learning import GradientAlgorithm, GradientLearner
from metabench_plugins.algorithms.anil import Anil
from metabench_plugins.algorithms.boil import Boil
from metabench_plugins.algorithms.imaml import Imaml
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.algorithms.mamlpp import MamlPlusPlus, multi_step_weights
from metabench_plugins.algorithms.metalstm import MetaLstm, MetaLstmLearner
from metabench_plugins.algorithms.metasgd import MetaSgd
from metabench_plugins.algorithms.protomaml import ProtoMaml
from metabench_plugins.algorithms.reptile import Reptile
from metabench_plugins.networks.conv4 import Conv4
from metabench_plugins.networks.mlp import Mlp
from metabench_plugins.networks.resnet12 import ResNet12

TOLERANCE = 1e-9
TASKS, WAYS, SHOTS = 5, 3, 2
RATE = 0.1
NETWORKS = {
    "mlp": (Mlp(hidden=(7, 6)), (4,)),
    "conv4": (Conv4(width=4), (1, 14, 14)),
    "conv4-pool": (Conv4(width=3, downsample="pool", readout="flatten"), (2, 17, 16)),
    "resnet12": (ResNet12(width=2), (1, 16, 16)),
}
ALGORITHMS: dict[str, type[GradientAlgorithm]] = {
    cls.name: cls for cls in (Maml, Anil, Boil, MetaSgd, Reptile, ProtoMaml, MamlPlusPlus, Imaml, MetaLstm)
}


def episodes_of(kind: str, shape: tuple[int, ...], seed: int = 3, tasks: int = TASKS) -> Episodes:
    """Random tasks in float64; classes can be told apart, so that gradients are no rounding noise."""
    generator = torch.Generator().manual_seed(seed)
    n = WAYS * SHOTS
    means = torch.randn(tasks, WAYS, *shape, generator=generator, dtype=torch.float64)
    y = torch.arange(WAYS).repeat(SHOTS).expand(tasks, n)

    def examples() -> Examples:
        noise = torch.randn(tasks, n, *shape, generator=generator, dtype=torch.float64)
        x = means[:, y[0]] + noise
        values = torch.randn(tasks, n, 2, generator=generator, dtype=torch.float64)
        return Examples(x, values if kind == "regression" else y)

    return Episodes(examples(), examples(), torch.zeros(tasks, WAYS), torch.arange(tasks))


def learner_of(algorithm: GradientAlgorithm, network: str, kind: str) -> GradientLearner:
    """The learner for `episodes_of`, in float64, with no weight at a special value."""
    component, shape = NETWORKS[network]
    facts = Facts(kind, shape, 2 if kind == "regression" else None)  # type: ignore[arg-type]
    protocol = Protocol(WAYS if kind == "classification" else 1, SHOTS, SHOTS)
    torch.manual_seed(1)
    learner = algorithm.build(Workload(facts, protocol, protocol), component, Device(dtype=torch.float64))
    assert isinstance(learner, GradientLearner)
    for parameter in learner.parameters():  # scales, shifts and rates too
        parameter.data += 0.05 * torch.rand_like(parameter)
    return learner


def kind_of(name: str, network: str) -> str:
    """Regression for the perceptron, unless the algorithm classifies only."""
    return "regression" if network == "mlp" and name != "protomaml" else "classification"


def reference(
    learner: GradientLearner, algorithm: GradientAlgorithm, episodes: Episodes, step: int = 0, total: int = 10
) -> list[Tensor]:
    """The meta-gradient by a plain loop over tasks, for each of the learner's parameters."""
    module = learner.network.module
    steps = algorithm.steps
    parameters = [p for p in learner.parameters() if isinstance(p, nn.Parameter)]
    first_order = getattr(algorithm, "first_order", False)
    rate = algorithm.inner_rate
    alone = algorithm.train_statistics == "support"
    if isinstance(algorithm, Imaml):
        solver = (algorithm.proximal, algorithm.damping, algorithm.solver_steps)
        by_task = [imaml_gradient(module, task, rate, steps, *solver, alone) for task in tasks_of(episodes)]
        return [torch.stack([gradient[name] for gradient in by_task]).mean(0) for name in by_task[0]]
    if isinstance(algorithm, Reptile):
        return reptile_reference(module, episodes, rate, steps)
    if isinstance(algorithm, ProtoMaml):
        return mean_gradient_of(
            parameters, episodes, lambda t: protomaml_loss(module, t, rate, steps, first_order, alone)
        )
    if isinstance(algorithm, MamlPlusPlus):
        v = multi_step_weights(steps, step, algorithm.multi_step_share * total)
        early = step < algorithm.first_order_share * total
        rates = parameters[-1]
        return mean_gradient_of(
            parameters, episodes, lambda t: mamlpp_loss(module, t, rates, v, early, alone)
        )
    if isinstance(learner, MetaLstmLearner):
        updater = learner.updater
        return mean_gradient_of(
            parameters, episodes, lambda t: metalstm_loss(module, updater, t, steps, alone)
        )
    part = {"anil": "head.", "boil": "features."}.get(algorithm.name, "")
    rates_by_name = rate
    if isinstance(algorithm, MetaSgd):
        names = [n for n, _ in module.named_parameters()]
        rates_by_name = dict(zip(names, parameters[len(names) :], strict=True))  # type: ignore[assignment]
    return mean_gradient_of(
        parameters,
        episodes,
        lambda t: adapted_loss(module, t, rates_by_name, steps, part, first_order, alone),
    )


def reptile_reference(module: nn.Module, episodes: Episodes, rate: float, steps: int) -> list[Tensor]:
    """Starting point less the mean of the weights that each task's training ends with."""
    start = dict(module.named_parameters())
    ends = []
    for task in tasks_of(episodes):
        x = torch.cat([task.support.x, task.query.x])
        y = torch.cat([task.support.y, task.query.y])
        weights = dict(start)
        for _ in range(steps):
            weights = stepped(weights, lambda w: loss_of(module, w, x, y), rate, list(start), True)  # noqa: B023
        ends.append(weights)
    return [start[n].detach() - torch.stack([w[n] for w in ends]).mean(0).detach() for n in start]


def relative_error(actual: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, relative to the largest element of the whole gradient."""
    largest = max(float(e.abs().max()) for e in expected)
    return max(float((a - e).abs().max()) for a, e in zip(actual, expected, strict=True)) / largest


def gradients_of(learner: GradientLearner) -> list[Tensor]:
    """A copy of each `.grad`."""
    return [p.grad.clone() for p in learner.parameters() if p.grad is not None]
