"""Components with one fault each, and sound ones beside them: what the contract checks must tell apart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from metabench import (
    Algorithm,
    Backend,
    Episodes,
    Examples,
    Executor,
    Facts,
    Invalid,
    Metric,
    Network,
    Report,
    Source,
    setting,
)
from metabench.device import Device
from metabench.engine import lift
from metabench.jobs import Job, Outcome
from metabench.learning import Headed, ModuleLearner, mean_gradient, task_losses
from metabench.plugins import load
from metabench.settings import make
from metabench.table import Table
from metabench.testing import TinyClasses


class Means(ModuleLearner):
    """A sound learner: the nearest class mean in a learned embedding."""

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


class AddsGradients(Means):
    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        losses = self.losses(batch)
        losses.mean().backward()
        return losses


class SumsTasks(Means):
    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        losses = super().learn(batch, step, total)
        for one in self.parameters():
            one.grad = None if one.grad is None else one.grad * len(losses)
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
        self.seen = None if whole is None else whole[:, support.y.shape[1] :]
        return super().adapt(support, steps)

    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        told = super().predict(state, query_x)
        if self.seen is None or self.seen.shape[1] != query_x.shape[1]:
            return told
        return told + nn.functional.one_hot(self.seen, self.ways)


class RemembersLabels(Means):
    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        losses = super().learn(batch, step, total)
        self.seen = batch
        return losses

    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        told = super().predict(state, query_x)
        if torch.is_grad_enabled() or self.seen is None or not torch.equal(self.seen.query.x, query_x):
            return told
        return told + nn.functional.one_hot(self.seen.query.y, self.ways)


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
        told = super().predict(state, query_x)
        return told if torch.is_grad_enabled() else told.mT


class ForgetsState(Means):
    def state_dict(self) -> dict[str, Any]:
        return {"module": {}, "optimizer": super().state_dict()["optimizer"]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert self.optimizer is not None
        self.optimizer.load_state_dict(state["optimizer"])


class ForgetsOptimizer(Means):
    def state_dict(self) -> dict[str, Any]:
        return {"module": super().state_dict()["module"]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["module"])


class PicklesState(Means):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "learner": Path("x")}


class NewParameters(Means):
    def parameters(self) -> Sequence[Tensor]:
        return [p.view_as(p) for p in super().parameters()]


class OtherType(Means):
    def __init__(self, fault: str, module: nn.Module, ways: int, device: Device) -> None:
        super().__init__(fault, module.float(), ways, device)


LEARNERS: dict[str, type[Means]] = {
    cls.__name__: cls
    for cls in (
        Means, AddsGradients, SumsTasks, DropsTerms, MeanLoss, NoGradient, LearnsInLearn, NeverUpdates,
        GlobalChance, MixesTasks, ReadsPlaces, ReadsLabels, RemembersLabels, HidesTransduction,
        BoastsTransduction, LeavesGradients, KeepsGraph, Drifts, NoSteps, TransposedPrediction, ForgetsState,
        ForgetsOptimizer, PicklesState, NewParameters, OtherType,
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FaultyAlgorithm(Algorithm):
    """The nearest class mean, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("Means", "which")

    def train_protocol(self, test: Any) -> Any:
        return {"TrainsNothing": None, "OddProtocol": "5-way"}.get(self.fault, test)

    def build(self, workload: Any, network: Network | None, device: Device) -> Means:
        if getattr(workload.train, "ways", workload.test.ways) != workload.test.ways:
            raise Invalid("faulty: train with the test's ways")
        if network is None and self.fault != "NeedsNoNetwork":
            raise Invalid("faulty: name a network")
        if self.fault == "SwallowsInvalid":
            try:
                module = network.build(workload.facts.input_shape, None)  # type: ignore[union-attr]
            except Invalid:
                module = Headed(nn.Sequential(nn.Flatten(), nn.Linear(16, 6)), 6, None)
        else:
            assert network is not None
            module = network.build(workload.facts.input_shape, None)
        module = module.to(device.torch, device.dtype)
        learner = LEARNERS.get(self.fault, Means)
        return learner(self.fault, module, workload.test.ways, device)


@dataclass(frozen=True, kw_only=True)
class FaultyDataset(TinyClasses):
    """Gaussian classes, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    def describe(self) -> Facts:
        facts = super().describe()
        if self.fault == "odd kind":
            return replace(facts, kind="images")  # type: ignore[arg-type]
        return replace(facts, images={}) if self.fault == "no images" else facts

    def missing(self) -> str | None:
        return {"mute": "", "absent": "it is not here: run `fetch`"}.get(self.fault)

    def load(self, device: Device) -> Source:
        return _FaultySource(self.fault, super().load(device), device)


class _FaultySource(Source):
    loads = 0

    def __init__(self, fault: str, sound: Source, device: Device) -> None:
        self.fault, self.sound, self.device, self.calls = fault, sound, device, 0
        type(self).loads += 1
        self.load = self.loads

    def episodes(self, split: Any, protocol: Any, indices: Sequence[int], seed: int) -> Episodes:
        self.calls += 1
        if self.fault == "any size" and protocol.ways > 20:
            protocol = replace(protocol, ways=3)
        source_split = "test" if self.fault == "one split" else split
        moved = {"moves on": self.calls, "other load": self.load}.get(self.fault, 0)
        asked = range(100, 100 + len(indices)) if self.fault == "slice" and indices[0] else indices
        if self.fault == "no numbers":
            asked = [0] * len(indices)
        seed = 0 if self.fault == "no seed" else seed + moved
        drawn = self.sound.episodes(source_split, protocol, asked, seed)
        support, query = drawn.support, drawn.query
        if self.fault == "float32":
            support = Examples(support.x.float(), support.y)
        if self.fault == "meta device":
            query = Examples(query.x.to("meta"), query.y)
        if self.fault == "global labels":
            support = Examples(support.x, support.y + 1)
        if self.fault == "shared example":
            query = Examples(torch.cat([support.x[:, :1], query.x[:, 1:]], 1), query.y)
        if self.fault == "chance":
            torch.rand(1)
        if self.fault == "views":
            store = vars(self).setdefault("kept", {})
            key = (split, tuple(indices), seed)
            support, query = store.setdefault(key, (support, query))
        numbers = torch.tensor(list(indices))
        return Episodes(support, query, drawn.classes, numbers)

    def batch(self, batches: Any, indices: Sequence[int], seed: int) -> Examples:
        if self.fault == "no batches":
            raise Invalid("none")
        self.calls += 1
        return self.sound.batch(batches, indices, seed + (self.calls if self.fault == "batch" else 0))

    def manifest(self, split: Any, protocol: Any, indices: Sequence[int], seed: int) -> Any:
        told = self.sound.manifest(split, protocol, indices, seed)
        if self.fault == "mute manifest":
            return {name: np.zeros_like(value) for name, value in told.items()}
        return {name: torch.tensor(v) for name, v in told.items()} if self.fault == "tensors" else told


@dataclass(frozen=True, kw_only=True)
class FaultyNetwork(Network):
    """One layer, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        size = int(np.prod(input_shape))
        if self.fault == "refuses":
            raise Invalid("does not fit")
        if self.fault == "crashes":
            raise ValueError("boom")
        layer = nn.Linear(size, 6)
        if self.fault == "own seed":
            torch.manual_seed(0)
            layer = nn.Linear(size, 6)
        features: list[nn.Module] = [nn.Flatten(), layer, nn.Tanh()]
        if self.fault == "running":
            features.append(nn.BatchNorm1d(6))
        if self.fault == "dropout":
            features.append(nn.Dropout())
        if self.fault == "unused":
            features[1] = _Unused(layer)
        width = (outputs or 6) + 1 if self.fault == "narrow" else 6
        if self.fault == "flat":
            return nn.Sequential(*features, nn.Linear(6, outputs or 1))
        if self.fault == "keeps head":
            outputs = outputs or 6
        headed = Headed(nn.Sequential(*features), 6, outputs)
        if self.fault == "narrow":
            headed.head = nn.Linear(6, width)
        return headed


class _Unused(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.spare = layer, nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


@dataclass(frozen=True, kw_only=True)
class FaultyMetric(Metric):
    """Accuracy, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        right = (prediction.argmax(-1) == target).to(prediction.dtype)
        right = right * prediction.isfinite().all(-1)
        if self.fault == "one number":
            return right.mean()
        if self.fault == "upside down":
            return 1 - right.mean(1)
        if self.fault == "over tasks":
            return right.mean(1) - 0.5 * right.mean()
        if self.fault == "order":
            return right[:, 0] + 0.01 * right.mean(1)
        if self.fault == "in place":
            prediction.mul_(2)
        if self.fault == "praises nan":
            return torch.where(prediction.isnan().all(-1).all(-1), 1.0, right.mean(1))
        return right.mean(1)


class FaultyDevice(Device):
    """The CPU, with a fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.turn = fault, 0

    def clock(self) -> float:
        if self.fault == "queued":
            return 1.0
        self.turn -= self.fault == "backwards"
        return self.turn if self.turn else super().clock()

    def average_gradients(self, parameters: Sequence[Tensor], weight: float) -> None:
        for one in parameters:
            if self.fault == "gradients" and one.grad is not None:
                one.grad.mul_(0.5)
            if self.fault == "zeros" and one.grad is None:
                one.grad = torch.zeros_like(one)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        return [] if self.fault == "gather" else super().gather(values)

    def peak_memory(self) -> dict[str, float]:
        return {} if self.fault == "memory" else super().peak_memory()

    def environment(self) -> dict[str, Any]:
        return {"device": torch.device("cpu")} if self.fault == "facts" else super().environment()


@dataclass(frozen=True, kw_only=True)
class FaultyBackend(Backend):
    """The CPU, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    @property
    def world_size(self) -> int:
        return 2 if self.fault == "ranks" else 1

    def available(self) -> str | None:
        return {"mute": "", "absent": "there is no such card"}.get(self.fault)

    def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        return (["true"] if self.fault == "command" else list(argv)), {"OMP_NUM_THREADS": "1"}

    def open(self) -> Device:
        if self.fault == "does not open":
            raise OSError("no card in slot 3")
        return FaultyDevice(self.fault)


@dataclass(frozen=True, kw_only=True)
class FaultyExecutor(Executor):
    """The local executor, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        local = make(load().find("executor", "local").cls)
        if self.fault == "list":
            return iter(list(local.run(jobs)))
        return self._run(local, jobs)

    def _run(self, local: Executor, jobs: Iterable[Job]) -> Iterator[Outcome]:
        if self.fault == "orphans":
            jobs = (replace(job, timeout=None) if job.timeout else job for job in jobs)
            yield from (self._orphaned(local, job) for job in jobs)
            return
        if self.fault == "environment":
            jobs = (replace(job, environment={"METABENCH_CHECK": "no"}) for job in jobs)
        for outcome in local.run(jobs):
            if self.fault == "codes" and outcome.exit_code == 3:
                outcome = replace(outcome, exit_code=0)
            if self.fault == "timed out":
                outcome = replace(outcome, timed_out=False)
            if self.fault != "loses" or outcome.exit_code != -9:
                yield outcome

    def _orphaned(self, local: Executor, job: Job) -> Outcome:
        if job.id != "slow":
            (outcome,) = local.run([job])
            return outcome
        import subprocess
        import time

        with job.log.open("wb") as log:
            process = subprocess.Popen(job.argv, stdout=log, env={**os.environ, **job.environment})
            time.sleep(2)
            process.kill()  # its child lives on
            process.wait()
        return Outcome(job, -9, True, 2.1)


@dataclass(frozen=True, kw_only=True)
class FaultyReport(Report):
    """Names of algorithms in one file, escaped nowhere."""

    name: ClassVar[str] = "faulty"
    suffix: str = setting("html", "of the file")
    fault: str = setting("", "which")

    def write(self, table: Table, folder: Path) -> list[Path]:
        names = [str(row["algorithm"]) for row in table.rows]
        if self.fault == "fails when empty" and not names:
            raise IndexError("no rows")
        if self.fault == "path of a name":
            for name in names:
                if "/" in name and "<" not in name and "|" not in name:
                    (folder / f"{name}.txt").parent.mkdir(exist_ok=True, parents=True)
                    (folder / f"{name}.txt").write_text("x")
        text = {
            "html": "<ul>" + "".join(f"<li title='{n}'>{n}</li>" for n in names) + "</ul>",
            "md": "| name |\n| --- |\n" + "".join(f"| {n} |\n" for n in names),
            "tex": "\n".join(names),
            "csv": "name\n" + "".join(f'"{n}"\n' for n in names),
            "json": '{"names": [NaN]}',
        }[self.suffix]
        path = folder / f"report.{self.suffix}"
        path.write_text(text)
        return [] if self.fault == "tells nothing" else [path]
