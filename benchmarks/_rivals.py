"""Other libraries' meta-steps of a row: the same network, weights, tasks and outer optimizer as ours.

Each is written as its own documentation writes it, and is left out where its library is not installed
(`pip install metabench[rivals]`). The names of ROWS that a rival has no program for are left out too.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from _contest import STEPS, PlainLoop, Row, Side, episodes_of, loop_of, module_of
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from metabench import Episodes
from metabench.device import Device

Parameters = Mapping[str, Tensor]


class Rival(Protocol):
    """A library's program for a row."""

    def step(self) -> object:
        """Take one whole meta-step, the outer optimizer's included."""

    def gradients(self) -> Mapping[str, Tensor]:
        """Return the meta-gradient of the mean loss, by parameter of the network; a name may be absent."""


class Loop:
    """A side that steps like ours (`learn`, then `update`) as a rival."""

    def __init__(self, side: Side, module: nn.Module, episodes: Episodes) -> None:
        self.side, self.episodes = side, episodes
        self.names = [name for name, _ in module.named_parameters()]

    def step(self) -> None:
        """Learn and update."""
        self.side.learn(self.episodes, 0, STEPS)
        self.side.update(0, STEPS)

    def gradients(self) -> dict[str, Tensor]:
        """Return what `learn` leaves in `.grad`."""
        self.side.learn(self.episodes, 0, STEPS)
        pairs = zip(self.names, self.side.parameters(), strict=True)
        return {name: weight.grad.detach().clone() for name, weight in pairs if weight.grad is not None}


class HigherMaml(PlainLoop):
    """higher: a differentiable copy of the module and of SGD for each task."""

    def learn_task(self, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        import higher

        inner = torch.optim.SGD(self.module.parameters(), self.settings["inner_rate"])
        with higher.innerloop_ctx(self.module, inner, copy_initial_weights=False) as (copy, descent):
            for _ in range(self.settings["steps"]):
                descent.step(self.loss(copy(xs), ys), grad_callback=self._constant_where_first_order)
            loss: Tensor = self.loss(copy(xq), yq)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        return loss.detach()

    def _constant_where_first_order(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        constant = self.settings.get("first_order", False)
        return [gradient.detach() for gradient in gradients] if constant else gradients


class TorchOptMaml(PlainLoop):
    """TorchOpt: its MetaSGD changes the module in place; weights are put back after each task."""

    def learn_task(self, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        import torchopt

        inner = torchopt.MetaSGD(self.module, lr=self.settings["inner_rate"])
        start = torchopt.extract_state_dict(self.module, by="reference")
        for _ in range(self.settings["steps"]):
            inner.step(self.loss(self.module(xs), ys))
        loss = self.loss(self.module(xq), yq)
        torchopt.recover_state_dict(self.module, start)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        return loss.detach()


class EasyfslProtoNet(PlainLoop):
    """easyfsl: its PrototypicalNetworks around the embedding, one task after the other."""

    def learn_task(self, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        from easyfsl.methods import PrototypicalNetworks

        model = PrototypicalNetworks(self.module)
        model.process_support_set(xs, ys)
        loss = F.cross_entropy(model(xq), yq)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        return loss.detach()


class Functional:
    """torch.func as PyTorch's own example has it: `vmap` over tasks of a loss that steps by `grad`.

    With batch norm its second derivative is another one (see `speed.py`). compiled: by `torch.compile`, with
    the outer derivative inside.
    """

    def __init__(self, row: Row, device: Device, compiled: bool) -> None:
        self.row, self.module = row, module_of(row, device)
        episodes = episodes_of(row, device)
        self.tasks = (*episodes.support, *episodes.query)
        self.weights = dict(self.module.named_parameters())
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.weights.values(), 1e-3)
        if row.algorithm == "reptile":
            self.optimizer = torch.optim.SGD(self.weights.values(), 1.0)
        whole = self._displacement if row.algorithm == "reptile" else grad(self._loss)
        self.whole: Callable[..., Parameters] | None = None
        if compiled or row.algorithm == "reptile":
            self.whole = torch.compile(whole) if compiled else whole

    def step(self) -> None:
        """Leave the meta-gradient in `.grad`; update."""
        self._learn()
        self.optimizer.step()

    def gradients(self) -> dict[str, Tensor]:
        """Return what a step leaves in `.grad` before the update."""
        self._learn()
        return {n: w.grad.detach().clone() for n, w in self.weights.items() if w.grad is not None}

    def _learn(self) -> None:
        if self.whole is None:
            self.optimizer.zero_grad()
            self._loss(self.weights, *self.tasks).backward()  # type: ignore[no-untyped-call]  # torch's own
            return
        detached = {name: weight.detach() for name, weight in self.weights.items()}
        for name, gradient in self.whole(detached, *self.tasks).items():
            self.weights[name].grad = gradient

    def _loss(self, weights: Parameters, *tasks: Tensor) -> Tensor:
        losses: Tensor = vmap(self._task_loss, (None, 0, 0, 0, 0))(weights, *tasks)
        return losses.mean()

    def _task_loss(self, weights: Parameters, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        return self._examples_loss(self._adapted(weights, xs, ys), xq, yq)

    def _adapted(self, weights: Parameters, x: Tensor, y: Tensor) -> Parameters:
        for _ in range(self.row.settings["steps"]):
            gradients = grad(self._examples_loss)(weights, x, y)
            if self.row.settings.get("first_order", False):
                gradients = {name: gradient.detach() for name, gradient in gradients.items()}
            weights = {n: w - self.row.settings["inner_rate"] * gradients[n] for n, w in weights.items()}
        return weights

    def _examples_loss(self, weights: Parameters, x: Tensor, y: Tensor) -> Tensor:
        prediction = functional_call(self.module, dict(weights), (x,))
        return F.mse_loss(prediction, y) if self.row.regression else F.cross_entropy(prediction, y)

    def _displacement(
        self, weights: Parameters, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor
    ) -> Parameters:
        def of_task(x: Tensor, y: Tensor) -> Parameters:
            trained = self._adapted(weights, x, y)
            return {name: weight - trained[name] for name, weight in weights.items()}

        moved: Parameters = vmap(of_task)(torch.cat([xs, xq], 1), torch.cat([ys, yq], 1))
        return {name: displacement.mean(0) for name, displacement in moved.items()}


class Entry(NamedTuple):
    """How a rival is made. packages: what it needs; fits: the rows that it has a program for."""

    packages: tuple[str, ...]
    fits: Callable[[Row], bool]
    build: Callable[[Row, Device], Rival]


@dataclass(frozen=True)
class Looped:
    """Builds the rival of a subclass of `PlainLoop`."""

    loop: type[PlainLoop]

    def __call__(self, row: Row, device: Device) -> Rival:
        """Return the rival of a row."""
        module = module_of(row, device)
        return Loop(self.loop(module, row), module, episodes_of(row, device))


def _learn2learn(row: Row, device: Device) -> Rival:
    return Loop(loop_of(row, device), module_of(row, device), episodes_of(row, device))


def _is_maml(row: Row) -> bool:
    return row.algorithm == "maml"


def _jax(form: str) -> Callable[[Row, Device], Rival]:
    def build(row: Row, device: Device) -> Rival:
        from _jax_programs import JaxProgram

        return JaxProgram(row, device, form)

    return build


def _has_jax_program(row: Row) -> bool:
    return row.network in ("mlp", "conv4") and row.algorithm in ("maml", "reptile", "protonet")


RIVALS: Mapping[str, Entry] = {
    "higher": Entry(("higher",), _is_maml, Looped(HigherMaml)),
    "TorchOpt": Entry(("torchopt",), _is_maml, Looped(TorchOptMaml)),
    "easyfsl": Entry(("easyfsl",), lambda row: row.algorithm == "protonet", Looped(EasyfslProtoNet)),
    "torch.func": Entry(
        (),
        lambda row: row.algorithm in ("maml", "reptile"),
        lambda row, device: Functional(row, device, False),
    ),
    "torch.func compiled": Entry(
        (),
        lambda row: row.regression and row.algorithm in ("maml", "reptile"),
        lambda row, device: Functional(row, device, True),
    ),
    "JAX vmap": Entry(("jax",), _has_jax_program, _jax("vmap")),
    "JAX sharded vmap": Entry(("jax",), _has_jax_program, _jax("sharded vmap")),
    "JAX sharded scan": Entry(("jax",), _has_jax_program, _jax("sharded scan")),
}
"""By name. The loop of every row (`_contest.loop_of`: learn2learn's) comes first and is not in here."""


def rivals_of(row: Row, names: Sequence[str]) -> dict[str, Callable[[Device], Rival]]:
    """Return what builds each rival of these names that has a program for the row and is installed."""
    builders: dict[str, Callable[[Device], Rival]] = {"loop": lambda device: _learn2learn(row, device)}
    for name in names:
        entry = RIVALS[name]
        if entry.fits(row) and all(importlib.util.find_spec(package) for package in entry.packages):
            builders[name] = lambda device, build=entry.build: build(row, device)  # type: ignore[misc]
    return builders


def largest_difference(gradients: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """Return the largest difference of two meta-gradients as a fraction of the largest entry.

    An absent name is a gradient of zero.
    """
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    return max(
        float((gradients.get(name, torch.zeros_like(gradient)) - gradient).abs().max()) / scale
        for name, gradient in wanted.items()
    )


def installed(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of the libraries that these rivals need, of those that are installed."""
    from importlib.metadata import version

    packages = dict.fromkeys(package for name in names for package in RIVALS[name].packages)
    return {package: version(package) for package in packages if importlib.util.find_spec(package)}
