"""How fast are metabench's learners beside learn2learn's own loops? One command, one process:

    python benchmarks/head_to_head.py --threads 2

Each line is one whole meta-step (meta-gradient and update of the outer optimizer), in which both sides have
the same network module, weights, tasks and threads, and compute the same: before the clock runs, both
meta-gradients are compared in float64. learn2learn's side is the loop of its examples over its own classes.
Reptile has no class there: its side is the loop of `examples/vision/reptile_miniimagenet.py` (copy the
model, train the copy, move towards it) with plain gradient descent inside, as ours.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click
import torch
from _alternate import Timing, alternate
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Dataset, Episodes, Network, Workload
from metabench import Protocol as TaskProtocol
from metabench.device import Device
from metabench.device.host import processor
from metabench.device.memory import keep_freed_memory
from metabench.plugins import Registry, load
from metabench.settings import make

TOLERANCE = 1e-9  # of the largest entry of the meta-gradient, in float64


@dataclass(frozen=True)
class Contest:
    """One line of the table: an algorithm on a network and its tasks, and its counterpart.

    settings: of both sides; alone: of ours in addition; rival: the name of theirs.
    """

    title: str
    network: str
    algorithm: str
    rival: str
    settings: Mapping[str, Any]
    alone: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.title}, {self.network}"


class Side(Protocol):
    """What is timed of a learner."""

    def parameters(self) -> Sequence[Tensor]: ...

    def learn(self, batch: Episodes, step: int, total: int) -> Tensor: ...

    def update(self, step: int, total: int) -> None: ...


REPTILE_LOOP = "the library's Reptile example"


def contests(inner_steps: int) -> Iterator[Contest]:
    """Every line; inner_steps: on `conv4` (on the sine waves there are always 5, as in the literature)."""
    for network, inner in (
        ("conv4", {"inner_rate": 0.4, "steps": inner_steps}),
        ("mlp", {"inner_rate": 0.01, "steps": 5}),
    ):
        yield Contest("MAML, second order", network, "maml", "l2l-maml", inner)
        yield Contest("MAML, first order", network, "maml", "l2l-maml", {**inner, "first_order": True})
        yield Contest("ANIL", network, "anil", "l2l-anil", inner)
        yield Contest("Meta-SGD", network, "metasgd", "l2l-metasgd", {**inner, "inner_rate": 0.01})
        if network == "conv4":
            yield Contest("ProtoNet", network, "protonet", "l2l-protonet", {}, {"queries": "together"})
        yield Contest("Reptile", network, "reptile", REPTILE_LOOP, {"inner_rate": 0.01, "steps": 5})


class ReptileLoop:
    """The meta-step of learn2learn's Reptile example: `.grad` is φ − the mean of the trained copies."""

    def __init__(self, module: nn.Module, inner_rate: float, steps: int, regression: bool) -> None:
        self.module, self.inner_rate, self.steps = module, inner_rate, steps
        self.optimizer = torch.optim.SGD(module.parameters(), 1.0)
        self.loss: Callable[[Tensor, Tensor], Tensor] = F.mse_loss if regression else F.cross_entropy

    def parameters(self) -> Sequence[Tensor]:
        """The model's."""
        return list(self.module.parameters())

    def learn(self, batch: Episodes, step: int, total: int) -> Tensor:
        """Trains a copy on each task; returns the queries' losses [T]."""
        losses = []
        gradients = [torch.zeros_like(p) for p in self.parameters()]
        for task in range(len(batch.index)):
            learner = copy.deepcopy(self.module)
            inner = torch.optim.SGD(learner.parameters(), lr=self.inner_rate)
            x = torch.cat([batch.support.x[task], batch.query.x[task]])
            y = torch.cat([batch.support.y[task], batch.query.y[task]])
            for _ in range(self.steps):
                inner.zero_grad()
                self.loss(learner(x), y).backward()  # type: ignore[no-untyped-call]  # torch's own
                inner.step()
            with torch.no_grad():
                losses.append(self.loss(learner(batch.query.x[task]), batch.query.y[task]))
            for gradient, trained in zip(gradients, learner.parameters(), strict=True):
                gradient.sub_(trained.data)
        for parameter, gradient in zip(self.parameters(), gradients, strict=True):
            parameter.grad = gradient.mul_(1.0 / len(losses)).add_(parameter.data)
        return torch.stack(losses)

    def update(self, step: int, total: int) -> None:
        """One step of plain descent, as the example takes it."""
        self.optimizer.step()


@dataclass(frozen=True)
class Arena:
    """What both sides of a contest share: tasks and how they are made into learners."""

    registry: Registry
    tasks: int
    images: TaskProtocol

    def sides(self, contest: Contest, device: Device) -> tuple[Side, Side, Episodes]:
        """Both learners with equal weights, and the tasks."""
        protocol = self.images if contest.network == "conv4" else TaskProtocol(ways=1, shots=10, queries=10)
        dataset: Dataset = self._make("dataset", "glyphs" if contest.network == "conv4" else "sinusoid")
        batch = dataset.load(device).episodes("train", protocol, range(self.tasks), seed=0)
        workload = Workload(dataset.describe(), protocol, protocol, steps=10**6, tasks=self.tasks)
        network: Network = self._make("network", contest.network)
        ours = self._learner(
            contest.algorithm, {**contest.settings, **contest.alone}, workload, network, device
        )
        if contest.rival == REPTILE_LOOP:
            torch.manual_seed(1)
            module = network.build(workload.facts.input_shape, workload.outputs)
            module.to(device.torch, device.dtype)
            theirs: Side = ReptileLoop(module, **contest.settings, regression=contest.network == "mlp")
        else:
            theirs = self._learner(contest.rival, contest.settings, workload, network, device)
        return ours, theirs, batch

    def _learner(
        self, name: str, settings: Mapping[str, Any], workload: Workload, network: Network, device: Device
    ) -> Side:
        algorithm = self._make("algorithm", name, settings)
        torch.manual_seed(1)
        learner: Side = algorithm.build(workload, network, device)
        return learner

    def _make(self, kind: str, name: str, settings: Mapping[str, Any] | None = None) -> Any:
        return make(self.registry.find(kind, name).cls, settings)


def disagreement(ours: Side, theirs: Side, batch: Episodes) -> float:
    """The largest difference of the meta-gradients, as a share of the largest entry."""
    ours.learn(batch, 0, 1)
    theirs.learn(batch, 0, 1)
    pairs = [(a.grad, b.grad) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)]
    scale = max(float(b.abs().max()) for _, b in pairs if b is not None)
    return max(float((a - b).abs().max()) for a, b in pairs if a is not None and b is not None) / scale


def measure(contest: Contest, arena: Arena, device: str, blocks: int, seconds: float) -> tuple[float, Timing]:
    """How far the gradients are apart in float64, and the timing in float32."""
    apart = disagreement(*arena.sides(contest, Device(device, torch.float64)))
    if apart > TOLERANCE:
        raise click.ClickException(f"{contest}: the meta-gradients differ by {apart:.1e}; nothing is timed")
    ours, theirs, batch = arena.sides(contest, Device(device))

    def step_of(side: Side) -> Callable[[], None]:
        def step() -> None:
            side.learn(batch, 0, 10**6)
            side.update(0, 10**6)

        return step

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    return apart, alternate(step_of(ours), step_of(theirs), blocks, seconds, wait)


@click.command()
@click.option("--threads", default=1, show_default=True, help="Threads of torch, for both sides.")
@click.option("--tasks", default=32, show_default=True, help="Tasks of a meta-step.")
@click.option("--ways", default=5, show_default=True, help="Classes of an image task.")
@click.option("--shots", default=1, show_default=True, help="Support images of a class.")
@click.option("--queries", default=1, show_default=True, help="Query images of a class.")
@click.option("--inner-steps", default=1, show_default=True, help="Inner steps on conv4.")
@click.option("--blocks", default=11, show_default=True, help="Pairs of blocks.")
@click.option("--block-seconds", default=1.0, show_default=True, help="Length of a block.")
@click.option("--device", default="cpu", show_default=True, help="A torch device.")
@click.option("--only", default="", help="Only lines with this text, e.g. 'MAML' or 'mlp'.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Also write the values here.")
def command(
    threads: int,
    tasks: int,
    ways: int,
    shots: int,
    queries: int,
    inner_steps: int,
    blocks: int,
    block_seconds: float,
    device: str,
    only: str,
    target: Path | None,
) -> None:
    """Times metabench's learners and learn2learn's, block by block in turns."""
    registry = load()
    absent = registry.find("algorithm", "l2l-maml").cls.unavailable()
    if absent:
        raise click.ClickException(absent)
    torch.set_num_threads(threads)
    keep_freed_memory()
    where = processor() if device == "cpu" else torch.cuda.get_device_name(device)
    click.echo(f"{where}; torch {torch.__version__}; {threads} threads; {tasks} tasks a meta-step; "
               f"images {ways}-way {shots}-shot, {queries} queries, {inner_steps} inner steps")  # fmt: skip
    click.echo(f"{'':29}{'ours':>12}{'learn2learn':>13}{'times faster':>14}  middle half    gradients apart")
    arena = Arena(registry, tasks, TaskProtocol(ways=ways, shots=shots, queries=queries))
    told = []
    for contest in contests(inner_steps):
        if only not in str(contest):
            continue
        apart, timing = measure(contest, arena, device, blocks, block_seconds)
        low, high = timing.spread
        per_second = [tasks / sorted(one)[len(one) // 2] for one in (timing.ours, timing.theirs)]
        click.echo(f"{contest!s:29}{per_second[0]:8.0f} t/s{per_second[1]:9.0f} t/s{timing.ratio:13.2f}×"
                   f"  {low:5.2f} – {high:5.2f}  {apart:.0e}")  # fmt: skip
        told.append({"title": contest.title, "network": contest.network, "ratio": timing.ratio,
                     "quartiles": [low, high], "ratios": timing.ratios, "apart": apart,
                     "seconds": {"ours": timing.ours, "theirs": timing.theirs}})  # fmt: skip
    if target is not None:
        setup = {"processor": where, "torch": torch.__version__, "threads": threads, "tasks": tasks,
                 "ways": ways, "shots": shots, "queries": queries, "inner_steps": inner_steps}  # fmt: skip
        target.write_text(json.dumps({"setup": setup, "lines": told}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command()
