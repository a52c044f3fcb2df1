"""Makes an algorithm of any object that has learn2learn's `clone()` and `adapt(loss)`.

A subclass of `CloneAdapt` says in `wrap` what the object is; everything else is here:

    @dataclass(frozen=True, kw_only=True)
    class MyMaml(CloneAdapt):
        '''MAML as my group wrote it.'''
        name: ClassVar[str] = "my-maml"

        def wrap(self, module: nn.Module) -> nn.Module:
            return MyWrapper(module, lr=self.inner_rate)     # has clone() and adapt(loss)

The meta-step is the loop of the library's own examples (`examples/vision/maml_omniglot.py`): clone, adapt,
`backward` on the queries' loss task by task, then divide the summed gradients by the number of tasks.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Algorithm, Episodes, Examples, Invalid, Network, Workload, setting
from metabench import Protocol as TaskProtocol
from metabench.device import Device
from metabench.learning import ModuleLearner

Loss = Callable[[Tensor, Tensor], Tensor]


class Adaptable(Protocol):
    """What `wrap` returns, beside being an `nn.Module`: learn2learn's way to adapt to one task."""

    def clone(self) -> Any:
        """A copy for one task, through which gradients reach the original."""

    def adapt(self, loss: Tensor) -> None:
        """One gradient step of this copy on a loss that was computed with it."""


@dataclass(frozen=True, kw_only=True)
class CloneAdapt(Algorithm):
    """The base of algorithms whose tasks adapt by `clone()` and `adapt(loss)`; write `wrap`.

    `shared` may name a part of the network that no task adapts. With batch norm the evaluation is
    transductive: queries are normalised by the statistics of all of a task's queries.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})

    inner_rate: float = setting(0.4, "step size of adaptation", above=0)
    steps: int = setting(1, "inner steps in training", at_least=1)
    test_steps: int | None = setting(None, "inner steps in the test; none: as in training", at_least=0)
    rate: float = setting(1e-3, "learning rate of Adam, the outer optimizer", above=0)

    @abstractmethod
    def wrap(self, module: nn.Module) -> nn.Module:
        """An `Adaptable` nn.Module around the network (or what `shared` leaves of it)."""

    def shared(self, module: nn.Module) -> nn.Module | None:
        """The part of the network that tasks share as it is; None: all of it adapts."""
        return None

    def build(self, workload: Workload, network: Network | None, device: Device) -> CloneAdaptLearner:
        """The learner; raises Invalid without a network or where training has other ways than the test."""
        module = built(self.name, workload, network, device, workload.outputs)
        encoder = self.shared(module)
        wrapped = self.wrap(module if encoder is None else cast(nn.Module, module.head))
        return CloneAdaptLearner(self, wrapped.to(device.torch, device.dtype), encoder, workload)


class Parts(nn.ModuleDict):
    """The wrapped part, and the shared encoder where there is one."""


class CloneAdaptLearner(ModuleLearner):
    """Runs one task after the other, each on a clone of its own.

    wrapped: an `Adaptable` module; encoder: what runs before it in every task, unadapted, or None.
    """

    path = "loop"

    def __init__(
        self, settings: CloneAdapt, wrapped: nn.Module, encoder: nn.Module | None, workload: Workload
    ) -> None:
        parts = Parts({"wrapped": wrapped} if encoder is None else {"encoder": encoder, "wrapped": wrapped})
        drop_running_statistics(parts)
        super().__init__(parts, torch.optim.Adam(parts.parameters(), settings.rate))
        self.wrapped = cast(Adaptable, wrapped)
        self.encode: Callable[[Tensor], Tensor] = (lambda x: x) if encoder is None else encoder
        self.steps = settings.steps
        self.test_steps = settings.steps if settings.test_steps is None else settings.test_steps
        self.loss = loss_of(workload.facts.kind)
        self.transductive = has_batch_norm(parts)
        takes = inspect.signature(self.wrapped.adapt).parameters
        self.constant = {"first_order": True} if "first_order" in takes else {}

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Clones, adapts and differentiates task by task; returns the queries' losses [T]."""
        assert isinstance(batch, Episodes)
        return accumulate(self.parameters(), len(batch.index), lambda task: self._task_loss(batch, task))

    def _task_loss(self, batch: Episodes, task: int) -> Tensor:
        one = self.wrapped.clone()
        x, y = self.encode(batch.support.x[task]), batch.support.y[task]
        for _ in range(self.steps):
            _adapt(one, self.loss(one(x), y))
        return self.loss(one(self.encode(batch.query.x[task])), batch.query.y[task])

    def adapt(self, support: Examples, steps: int | None = None) -> list[Any]:
        """An adapted clone for each task."""
        steps = self.test_steps if steps is None else steps
        constant = {} if torch.is_grad_enabled() else self.constant  # no second derivatives to be kept
        clones = []
        for x, y in zip(support.x, support.y, strict=True):
            encoded = self.encode(x)
            with torch.enable_grad():
                one = self.wrapped.clone()
                for _ in range(steps):
                    _adapt(one, self.loss(one(encoded), y), **constant)
            clones.append(one)
        return clones

    def predict(self, state: list[Any], query_x: Tensor) -> Tensor:
        """Predictions [T, q, outputs] of each task's clone."""
        return torch.stack([one(self.encode(x)) for one, x in zip(state, query_x, strict=True)])


def _adapt(one: Any, loss: Tensor, **constant: bool) -> None:
    """Takes one inner step of a clone; raises the error itself where its gradient fails.

    learn2learn prints that error, memory running out included, and goes on until a name is unbound. So the
    gradient is taken once more here, for the error.
    """
    try:
        one.adapt(loss, **constant)
    except UnboundLocalError:
        torch.autograd.grad(loss, list(one.parameters()), create_graph=not constant)
        raise


class Fitted(NamedTuple):
    """The adapted state of a learner that embeds: each task's classifier, fitted to its support set."""

    classifiers: list[nn.Module]


class EmbedFitLearner(ModuleLearner):
    """Embeds examples and fits one of learn2learn's classifiers to each task's support set.

    module: a network with `.features`; classifier: makes a fresh one with `fit_(features, labels)`;
    dtype: the float type that the classifier computes in (None: the network's).
    """

    path = "loop"

    def __init__(
        self,
        module: nn.Module,
        rate: float,
        classifier: Callable[[], Any],
        dtype: torch.dtype | None = None,
    ) -> None:
        drop_running_statistics(module)
        super().__init__(module, torch.optim.Adam(module.parameters(), rate))
        self.classifier = classifier
        self.dtype = dtype
        self.transductive = has_batch_norm(module)

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """The gradient of the queries' cross entropy, task by task; returns the losses [T]."""
        assert isinstance(batch, Episodes)
        return accumulate(self.parameters(), len(batch.index), lambda task: self._task_loss(batch, task))

    def _task_loss(self, batch: Episodes, task: int) -> Tensor:
        fitted = self._fit(batch.support.x[task], batch.support.y[task])
        return F.cross_entropy(fitted(self._embed(batch.query.x[task])), batch.query.y[task])

    def adapt(self, support: Examples, steps: int | None = None) -> Fitted:
        """A classifier for each task."""
        return Fitted([self._fit(x, y) for x, y in zip(support.x, support.y, strict=True)])

    def predict(self, state: Fitted, query_x: Tensor) -> Tensor:
        """Class scores [T, q, ways]."""
        scores = [one(self._embed(x)) for one, x in zip(state.classifiers, query_x, strict=True)]
        return torch.stack(scores).to(query_x.dtype)

    def _fit(self, x: Tensor, y: Tensor) -> Any:
        classifier = self.classifier()
        classifier.fit_(self._embed(x), y)
        return classifier

    def _embed(self, x: Tensor) -> Tensor:
        return cast(Tensor, cast(nn.Module, self.module.features)(x).flatten(1).to(self.dtype or x.dtype))


def built(
    algorithm: str, workload: Workload, network: Network | None, device: Device, outputs: int | None
) -> nn.Module:
    """The cell's network on the device; raises Invalid where there is none or where its head cannot fit."""
    if network is None:
        raise Invalid(f"{algorithm} needs a network: name one in the cell, e.g. network = 'conv4'")
    train, test = workload.train, workload.test
    if outputs is not None and isinstance(train, TaskProtocol) and train.ways != test.ways:
        raise Invalid(
            f"{algorithm} has a head of fixed size: training with {train.ways} ways does not fit a test "
            f"with {test.ways}; give both the same ways"
        )
    return network.build(workload.facts.input_shape, outputs).to(device.torch, device.dtype)


def accumulate(parameters: Sequence[Tensor], tasks: int, loss: Callable[[int], Tensor]) -> Tensor:
    """Leaves in `.grad` the mean gradient of `loss(0)` … `loss(tasks - 1)`; returns the losses [tasks]."""
    for parameter in parameters:
        parameter.grad = None
    losses = []
    for task in range(tasks):
        one = loss(task)
        one.backward()  # type: ignore[no-untyped-call]  # torch's own
        losses.append(one.detach())
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.mul_(1.0 / tasks)
    return torch.stack(losses)


def loss_of(kind: Literal["classification", "regression"]) -> Loss:
    """The loss of one task's predictions [n, outputs]: cross entropy, or mean squared error."""
    return F.mse_loss if kind == "regression" else F.cross_entropy


def drop_running_statistics(module: nn.Module) -> None:
    """Lets every batch norm use its batch's statistics alone.

    `clone()` shares these buffers with the original, so each task, test tasks included, would write to
    them; see the page on learn2learn in the documentation.
    """
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None


def has_batch_norm(module: nn.Module) -> bool:
    """Whether an output can depend on the other examples of its batch."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())
