"""Learners with one fault each, and a sound one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metabench import (
    Episodes,
    Examples,
)
from metabench.device import Device
from metabench.engine import lift
from metabench.learning import ModuleLearner, mean_gradient, task_losses
from metabench.records import Outputs


class Means(ModuleLearner):
    """A sound learner: the nearest class mean in a learned embedding."""

    outputs: Outputs = "logits"

    def __init__(self, fault: str, module: nn.Module, ways: int, device: Device) -> None:
        super().__init__(module, torch.optim.Adam(module.parameters(), 1e-2))
        self.fault, self.lifted, self.ways, self.device = fault, lift(module), ways, device
        self.transductive = self.lifted.batch_statistics
        self.seen: Any = None

    def embed(self, x: Tensor) -> Tensor:
        return self.lifted(x, part="features").flatten(2)

    def losses(self, batch: Episodes) -> Tensor:
        prediction = self.predict(self.adapt(batch.support), batch.query.x)
        return task_losses("classification", prediction, batch.query.y)

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        assert isinstance(batch, Episodes)
        return mean_gradient(self.parameters(), self.losses, batch)

    def adapt(self, support: Examples, steps: int | None = None) -> Any:
        one_hot = nn.functional.one_hot(support.y, self.ways).to(self.device.dtype)
        return one_hot.mT @ self.embed(support.x) / one_hot.sum(1)[..., None]

    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        return -(self.embed(query_x)[:, :, None] - state[:, None]).square().sum(3)


class Unnormalised(Means):
    """Calls its distances log-probabilities."""

    outputs: Outputs = "log-probabilities"


class Probabilities(Means):
    """Returns probabilities, and calls them logits."""

    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        return super().predict(state, query_x).softmax(2)


class CallsThemValues(Means):
    outputs: Outputs = "values"


class OddOutputs(Means):
    outputs: Outputs = "probabilities"  # type: ignore[assignment]  # the fault


class AssumesOrder(Means):
    def adapt(self, support: Examples, steps: int | None = None) -> Any:
        places = (torch.arange(support.y.shape[1]) % self.ways).expand_as(support.y)
        return super().adapt(Examples(support.x, places))


class AddsGradients(Means):
    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        losses = self.losses(batch)
        losses.mean().backward()
        return losses


class SumsTasks(Means):
    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        losses = super().learn(batch, step, total)
        for parameter in self.parameters():
            parameter.grad = None if parameter.grad is None else parameter.grad * len(losses)
        return losses


class DropsTerms(Means):
    def losses(self, batch: Episodes) -> Tensor:
        state = self.adapt(batch.support).detach()
        return task_losses("classification", self.predict(state, batch.query.x), batch.query.y)


class MeanLoss(Means):
    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        return super().learn(batch, step, total).mean()


class NoGradient(Means):
    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        losses = super().learn(batch, step, total)
        self.parameters()[0].grad = None
        return losses


class LearnsInLearn(Means):
    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        losses = super().learn(batch, step, total)
        super().update(step, total)
        return losses


class NeverUpdates(Means):
    def update(self, step: int, total: int) -> None:
        return


class GlobalChance(Means):
    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        noisy = batch._replace(query=Examples(batch.query.x + torch.randn_like(batch.query.x), batch.query.y))
        return super().learn(noisy, step, total)


class MixesTasks(Means):
    def adapt(self, support: Examples, steps: int | None = None) -> Any:
        means = super().adapt(support, steps)
        return means + 0.1 * means.mean(0, keepdim=True)


class ReadsPlaces(Means):
    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        places = torch.arange(query_x.shape[1]) % self.ways
        return super().predict(state, query_x) + nn.functional.one_hot(places, self.ways)


class ReadsLabels(Means):
    def adapt(self, support: Examples, steps: int | None = None) -> Any:
        whole = support.y._base
        n = support.y.shape[1]
        self.seen = whole[:, n:] if whole is not None and whole.dim() == 2 else None
        return super().adapt(support, steps)

    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        prediction = super().predict(state, query_x)
        if self.seen is None or self.seen.shape[1] != query_x.shape[1]:
            return prediction
        return prediction + nn.functional.one_hot(self.seen, self.ways)


class RemembersLabels(Means):
    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        losses = super().learn(batch, step, total)
        self.seen = batch
        return losses

    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        prediction = super().predict(state, query_x)
        if torch.is_grad_enabled() or self.seen is None or not torch.equal(self.seen.query.x, query_x):
            return prediction
        return prediction + nn.functional.one_hot(self.seen.query.y, self.ways)


class HidesTransduction(Means):
    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        return super().predict(state, query_x - query_x.mean(1, keepdim=True))


class BoastsTransduction(Means):
    transductive = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.transductive = True


class LeavesGradients(Means):
    def adapt(self, support: Examples, steps: int | None = None) -> Any:
        if not torch.is_grad_enabled():  # in the test, when learn has long passed
            with torch.enable_grad():
                self.embed(support.x).sum().backward()
        return super().adapt(support, steps)


class KeepsGraph(Means):
    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        with torch.enable_grad():
            return super().predict(state, query_x)


class Drifts(Means):
    def adapt(self, support: Examples, steps: int | None = None) -> Any:
        if not torch.is_grad_enabled():
            self.parameters()[0].mul_(1.01)
        return super().adapt(support, steps)


class NoSteps(Means):
    def adapt(self, support: Examples) -> Any:  # type: ignore[override]
        return super().adapt(support)


class TransposedPrediction(Means):
    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        prediction = super().predict(state, query_x)
        return prediction if torch.is_grad_enabled() else prediction.mT


class ForgetsState(Means):
    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        return


class ForgetsFinish(Means):
    """Computes a scale of each feature in `finish`, and keeps it out of its state."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.scale: Tensor | float = 1.0

    def finish(self, batches: Iterator[Examples]) -> None:
        with torch.no_grad():
            self.scale = self.embed(next(batches).x[None]).std((0, 1))

    def embed(self, x: Tensor) -> Tensor:
        return super().embed(x) / getattr(self, "scale", 1.0)


class ComputesUndeclared(Means):
    """Computes a scale in `finish` that a fresh learner says nothing of."""

    def finish(self, batches: Iterator[Examples]) -> None:
        with torch.no_grad():
            self.computed["scale"] = next(batches).x.std()


class ForgetsOptimizer(Means):
    def training_state(self) -> dict[str, Any]:
        return {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        return


class ForgetsMoments(Means):
    """Keeps the settings of the optimizer alone."""

    def training_state(self) -> dict[str, Any]:
        assert self.optimizer is not None
        return {"groups": self.optimizer.state_dict()["param_groups"]}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        assert self.optimizer is not None
        self.optimizer.load_state_dict({"state": {}, "param_groups": state["groups"]})


class NestsState(Means):
    def state_dict(self) -> dict[str, Any]:
        return {"module": super().state_dict()}


class PicklesState(Means):
    def training_state(self) -> dict[str, Any]:
        return {**super().training_state(), "learner": Path("x")}


class NewParameters(Means):
    def parameters(self) -> Sequence[Tensor]:
        return [p.view_as(p) for p in super().parameters()]


class OtherType(Means):
    def __init__(self, fault: str, module: nn.Module, ways: int, device: Device) -> None:
        super().__init__(fault, module.float(), ways, device)


class StaysOnCpu(Means):
    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        return super().predict(state, query_x) + torch.zeros(self.ways, dtype=query_x.dtype)


class AnswersOnCpu(Means):
    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        return super().predict(state, query_x).cpu()

    def losses(self, batch: Episodes) -> Tensor:
        prediction = super().predict(self.adapt(batch.support), batch.query.x)
        return task_losses("classification", prediction, batch.query.y)


class DrawsOnCpu(Means):
    def adapt(self, support: Examples, steps: int | None = None) -> Any:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(support.x.shape, generator=generator, device=self.device.torch)
        return super().adapt(Examples(support.x + 0 * noise.to(support.x.dtype), support.y), steps)


class Counts(Means):
    def adapt(self, support: Examples, steps: int | None = None) -> Any:
        assert np.asarray(support.y).max() < self.ways
        return super().adapt(support, steps)


LEARNERS: dict[str, type[Means]] = {
    cls.__name__: cls
    for cls in (
        Means, Unnormalised, Probabilities, CallsThemValues, OddOutputs,
        AssumesOrder, AddsGradients, SumsTasks, DropsTerms, MeanLoss, NoGradient, LearnsInLearn,
        NeverUpdates,
        GlobalChance, MixesTasks, ReadsPlaces, ReadsLabels, RemembersLabels, HidesTransduction,
        BoastsTransduction, LeavesGradients, KeepsGraph, Drifts, NoSteps, TransposedPrediction, ForgetsState,
        ForgetsFinish, ComputesUndeclared, ForgetsOptimizer, ForgetsMoments, NestsState, PicklesState,
        NewParameters,
        OtherType, StaysOnCpu, AnswersOnCpu, DrawsOnCpu, Counts,
    )
}  # fmt: skip
