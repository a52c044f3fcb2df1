"""Whose statistics batch norm takes: in training, in scoring, and of a network that brings its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.pretrained import Pretrained
from helpers.problems import FLOAT64, NORMED, TEST, Buried, build
from metabench import Algorithm, Examples, Invalid, Learner, Protocol
from metabench.data.micro_batches import MICRO_BATCH, micro_batches
from metabench.engine.norms import is_fixed
from metabench.learning import STATISTICS, EmbeddingLearner, GradientLearner, ModuleLearner, TaskNetwork
from metabench.plugins import load
from metabench.settings import make
from metabench.testing.fakes import REGRESSION, TinyCurves
from metabench_plugins.algorithms.baseline import Baseline
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.algorithms.protonet import ProtoNet
from metabench_plugins.algorithms.reptile import Reptile
from metabench_plugins.algorithms.simpleshot import SimpleShot
from metabench_plugins.networks.conv4 import Conv4

REGISTRY = load()
NAMES = [n for n in REGISTRY.names("algorithm") if not n.startswith("l2l-") and n != "callable"]


def has_statistics(name: str) -> bool:
    """Whether an algorithm has a network whose statistics are a choice."""
    return "statistics" in REGISTRY.find("algorithm", name).cls.__dataclass_fields__


LIBRARY = [n for n in REGISTRY.names("algorithm") if n.startswith("l2l-")]
QUICK = {"baseline": {"head_steps": 3}, "baseline++": {"head_steps": 3}, "scratch": {"steps": 2},
         "imaml": {"steps": 2}, "metalstm": {"steps": 1, "hidden": 2}}  # fmt: skip


def named(name: str, **settings: Any) -> Algorithm:
    algorithm: Algorithm = make(REGISTRY.find("algorithm", name).cls, {**QUICK.get(name, {}), **settings})
    return algorithm


def network_of(learner: Learner) -> TaskNetwork:
    return learner.network if isinstance(learner, GradientLearner) else learner.lifted  # type: ignore[attr-defined]


def trained(learner: Learner, algorithm: Algorithm, steps: int = 2) -> None:
    """Train on `Buried` as the harness does, then finish."""
    train, source = algorithm.train_protocol(TEST), Buried(FLOAT64)
    for step in range(steps if train is not None else 0):
        numbers = range(2 * step, 2 * step + 2)
        batch = (
            source.episodes("train", train, numbers, seed=0)
            if isinstance(train, Protocol)
            else source.batch(train, numbers, seed=0)  # type: ignore[arg-type]
        )
        learner.learn(batch, step, steps)
        learner.update(step, steps)
    learner.finish(micro_batches(source, TEST, seed=0))


def training_inputs(count: int) -> Iterator[Tensor]:
    batches = micro_batches(Buried(FLOAT64), TEST, seed=0)
    return (next(batches).x for _ in range(count))


def predicted(learner: Learner, count: int = 2) -> Tensor:
    tasks = Buried(FLOAT64).episodes("test", TEST, range(count), seed=0)
    with torch.no_grad():
        return learner.predict(learner.adapt(tasks.support), tasks.query.x)


@pytest.mark.parametrize("network", [NORMED, Conv4(width=3)], ids=["mlp", "conv4"])
def test_a_population_is_what_torch_keeps_of_64_micro_batches_of_64(network: Any) -> None:
    learner = build(ProtoNet(), network, TEST, device=FLOAT64)
    module = copy.deepcopy(network_of(learner).module)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.track_running_stats, layer.momentum = True, None
            layer.num_batches_tracked = torch.tensor(0)
            layer.reset_running_stats()
    module.train()
    for x in training_inputs(64):
        assert len(x) == MICRO_BATCH == 64
        module(x)
    module.eval()

    learner.finish(micro_batches(Buried(FLOAT64), TEST, seed=0))

    tasks = Buried(FLOAT64).episodes("test", TEST, range(2), seed=0)
    for t in range(2):
        s, q = module(tasks.support.x[t]), module(tasks.query.x[t])
        means = torch.stack([s[tasks.support.y[t] == k].mean(0) for k in range(TEST.ways)])
        expected = -(torch.cdist(q, means) ** 2)
        torch.testing.assert_close(predicted(learner)[t], expected.detach(), rtol=1e-9, atol=1e-9)


def test_a_population_is_state_and_needs_no_second_finish() -> None:
    learner = build(ProtoNet(), NORMED, TEST, device=FLOAT64)
    before = predicted(learner)
    learner.finish(micro_batches(Buried(FLOAT64), TEST, seed=0))
    other = build(ProtoNet(), NORMED, TEST, device=FLOAT64)

    other.load_state_dict(copy.deepcopy(learner.state_dict()))

    assert torch.equal(predicted(other), predicted(learner))
    assert not torch.allclose(before, predicted(learner))


def test_training_changes_no_population_and_takes_the_statistics_of_its_batch() -> None:
    learner = build(ProtoNet(), NORMED, TEST, device=FLOAT64)
    by_batch = build(ProtoNet(statistics="joined"), NORMED, TEST, device=FLOAT64)
    learner.finish(micro_batches(Buried(FLOAT64), TEST, seed=0))
    held = [layer.running_mean.clone() for layer in network_of(learner).norms]  # type: ignore[union-attr]
    batch = Buried(FLOAT64).episodes("train", TEST, range(2), seed=0)

    losses = learner.learn(batch, 0, 1)

    assert torch.equal(losses, by_batch.learn(batch, 0, 1))
    layers = network_of(learner).norms
    assert all(torch.equal(layer.running_mean, mean) for layer, mean in zip(layers, held, strict=True))  # type: ignore[arg-type]
    assert all(map(is_fixed, layers))  # scoring goes on by the population


@pytest.mark.parametrize("name", [n for n in NAMES if has_statistics(n)])
@pytest.mark.parametrize("statistics", STATISTICS)
def test_transduction_follows_from_the_statistics(name: str, statistics: str) -> None:
    if name == "scratch" and statistics == "population":
        pytest.skip("nothing of meta-train reaches a network that is trained from scratch")

    learner = build(named(name, statistics=statistics), NORMED, TEST, device=FLOAT64)

    assert learner.transductive == (statistics in ("queries", "joined"))


def test_the_four_statistics_differ_where_a_network_has_batch_norm() -> None:
    for network, distinct in ((NORMED, 4), (Pretrained(), 1)):
        scores = []
        for statistics in STATISTICS:
            learner = build(SimpleShot(statistics=statistics, transform="UN"), network, TEST, device=FLOAT64)
            learner.finish(micro_batches(Buried(FLOAT64), TEST, seed=0))
            scores.append(predicted(learner))
        different = sum(not any(torch.allclose(a, b) for b in scores[:i]) for i, a in enumerate(scores))
        assert different == distinct


def test_support_sets_measure_what_has_no_labelled_batches() -> None:
    source = TinyCurves().load(FLOAT64)
    batches = micro_batches(source, REGRESSION, seed=3)

    first, second = next(batches), next(batches)

    tasks = MICRO_BATCH // REGRESSION.shots
    assert first.x.shape == (MICRO_BATCH, 1)
    support = source.episodes("train", REGRESSION, range(2 * tasks), seed=3).support
    both = torch.cat([first.x, second.x]).view(2 * tasks, REGRESSION.shots, 1)
    torch.testing.assert_close(both.sort(1).values, support.x.sort(1).values)


def test_reptile_refuses_statistics_that_its_training_has_not() -> None:
    with pytest.raises(Exception, match="train_statistics must be 'queries', got 'support'"):
        build(Reptile(train_statistics="support"), NORMED, TEST, device=FLOAT64)


# networks that were trained elsewhere


def own_features(learner: Learner, x: Tensor) -> Tensor:
    """What the network's own code gives for x [n, …], in eval mode."""
    module = copy.deepcopy(network_of(learner).module)
    assert all(not layer.training for layer in module.modules() if isinstance(layer, nn.BatchNorm2d))
    with torch.no_grad():
        return module.get_submodule("features")(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("device", [FLOAT64, FLOAT64.__class__()], ids=["float64", "float32"])
def test_a_pretrained_network_gives_its_own_answers_under_metric_learners(device: Any) -> None:
    tasks = Buried(device).episodes("test", TEST, range(2), seed=0)
    for algorithm in (ProtoNet(), SimpleShot(transform="UN"), Baseline(head_steps=0)):
        learner = build(algorithm, Pretrained(), TEST, device=device)
        assert isinstance(learner, EmbeddingLearner)
        learner.finish(micro_batches(Buried(device), TEST, seed=0))
        with torch.no_grad():
            features = learner.embed(tasks.query.x)
        for t in range(2):
            torch.testing.assert_close(features[t], own_features(learner, tasks.query.x[t]))
        assert not learner.transductive


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_pretrained_network_gives_its_own_answers_under_maml_without_steps(statistics: str) -> None:
    learner = build(Maml(test_steps=0, statistics=statistics), Pretrained(), TEST, device=FLOAT64)
    learner.finish(micro_batches(Buried(FLOAT64), TEST, seed=0))
    tasks = Buried(FLOAT64).episodes("test", TEST, range(2), seed=0)
    module = network_of(learner).module

    for t in range(2):
        torch.testing.assert_close(predicted(learner)[t], module(tasks.query.x[t]).detach())


@pytest.mark.parametrize("name", NAMES)
def test_held_statistics_and_frozen_weights_stay_as_they_are(name: str) -> None:
    frozen = ("features.conv1", "features.bn1")
    algorithm = named(name)
    learner = build(algorithm, Pretrained(frozen=frozen), TEST, device=FLOAT64)
    if not algorithm.needs_network:
        return
    module = network_of(learner).module
    before = {n: w.clone() for n, w in module.state_dict().items()}
    trained(learner, algorithm)
    tasks = Buried(FLOAT64).episodes("test", TEST, range(2), seed=0)
    state = learner.adapt(tasks.support)

    after = module.state_dict()
    held = [n for n in before if n.startswith(frozen) or "running" in n]
    assert len(held) == 8
    assert all(torch.equal(before[n], after[n]) for n in held)
    assert name == "scratch" or not torch.equal(
        before["features.conv2.weight"], after["features.conv2.weight"]
    )
    assert not any(n.startswith(frozen) for n in getattr(state, "weights", {}))


@pytest.mark.parametrize("name", LIBRARY)
def test_held_statistics_and_frozen_weights_stay_as_they_are_under_learn2learn(name: str) -> None:
    frozen = ("conv1", "bn1")
    algorithm = named(name)
    if algorithm.unavailable():
        pytest.skip(str(algorithm.unavailable()))
    if name == "l2l-metasgd":
        with pytest.raises(Invalid, match="cannot adapt around frozen weights"):
            build(algorithm, Pretrained(frozen=("features.conv1",)), TEST, device=FLOAT64)
        return
    learner = build(algorithm, Pretrained(frozen=("features.conv1", "features.bn1")), TEST, device=FLOAT64)
    assert isinstance(learner, ModuleLearner)
    before = {n: w.clone() for n, w in learner.module.state_dict().items()}

    trained(learner, algorithm)

    after = learner.module.state_dict()
    held = [n for n in before if any(f".{part}." in n for part in frozen) or "running" in n]
    assert len(held) == 8
    assert all(torch.equal(before[n], after[n]) for n in held)
    moved = next(n for n in before if n.endswith("conv2.weight"))
    assert not torch.equal(before[moved], after[moved])
    assert not learner.transductive


def test_a_network_without_a_weight_to_train_is_refused_unless_it_is_only_scored() -> None:
    algorithm, network = ProtoNet(), Pretrained(frozen=("features",))

    with pytest.raises(Exception, match="protonet has nothing to train: the network has no parameter"):
        build(algorithm, network, TEST, device=FLOAT64)
    learner = build(algorithm, network, TEST, device=FLOAT64, steps=0)

    assert not list(learner.parameters())
    assert predicted(learner).shape == (2, TEST.ways * TEST.queries, TEST.ways)


@pytest.mark.parametrize("frozen", [("features",), ("head",), ("features", "head")], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_network_whose_parts_are_frozen_is_scored(name: str, frozen: tuple[str, ...]) -> None:
    learner = build(named(name), Pretrained(frozen=frozen), TEST, device=FLOAT64, steps=0)
    learner.finish(micro_batches(Buried(FLOAT64), TEST, seed=0))

    assert bool(predicted(learner).isnan().any()) is False


@pytest.mark.parametrize("frozen", [("features",), ("head",), ("features", "head")], ids=str)
@pytest.mark.parametrize("name", [n for n in LIBRARY if n != "l2l-metasgd"])  # which refuses frozen weights
def test_a_network_whose_parts_are_frozen_is_scored_under_learn2learn(
    name: str, frozen: tuple[str, ...]
) -> None:
    algorithm = named(name)
    if algorithm.unavailable():
        pytest.skip(str(algorithm.unavailable()))

    learner = build(algorithm, Pretrained(frozen=frozen), TEST, device=FLOAT64, steps=0)

    assert bool(predicted(learner).isnan().any()) is False


@pytest.mark.parametrize("name", ["metalstm", "metasgd", "l2l-gbml", "l2l-maml"])
def test_a_frozen_network_is_not_trained_whatever_is_learned_beside_it(name: str) -> None:
    algorithm = named(name)
    if algorithm.unavailable():
        pytest.skip(str(algorithm.unavailable()))

    with pytest.raises(Invalid, match=f"{name} has nothing to train"):
        build(algorithm, Pretrained(frozen=("features", "head")), TEST, device=FLOAT64)


def test_a_state_must_have_what_finish_computed_and_nothing_beside_it() -> None:
    learner = build(SimpleShot(), NORMED, TEST, device=FLOAT64)
    state = learner.state_dict()

    with pytest.raises(Invalid, match=r"it has 'computed\.other', which the learner lacks"):
        learner.load_state_dict({**state, "computed.other": torch.zeros(1)})
    with pytest.raises(Invalid, match=r"it has no 'computed\.centre'"):
        learner.load_state_dict({n: t for n, t in state.items() if n != "computed.centre"})
    with pytest.raises(Invalid, match=r"'computed\.centre' of shape \(1,\)"):
        learner.load_state_dict({**state, "computed.centre": torch.zeros(1)})


def test_a_task_trains_around_frozen_weights() -> None:
    """The inner gradient of the other weights is that of the plain network."""
    learner = build(Maml(inner_rate=0.1), Pretrained(frozen=("features.conv1",)), TEST, device=FLOAT64)
    assert isinstance(learner, GradientLearner)
    tasks = Buried(FLOAT64).episodes("test", TEST, range(1), seed=0)
    module = copy.deepcopy(learner.network.module)
    trained = {n: w for n, w in module.named_parameters() if w.requires_grad}
    loss = F.cross_entropy(module(tasks.support.x[0]), tasks.support.y[0])

    weights = learner.adapt(Examples(*tasks.support)).weights

    gradients = torch.autograd.grad(loss, list(trained.values()))
    for (name, weight), gradient in zip(trained.items(), gradients, strict=True):
        torch.testing.assert_close(weights[name][0], weight - 0.1 * gradient)
