"""Makes an algorithm of any object that has learn2learn's `clone()` and `adapt(loss)`.

A subclass of `CloneAdapt` builds the object in `wrap`; this module does the rest:

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

from metabench import Algorithm, Episodes, Examples, Network, Workload, setting
from metabench.device import Device
from metabench.engine import drop_running_statistics
from metabench.learning import (
    ModuleLearner,
    adam,
    build_network,
    outputs_of,
    require_equal_ways,
    require_trainable,
)

Loss = Callable[[Tensor, Tensor], Tensor]


class Adaptable(Protocol):
    """A module that adapts as learn2learn's do, which `wrap` returns: one clone for each task."""

    def clone(self) -> Any:
        """Return a copy for one task, through which gradients reach the original."""

    def adapt(self, loss: Tensor) -> None:
        """Take one gradient step of this copy on a loss that was computed with it."""


@dataclass(frozen=True, kw_only=True)
class CloneAdapt(Algorithm):
    """The base class of algorithms whose tasks adapt by `clone()` and `adapt(loss)`; write `wrap`.

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
        """Return an `Adaptable` nn.Module around the network (or what `shared` leaves of it)."""

    def shared(self, module: nn.Module) -> nn.Module | None:
        """Return the part of the network that tasks share unadapted; None: all of it adapts."""
        return None

    def build(self, workload: Workload, network: Network | None, device: Device) -> CloneAdaptLearner:
        """Build the learner; raise Invalid without a network, or for other ways in training than the test."""
        require_equal_ways(self.name, workload)
        module = build_network(self.name, network, workload, device, workload.outputs)
        require_trainable(module, self.name, workload)
        encoder = self.shared(module)
        adapted = module if encoder is None else cast(nn.Module, module.head)
        adapts = any(parameter.requires_grad for parameter in adapted.parameters())
        wrapped = self.wrap(adapted).to(device.torch, device.dtype)
        return CloneAdaptLearner(self, wrapped, encoder, workload, adapts=adapts)


class Parts(nn.ModuleDict):
    """The wrapped part, and the shared encoder if any."""


class CloneAdaptLearner(ModuleLearner):
    """Runs one task after the other, each on a clone of its own.

    wrapped: an `Adaptable` module; encoder: what runs before it in every task, unadapted, or None; adapts:
    False where all weights that would adapt are frozen, so that inner steps change nothing.
    """

    path = "loop"

    def __init__(
        self,
        settings: CloneAdapt,
        wrapped: nn.Module,
        encoder: nn.Module | None,
        workload: Workload,
        *,
        adapts: bool = True,
    ) -> None:
        parts = Parts({"wrapped": wrapped} if encoder is None else {"encoder": encoder, "wrapped": wrapped})
        self.transductive = has_batch_norm(parts)
        super().__init__(parts, adam(parts, settings.rate, settings.name, workload))
        self.wrapped = cast(Adaptable, wrapped)
        self.encode: Callable[[Tensor], Tensor] = (lambda x: x) if encoder is None else encoder
        self.adapts = adapts
        self.steps = settings.steps
        self.test_steps = settings.steps if settings.test_steps is None else settings.test_steps
        self.loss = loss_of(workload.facts.kind)
        self.outputs = outputs_of(workload.facts.kind)
        parameters = inspect.signature(self.wrapped.adapt).parameters
        self.first_order = {"first_order": True} if "first_order" in parameters else {}

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Clone, adapt and differentiate task by task; return the queries' losses [T]."""
        assert isinstance(batch, Episodes)
        return accumulate(self.parameters(), len(batch.index), lambda task: self._task_loss(batch, task))

    def _task_loss(self, batch: Episodes, task: int) -> Tensor:
        clone = self.wrapped.clone()
        x, y = self.encode(batch.support.x[task]), batch.support.y[task]
        for _ in range(self.steps if self.adapts else 0):
            _adapt(clone, self.loss(clone(x), y))
        return self.loss(clone(self.encode(batch.query.x[task])), batch.query.y[task])

    def adapt(self, support: Examples, steps: int | None = None) -> list[Any]:
        """Return an adapted clone for each task."""
        steps = self.test_steps if steps is None else steps
        options = {} if torch.is_grad_enabled() else self.first_order  # nothing differentiates twice
        clones = []
        for x, y in zip(support.x, support.y, strict=True):
            encoded = self.encode(x)
            with torch.enable_grad():
                clone = self.wrapped.clone()
                for _ in range(steps if self.adapts else 0):
                    _adapt(clone, self.loss(clone(encoded), y), **options)
            clones.append(clone)
        return clones

    def predict(self, state: list[Any], query_x: Tensor) -> Tensor:
        """Return predictions [T, q, outputs] of each task's clone."""
        return torch.stack([clone(self.encode(x)) for clone, x in zip(state, query_x, strict=True)])


def _adapt(clone: Any, loss: Tensor, **options: bool) -> None:
    """Take one inner step of a clone; raise the error itself where its gradient fails.

    learn2learn prints that error, memory running out included, and goes on until a name is unbound. So the
    gradient is taken once more here, for the error.
    """
    try:
        clone.adapt(loss, **options)
    except UnboundLocalError:
        torch.autograd.grad(loss, list(clone.parameters()), create_graph=not options)
        raise


class Fitted(NamedTuple):
    """The adapted state of a learner that embeds: each task's classifier, fitted to its support set."""

    classifiers: list[nn.Module]


class EmbedFitLearner(ModuleLearner):
    """Embeds examples and fits one of learn2learn's classifiers to each task's support set.

    module: a network with `.features`; classifier: makes a fresh one with `fit_(features, labels)`;
    dtype: the float type that the classifier computes in (None: the network's). Its scores are logits: the
    loss is their cross entropy.
    """

    outputs = "logits"
    path = "loop"

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        classifier: Callable[[], Any],
        dtype: torch.dtype | None = None,
    ) -> None:
        self.transductive = has_batch_norm(module)
        super().__init__(module, optimizer)
        self.classifier = classifier
        self.dtype = dtype

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Leave the gradient of the queries' cross entropy, task by task; return the losses [T]."""
        assert isinstance(batch, Episodes)
        return accumulate(self.parameters(), len(batch.index), lambda task: self._task_loss(batch, task))

    def _task_loss(self, batch: Episodes, task: int) -> Tensor:
        fitted = self._fit(batch.support.x[task], batch.support.y[task])
        return F.cross_entropy(fitted(self._embed(batch.query.x[task])), batch.query.y[task])

    def adapt(self, support: Examples, steps: int | None = None) -> Fitted:
        """Return a fitted classifier for each task."""
        return Fitted([self._fit(x, y) for x, y in zip(support.x, support.y, strict=True)])

    def predict(self, state: Fitted, query_x: Tensor) -> Tensor:
        """Return class scores [T, q, ways]."""
        scores = [
            classifier(self._embed(x)) for classifier, x in zip(state.classifiers, query_x, strict=True)
        ]
        return torch.stack(scores).to(query_x.dtype)

    def _fit(self, x: Tensor, y: Tensor) -> Any:
        classifier = self.classifier()
        classifier.fit_(self._embed(x), y)
        return classifier

    def _embed(self, x: Tensor) -> Tensor:
        return cast(Tensor, cast(nn.Module, self.module.features)(x).flatten(1).to(self.dtype or x.dtype))


def accumulate(parameters: Sequence[Tensor], tasks: int, loss: Callable[[int], Tensor]) -> Tensor:
    """Leave in `.grad` the mean gradient of `loss(0)` … `loss(tasks - 1)`; return the losses [tasks]."""
    for parameter in parameters:
        parameter.grad = None
    losses = []
    for task in range(tasks):
        task_loss = loss(task)
        task_loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        losses.append(task_loss.detach())
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.mul_(1.0 / tasks)
    return torch.stack(losses)


def loss_of(kind: Literal["classification", "regression"]) -> Loss:
    """Return the loss of one task's predictions [n, outputs]: cross entropy, or mean squared error."""
    return F.mse_loss if kind == "regression" else F.cross_entropy


def has_batch_norm(module: nn.Module) -> bool:
    """Let batch norms use their batch's statistics alone, but for held ones; return whether there are any.

    `clone()` shares running statistics with the original, so each task, test tasks included, would write to
    them; see the page on learn2learn in the documentation.
    """
    return bool(drop_running_statistics(module))
