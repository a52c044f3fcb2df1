"""Given equal weights and tasks, metabench's learners and learn2learn's have the same meta-gradients."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from metabench import Algorithm, Dataset, Episodes, Learner, Network, Protocol, Workload
from metabench.device import Device
from metabench.learning import ModuleLearner
from metabench.settings import make
from metabench_plugins.datasets.glyphs import Glyphs
from metabench_plugins.datasets.sinusoid import Sinusoid
from metabench_plugins.learn2learn.importing import FromLibrary
from metabench_plugins.learn2learn.networks import OmniglotCnn
from metabench_plugins.networks.conv4 import Conv4
from metabench_plugins.networks.mlp import Mlp

pytestmark = pytest.mark.skipif(
    FromLibrary.unavailable() is not None, reason=FromLibrary.unavailable() or "learn2learn is installed"
)

TOLERANCE = 1e-10
STEP_TOLERANCE = 1e-9
"""Adam divides by |g| + 1e-8: where the true gradient is 0 (a bias before batch norm), rounding noise of
1e-15 in one of the two becomes 1e-3 · 1e-15 / 1e-8 = 1e-10 of a weight."""
DOUBLE = Device(dtype=torch.float64)
IMAGES = Glyphs(), OmniglotCnn(), Protocol(ways=5, shots=1, queries=3)
WAVES = Sinusoid(), Mlp(), Protocol(ways=1, shots=10, queries=10)
TASKS = 4

OURS_AND_THEIRS: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
    ("maml", {"steps": 3}, {"steps": 3}),
    ("maml", {"steps": 3, "first_order": True}, {"steps": 3, "first_order": True}),
    ("anil", {"steps": 3, "inner_rate": 0.1}, {"steps": 3, "inner_rate": 0.1}),
    ("anil", {"steps": 2, "first_order": True}, {"steps": 2, "first_order": True}),
    ("metasgd", {"steps": 2, "inner_rate": 0.05}, {"steps": 2, "inner_rate": 0.05}),
    ("metasgd", {"steps": 2, "first_order": True}, {"steps": 2, "first_order": True}),
]
PROTONET = ("protonet", {"statistics": "queries", "train_statistics": "queries"}, {})


def named(name: str, settings: Mapping[str, Any]) -> Algorithm:
    """The algorithm of this name, ours or learn2learn's."""
    from metabench.plugins import load

    algorithm: Algorithm = make(load().find("algorithm", name).cls, settings)
    return algorithm


def tasks_of(dataset: Dataset, protocol: Protocol) -> Episodes:
    """Some tasks of meta-train in float64."""
    return dataset.load(DOUBLE).episodes("train", protocol, range(TASKS), seed=3)


def built(algorithm: Algorithm, dataset: Dataset, network: Network, protocol: Protocol) -> Learner:
    """A learner whose weights depend on nothing but the network."""
    workload = Workload(facts=dataset.describe(), train=protocol, test=protocol, tasks=TASKS)
    torch.manual_seed(7)
    return algorithm.build(workload, network, DOUBLE)


def gradient(learner: Learner) -> list[torch.Tensor]:
    """Its meta-gradient, tensor by tensor."""
    return [p.grad.clone() for p in learner.parameters() if p.grad is not None]


def furthest(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The largest difference of two lists of tensors, as a share of the second one's largest entry."""
    assert [t.shape for t in ours] == [t.shape for t in theirs]
    scale = max(float(t.abs().max()) for t in theirs)
    assert scale > 0
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) / scale


@pytest.mark.parametrize(
    ("dataset", "network", "protocol"), [IMAGES, WAVES], ids=["omniglot-cnn", "sine-mlp"]
)
@pytest.mark.parametrize(("name", "ours", "theirs"), OURS_AND_THEIRS)
def test_meta_gradient_and_step_equal_those_of_learn2learn(
    name: str,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    dataset: Dataset,
    network: Network,
    protocol: Protocol,
) -> None:
    check_equal(named(name, ours), named(f"l2l-{name}", theirs), dataset, network, protocol)


def test_meta_gradient_and_step_of_protonet_equal_those_of_learn2learn() -> None:
    name, ours, theirs = PROTONET
    check_equal(named(name, ours), named(f"l2l-{name}", theirs), *IMAGES)


def check_equal(
    ours: Algorithm, theirs: Algorithm, dataset: Dataset, network: Network, protocol: Protocol
) -> None:
    """Losses, meta-gradients, weights after one step and adapted predictions agree in float64.

    Both update by the same optimizer, so that a comparison of their speed is one of what differs.
    """
    batch = tasks_of(dataset, protocol)
    mine, other = (built(algorithm, dataset, network, protocol) for algorithm in (ours, theirs))
    assert furthest(weights(mine), weights(other)) == 0
    assert optimizer(mine) == optimizer(other)

    assert torch.allclose(mine.learn(batch, 0, 1), other.learn(batch, 0, 1), rtol=1e-12, atol=0)
    assert furthest(gradient(mine), gradient(other)) < TOLERANCE
    before = weights(mine)
    mine.update(0, 1)
    other.update(0, 1)
    assert furthest(weights(mine), before) > 1e-6
    assert furthest(weights(mine), weights(other)) < STEP_TOLERANCE
    with torch.no_grad():
        predictions = [
            learner.predict(learner.adapt(batch.support), batch.query.x) for learner in (mine, other)
        ]
    assert (
        furthest(predictions[:1], predictions[1:]) < 10 * STEP_TOLERANCE
    )  # the difference passed through the network


def optimizer(learner: Learner) -> tuple[type, Mapping[str, Any]]:
    """The class and the options of its optimizer."""
    assert isinstance(learner, ModuleLearner)
    assert learner.optimizer is not None
    return type(learner.optimizer), learner.optimizer.defaults


def weights(learner: Learner) -> list[torch.Tensor]:
    """A copy of what training changes."""
    return [p.detach().clone() for p in learner.parameters()]


def test_second_order_differs_from_first_order() -> None:
    batch = tasks_of(*IMAGES[::2])
    both = [built(named("l2l-maml", {"first_order": first}), *IMAGES) for first in (True, False)]
    for learner in both:
        learner.learn(batch, 0, 1)
    assert furthest(gradient(both[0]), gradient(both[1])) > 0.01


@pytest.mark.parametrize("first_order", [False, True])
def test_conv4_is_omniglot_cnn(first_order: bool) -> None:
    """With the library's weights, `conv4` has the meta-gradient that the library has for OmniglotCNN."""
    dataset, network, protocol = IMAGES
    settings = {"first_order": first_order}
    batch = tasks_of(dataset, protocol)
    mine = built(named("maml", settings), dataset, Conv4(), protocol)
    other = built(named("l2l-maml", settings), dataset, network, protocol)
    here, there = (layers(getattr(learner, "module")) for learner in (mine, other))  # noqa: B009
    with torch.no_grad():
        for own, library in zip(here, there, strict=True):
            own.load_state_dict(library.state_dict())
    mine.learn(batch, 0, 1)
    other.learn(batch, 0, 1)
    assert furthest(gradients_of(here), gradients_of(there)) < TOLERANCE


def layers(module: nn.Module) -> list[nn.Module]:
    """The convolutions, the norms and the head, in this order."""
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    return [layer for kind in kinds for layer in module.modules() if isinstance(layer, kind)]


def gradients_of(some: list[nn.Module]) -> list[torch.Tensor]:
    return [p.grad for layer in some for p in layer.parameters() if p.grad is not None]
