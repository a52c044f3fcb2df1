"""learn2learn's plugins: absent without harm, imported only where they are named, quiet, and of full use."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from metabench import Algorithm, Episodes, Examples, Facts, Invalid, Network, Protocol, Skip, Workload
from metabench.contracts import Component
from metabench.device import Device
from metabench.learning import mean_gradient, task_losses
from metabench.settings import make
from metabench_plugins.learn2learn import algorithms, networks
from metabench_plugins.learn2learn.adapter import CloneAdapt
from metabench_plugins.learn2learn.importing import FromLibrary, learn2learn
from metabench_plugins.networks.mlp import Mlp

needs_library = pytest.mark.skipif(
    FromLibrary.unavailable() is not None, reason=FromLibrary.unavailable() or "learn2learn is installed"
)
INSTALL = "python -m metabench_plugins.learn2learn.install"
SHAPE = (1, 6, 6)
IMAGE = Facts(kind="classification", input_shape=SHAPE)
SMALL = {"hidden": [16, 8]}
PROTOCOL = Protocol(ways=5, shots=1, queries=3)

ALGORITHMS: list[tuple[type[Algorithm], Mapping[str, Any]]] = [
    (algorithms.L2lMaml, {}),
    (algorithms.L2lMaml, {"first_order": True}),
    (algorithms.L2lAnil, {}),
    (algorithms.L2lMetaSgd, {}),
    (algorithms.L2lGbml, {}),
    (algorithms.L2lGbml, {"transform": "kronecker"}),
    (algorithms.L2lProtoNet, {}),
    (algorithms.L2lProtoNet, {"distance": "cosine"}),
    (algorithms.L2lMetaOptNet, {}),
]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter in which every warning is shown."""
    return subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)


def episodes(tasks: int = 4, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = SHAPE) -> Episodes:
    """Tasks whose classes are noisy patterns: quick to tell apart."""
    generator = torch.Generator().manual_seed(0)
    ways = PROTOCOL.ways
    patterns = torch.randn(tasks, 1, ways, *shape, generator=generator)

    def examples(count: int) -> Examples:
        noise = torch.randn(tasks, count, ways, *shape, generator=generator)
        x = (patterns + 0.3 * noise).flatten(1, 2).to(dtype)
        return Examples(x, torch.arange(ways).repeat(count).expand(tasks, -1))

    classes = torch.arange(ways).expand(tasks, -1)
    return Episodes(examples(PROTOCOL.shots), examples(PROTOCOL.queries), classes, torch.arange(tasks))


def workload(facts: Facts = IMAGE) -> Workload:
    return Workload(facts=facts, train=PROTOCOL, test=PROTOCOL)


def test_absent_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "learn2learn", None)  # what python does with a package that is blocked
    for component in (algorithms.L2lMaml, algorithms.L2lProtoNet, networks.OmniglotCnn):
        reason = component.unavailable()
        assert reason is not None
        assert reason.endswith(INSTALL)
    with pytest.raises(Skip, match=INSTALL):
        make(algorithms.L2lMaml).build(workload(), Mlp(), Device())


def test_the_registry_shows_the_plugins_without_importing_the_library() -> None:
    process = run_python(
        "import sys\n"
        "from metabench.plugins import load\n"
        "import metabench_plugins.learn2learn.tasksets\n"
        "registry = load()\n"
        "for kind in ('algorithm', 'network'):\n"
        "    for name, entry in registry.entries(kind).items():\n"
        "        entry.cls.unavailable()\n"
        "        print(name)\n"
        "assert 'learn2learn' not in sys.modules, 'imported'\n"
    )
    assert process.returncode == 0, process.stderr
    expected = "maml anil metasgd gbml protonet metaoptnet omniglot-cnn omniglot-fc cnn4 resnet12 wrn28"
    assert {f"l2l-{name}" for name in expected.split()} <= set(process.stdout.split())


def test_list_shows_absent_names_with_the_command_that_installs_them() -> None:
    process = run_python(
        "import sys\n"
        "sys.modules['learn2learn'] = None\n"
        "from metabench.cli import main\n"
        "main(['list', 'algorithms'])\n"
    )
    assert process.returncode == 0, process.stderr
    (names,) = re.findall(r"unavailable: (.*)\n.*" + re.escape(INSTALL), process.stdout)
    assert {"l2l-maml", "l2l-metaoptnet"} <= set(names.split(", "))


@needs_library
def test_gym_is_silent_and_every_other_warning_is_not() -> None:
    process = run_python(
        "import sys, warnings\n"
        "from metabench_plugins.learn2learn.importing import learn2learn\n"
        "learn2learn()\n"
        "assert 'gym' in sys.modules\n"
        "warnings.warn('mine')\n"
        "print('also mine', file=sys.stderr)\n"
    )
    assert process.returncode == 0, process.stderr
    assert "unmaintained" not in process.stderr
    assert "UserWarning: mine" in process.stderr
    assert "also mine" in process.stderr


@needs_library
def test_the_notices_of_other_versions_of_gym_stay() -> None:
    process = run_python(
        "from gym_notices.notices import notices\n"
        "from metabench_plugins.learn2learn.importing import learn2learn\n"
        "before = set(notices)\n"
        "learn2learn()\n"
        "print(*before - set(notices))\n"
    )
    assert process.stdout.split() == [metadata.version("gym")], process.stderr


@needs_library
@pytest.mark.parametrize(("cls", "settings"), ALGORITHMS)
def test_every_algorithm_learns(cls: type[Algorithm], settings: Mapping[str, Any]) -> None:
    batch = episodes()
    torch.manual_seed(0)
    learner = make(cls, settings).build(workload(), make(networks.OmniglotFc, SMALL), Device())
    first = learner.learn(batch, 0, 20).mean()
    for step in range(20):
        learner.learn(batch, step, 20)
        learner.update(step, 20)
    with torch.no_grad():
        adapted = learner.adapt(batch.support)
        prediction = learner.predict(adapted, batch.query.x)
    assert prediction.shape == (4, 15, 5)
    assert task_losses("classification", prediction, batch.query.y).mean() < first
    assert all(p.grad is not None for p in learner.parameters())


def derivatives(learner: Any, batch: Episodes, width: float) -> tuple[float, float]:
    """The loss's slope along a random direction: by the learner's gradient, and by a finite difference."""
    learner.learn(batch, 0, 1)
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in learner.parameters()]
    derivative = sum(float((p.grad * d).sum()) for p, d in zip(learner.parameters(), directions, strict=True))
    sides = []
    for step in (width, -2 * width):  # up, then down past the middle
        with torch.no_grad():
            for parameter, direction in zip(learner.parameters(), directions, strict=True):
                parameter.add_(step * direction)
        sides.append(float(learner.learn(batch, 0, 1).mean()))
    return derivative, (sides[0] - sides[1]) / (2 * width)


@needs_library
def test_metaoptnet_differentiates_its_solver() -> None:
    torch.manual_seed(1)
    learner = make(algorithms.L2lMetaOptNet).build(workload(), Mlp(hidden=(16,)), Device(dtype=torch.float64))
    gradient, difference = derivatives(
        learner, episodes(dtype=torch.float64), 1e-3
    )  # the solver is in float32
    assert gradient == pytest.approx(difference, rel=0.02)


@needs_library
@pytest.mark.parametrize("transform", ["metacurvature", "kronecker"])
@pytest.mark.parametrize("first_order", [False, True])
def test_gradient_transforms_are_learned_on_convolutions(transform: str, first_order: bool) -> None:
    """Weights and transforms have the true gradient at second order, and another one at first order."""
    shape = (1, 28, 28)
    facts = Facts(kind="classification", input_shape=shape)
    settings = {"transform": transform, "first_order": first_order, "steps": 2}
    torch.manual_seed(0)
    network = make(networks.OmniglotCnn, {"width": 3})
    learner = make(algorithms.L2lGbml, settings).build(workload(facts), network, Device(dtype=torch.float64))
    gradient, difference = derivatives(learner, episodes(2, torch.float64, shape), 1e-7)
    assert (gradient == pytest.approx(difference, rel=1e-4)) is not first_order
    own = len(list(network.build(shape, 5).parameters()))
    learned = [p for p in learner.parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert len(learned) > own  # the transforms too


@needs_library
@pytest.mark.parametrize(
    ("network", "shape", "width"),
    [
        (networks.OmniglotCnn(), (1, 28, 28), 64),
        (networks.OmniglotFc(), (1, 28, 28), 64),
        (networks.Cnn4(width=8), (3, 84, 84), 8 * 25),
        (networks.Cnn4(width=8), (1, 28, 28), 8),
        (networks.ResNet12(), (3, 84, 84), 640),
        (networks.ResNet12(avg_pool=False), (3, 32, 32), 640 * 4),
        pytest.param(networks.Wrn28(), (3, 84, 84), 640, marks=pytest.mark.slow),
    ],
)
def test_networks_have_features_and_a_head_that_fits(
    network: Network, shape: tuple[int, ...], width: int
) -> None:
    x = torch.randn(2, *shape)
    whole = network.build(shape, 5)
    with torch.no_grad():
        assert whole(x).shape == (2, 5)
        assert whole.get_submodule("features")(x).flatten(1).shape == (2, width)
        assert network.build(shape, None)(x).flatten(1).shape == (2, width)
    assert not any("running" in name for name, _ in whole.named_buffers())


@needs_library
@pytest.mark.parametrize("cls", [networks.OmniglotCnn, networks.OmniglotFc])
def test_initial_weights_are_a_function_of_torchs_seed(cls: type[Network]) -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(torch.cat([p.flatten() for p in make(cls).build((1, 28, 28), 5).parameters()]))
    assert torch.equal(*weights)


@needs_library
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (networks.OmniglotCnn(), (3, 84, 84)),
        (networks.Cnn4(), (1, 14, 14)),
        (networks.ResNet12(), (3, 32, 32)),
        (networks.Wrn28(), (1, 84, 84)),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(network: Network, shape: tuple[int, ...]) -> None:
    with pytest.raises(Invalid, match=network.name):
        network.build(shape, 5)


class HalfUsed(Mlp):
    """A network with a weight that takes no part in its output."""

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """The perceptron, and a weight beside it."""
        module = super().build(input_shape, outputs)
        module.register_parameter("beside", nn.Parameter(torch.zeros(1)))
        return module


@needs_library
@pytest.mark.parametrize("cls", [algorithms.L2lMaml, algorithms.L2lGbml])
def test_why_adapting_failed_is_what_is_raised(cls: type[Algorithm]) -> None:
    learner = make(cls).build(workload(), HalfUsed(hidden=(8,)), Device())
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        learner.learn(episodes(), 0, 1)


@needs_library
def test_other_ways_in_training_are_refused_for_a_head_of_fixed_size() -> None:
    other_ways = Workload(facts=IMAGE, train=Protocol(20, 1, 3), test=PROTOCOL)
    with pytest.raises(Invalid, match="20 ways"):
        make(algorithms.L2lMaml).build(other_ways, Mlp(), Device())


class SignDescent(nn.Module):
    """A user's own object: no class of learn2learn, but `clone()` and `adapt(loss)`."""

    def __init__(self, weights: dict[str, Tensor], module: nn.Module, rate: float) -> None:
        super().__init__()
        self.hidden, self.weights, self.rate = [module], weights, rate

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(self.hidden[0], self.weights, (x,))
        return result

    def adapt(self, loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, list(self.weights.values()), create_graph=True)
        self.weights = {
            name: weight - self.rate * torch.tanh(10 * gradient)
            for (name, weight), gradient in zip(self.weights.items(), gradients, strict=True)
        }


class SignDescentWrapper(nn.Module):
    def __init__(self, module: nn.Module, rate: float) -> None:
        super().__init__()
        self.module, self.rate = module, rate

    def clone(self) -> SignDescent:
        return SignDescent(dict(self.module.named_parameters()), self.module, self.rate)

    def adapt(self, loss: Tensor) -> None:
        raise NotImplementedError("only clones adapt")


@dataclass(frozen=True, kw_only=True)
class SignMaml(CloneAdapt):
    """MAML whose inner steps follow the slope's sign."""

    name: ClassVar[str] = "sign-maml"

    def wrap(self, module: nn.Module) -> nn.Module:
        """The network in my own wrapper."""
        return SignDescentWrapper(module, self.inner_rate)


def test_any_object_with_clone_and_adapt_becomes_an_algorithm() -> None:
    """Without learn2learn at all; its gradient equals the one taken by hand."""
    assert issubclass(SignMaml, Component)
    assert SignMaml.unavailable() is None
    batch, device = episodes(dtype=torch.float64), Device(dtype=torch.float64)
    torch.manual_seed(0)
    learner = make(SignMaml, {"inner_rate": 0.01, "steps": 2}).build(workload(), Mlp(hidden=(8,)), device)
    losses = learner.learn(batch, 0, 1)
    gradients = [p.grad.clone() for p in learner.parameters() if p.grad is not None]

    torch.manual_seed(0)
    module = Mlp(hidden=(8,)).build(SHAPE, 5).double()

    def by_hand(some: Episodes) -> Tensor:
        by_task = []
        for task in range(len(some.index)):
            own = SignDescentWrapper(module, 0.01).clone()
            for _ in range(2):
                own.adapt(nn.functional.cross_entropy(own(some.support.x[task]), some.support.y[task]))
            by_task.append(nn.functional.cross_entropy(own(some.query.x[task]), some.query.y[task]))
        return torch.stack(by_task)

    expected = mean_gradient(list(module.parameters()), by_hand, batch)
    assert torch.allclose(losses, expected, rtol=1e-12)
    for gradient, parameter in zip(gradients, module.parameters(), strict=True):
        assert parameter.grad is not None
        assert torch.allclose(gradient, parameter.grad, rtol=0, atol=1e-12)
    with torch.no_grad():
        assert learner.predict(learner.adapt(batch.support, 3), batch.query.x).shape == (4, 15, 5)


@needs_library
def test_the_library_is_the_version_that_the_plugins_are_made_for() -> None:
    assert learn2learn().__version__ == "0.2.0"
