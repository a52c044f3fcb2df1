"""How much faster the engine is than the loop over tasks that people use today, on this machine.

    python benchmarks/speed.py                        every row, 2 threads, some minutes
    python benchmarks/speed.py --quick --threads 1    seconds a row, to see that it works
    python benchmarks/speed.py --rows sine-maml,conv-1shot --compiled

One process alternates blocks of both at the same mathematics, weights, tasks and threads, and turns their
order round from pair to pair; a row is the median of the pairs' ratios with their quartiles. Exit status
1 where a row is below what is wanted. The loop is learn2learn's own (`clone`, `adapt`,
`backward` for each task) where it is installed, else a plain one that does the same operations.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil
import torch
from _alternate import alternate
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Episodes, Examples, Facts, Learner, Network, Protocol, Workload
from metabench.allocation import keep_freed_memory
from metabench.cost import counter
from metabench.device import Device
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.algorithms.protonet import ProtoNet
from metabench_plugins.algorithms.reptile import Reptile
from metabench_plugins.learn2learn.library import learn2learn
from metabench_plugins.networks.conv4 import Conv4
from metabench_plugins.networks.mlp import Mlp
from metabench_plugins.networks.resnet12 import ResNet12

WAYS = 5
MEMORY_LIMIT_MIB = 250
Step = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One line of the table: what is learned, and the ratios wanted at least and aimed at."""

    title: str
    algorithm: str
    network: str
    shots: int
    steps: int
    first_order: bool
    at_least: float
    aim: float
    tasks: int = 32

    @property
    def regression(self) -> bool:
        """Whether the tasks are sinusoids; else they are images of five classes."""
        return self.network == "mlp"

    @property
    def rate(self) -> float:
        """The inner rate, small enough for a stable repetition."""
        return 0.01 if self.regression else 0.1


ROWS = {
    "sine-maml": Row("sine MLP, 5 steps, second order", "maml", "mlp", 10, 5, False, 16, 30),
    "sine-reptile": Row("sine MLP, Reptile", "reptile", "mlp", 10, 5, True, 18, 30),
    "conv-1shot": Row("Conv4 5-way 1-shot, 1 step, second order", "maml", "conv4", 1, 1, False, 1.7, 2.5),
    "conv-1shot-first": Row(
        "Conv4 5-way 1-shot, 5 steps, first order", "maml", "conv4", 1, 5, True, 2.0, 2.8
    ),
    "conv-5shot": Row("Conv4 5-way 5-shot, 1 step, second order", "maml", "conv4", 5, 1, False, 1.0, 1.5),
    "protonet": Row(
        "ProtoNet, 5-way 1-shot, per-task statistics", "protonet", "conv4", 1, 0, False, 1.0, 1.5
    ),
    "skips": Row("a stranger's network, skips, second order", "maml", "skips", 1, 1, False, 1.0, 1.5),
    "resnet12": Row("ResNet-12 (16), 1-shot, second order", "maml", "resnet12", 1, 1, False, 1.0, 1.5, 8),
}


class Skips(nn.Module):
    """A third party's residual network, as such code is written."""

    def __init__(self, channels: int, outputs: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, height, width] → [n, outputs]."""
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = x + F.relu(self.norms[0](self.first(x)))
        x = x + F.relu(self.norms[1](self.second(x)))
        y: Tensor = self.head(x.mean((2, 3)))
        return y


@dataclass(frozen=True, kw_only=True)
class SkipNetwork(Network):
    """`Skips` as a network of a cell."""

    name: ClassVar[str] = "skips"

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """The module for images of so many channels."""
        assert outputs is not None
        return Skips(input_shape[0], outputs)


NETWORKS: dict[str, Network] = {
    "mlp": Mlp(),
    "conv4": Conv4(),
    "resnet12": ResNet12(width=16),
    "skips": SkipNetwork(),
}


def main() -> int:
    """Reads the options, prints one line a row, and the JSON of all of them with --json.

    Returns 1 where a row is not what is wanted, else 0.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="a few short blocks")
    parser.add_argument("--compiled", action="store_true", help="ours compiled as a whole (MAML rows)")
    parser.add_argument("--memory", action="store_true", help="check the peak memory as well")
    parser.add_argument("--json", action="store_true", help="end with all figures as one JSON line")
    parser.add_argument("--print-peak", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    if given.print_peak:
        print_peak()
        return 0
    unknown = [name for name in given.rows.split(",") if name not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are: {', '.join(ROWS)}")
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {given.threads} threads, "
        f"MAML's loop: {'learn2learn' if has_learn2learn() else 'plain, of the same operations'}"
    )
    told = [measured(name, given.quick, given.compiled) for name in given.rows.split(",")]
    if given.memory:
        told.append(memory(given.threads))
    if given.json:
        print(json.dumps(told))
    return 0 if all(one["ok"] for one in told) else 1


def measured(name: str, quick: bool, compiled: bool) -> dict[str, Any]:
    """Alternates blocks of ours and of the loop; prints and returns the figures."""
    row = ROWS[name]
    ours, loop = prepared(row, compiled)
    flops = flops_of(row)
    blocks, seconds = (3, 0.1) if quick else (31, 0.4)
    peaks: list[float] = []
    timing = alternate(ours, loop, blocks, seconds, between=lambda: peaks.append(matrix_peak()))
    low, high = timing.spread
    mine, peak = statistics.median(timing.ours), statistics.median(peaks)
    share = flops / mine / peak
    ok = timing.ratio >= row.at_least
    print(
        f"{row.title:44s} {timing.ratio:6.2f}× [{low:.2f}, {high:.2f}] of {blocks:3d} pairs | wanted "
        f"{row.at_least:g}×, aim {row.aim:g}×: {'ok' if ok else 'BELOW'} | {1e3 * mine:7.2f} ms, "
        f"{flops / 1e9:.2f} GFLOP a meta-step, {share:.0%} of {peak / 1e9:.0f} GFLOP/s",
        flush=True,
    )
    return {"row": name, "ratio": timing.ratio, "quartiles": [low, high], "blocks": blocks, "flops": flops,
            "seconds": mine, "peak_flops_per_second": peak, "ok": ok,
            "compiled": compiled and row.algorithm == "maml"}  # fmt: skip


def prepared(row: Row, compiled: bool = False) -> tuple[Step, Step]:
    """One meta-step of ours and one of the loop, on equal weights and tasks, checked to be equal."""
    learner = learner_of(row, compiled)
    episodes = episodes_of(row)
    module = copy.deepcopy(network_of(learner))
    ours: Step = lambda: learner.learn(episodes, 0, 10)  # noqa: E731  # two closures over the same episodes
    loop: Step = lambda: loop_of(row)(module, episodes, row)  # noqa: E731
    ours()
    loop()
    wanted = [p.grad for p in module.parameters() if p.grad is not None]
    found = [p.grad for p in learner.parameters() if p.grad is not None]
    if row.algorithm == "protonet":  # its loop has no head, so no gradient for it
        found = found[: len(wanted)]
    largest = max(float(w.abs().max()) for w in wanted)
    error = max(float((f - w).abs().max()) for f, w in zip(found, wanted, strict=True)) / largest
    if error > 2e-3:  # single precision, sums in another order
        raise SystemExit(
            f"{row.title}: the two differ by {error:.1e} of the largest entry; not the same work"
        )
    return ours, loop


def learner_of(row: Row, compiled: bool = False) -> Learner:
    """The learner that the harness would build."""
    sine = row.regression
    facts = Facts("regression", (1,), 1) if sine else Facts("classification", (1, 28, 28))
    protocol = Protocol(1, row.shots, row.shots) if sine else Protocol(WAYS, row.shots, row.shots)
    workload = Workload(facts, protocol, protocol, 10, row.tasks)
    execution = "compiled" if compiled else "eager"
    algorithm = {
        "maml": lambda: Maml(
            inner_rate=row.rate, steps=row.steps, first_order=row.first_order, execution=execution
        ),
        "reptile": lambda: Reptile(inner_rate=row.rate, steps=row.steps),
        "protonet": lambda: ProtoNet(
            queries="joined"
        ),  # one batch of support and queries, as the loop has it
    }[row.algorithm]()
    torch.manual_seed(0)
    return algorithm.build(workload, NETWORKS[row.network], Device())


def network_of(learner: Any) -> nn.Module:
    """The module that a learner lifts over tasks."""
    module: nn.Module = (learner.network if hasattr(learner, "network") else learner.lifted).module
    return module


def episodes_of(row: Row) -> Episodes:
    """Sinusoids, or noisy images of random classes."""
    chance = torch.Generator().manual_seed(1)
    if row.regression:
        amplitude = torch.rand(row.tasks, 1, 1, generator=chance) * 4.9 + 0.1
        phase = torch.rand(row.tasks, 1, 1, generator=chance) * torch.pi
        x = torch.rand(row.tasks, 2 * row.shots, 1, generator=chance) * 10 - 5
        y = amplitude * torch.sin(x - phase)
        n = row.shots
        support, query = Examples(x[:, :n].contiguous(), y[:, :n].contiguous()), Examples(x[:, n:], y[:, n:])
        query = Examples(query.x.contiguous(), query.y.contiguous())
    else:
        y = torch.arange(WAYS).repeat_interleave(row.shots).expand(row.tasks, -1).contiguous()
        means = torch.randn(row.tasks, WAYS, 1, 28, 28, generator=chance).repeat_interleave(row.shots, 1)
        support, query = (
            Examples(means + 0.5 * torch.randn(means.shape, generator=chance), y.clone()) for _ in range(2)
        )
    return Episodes(support, query, torch.zeros(row.tasks, WAYS), torch.arange(row.tasks))


def loop_of(row: Row) -> Callable[[nn.Module, Episodes, Row], None]:
    """The loop over tasks that does a row's work."""
    if row.algorithm == "maml":
        return learn2learn_maml if has_learn2learn() else plain_maml
    return plain_reptile if row.algorithm == "reptile" else plain_protonet


def has_learn2learn() -> bool:
    """Whether learn2learn is installed."""
    return importlib.util.find_spec("learn2learn") is not None


def loss_of(prediction: Tensor, y: Tensor) -> Tensor:
    """Squared error or cross entropy."""
    return F.mse_loss(prediction, y) if y.is_floating_point() else F.cross_entropy(prediction, y)


def tasks_of(episodes: Episodes) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Each task's support x, y and query x, y."""
    yield from zip(*episodes.support, *episodes.query, strict=True)


def learn2learn_maml(module: nn.Module, episodes: Episodes, row: Row) -> None:
    """The loop of learn2learn's examples; it wraps the module itself, so gradients land in it."""
    maml = learn2learn().algorithms.MAML(module, lr=row.rate, first_order=row.first_order)
    module.zero_grad()
    for xs, ys, xq, yq in tasks_of(episodes):
        learner = maml.clone()
        for _ in range(row.steps):
            learner.adapt(loss_of(learner(xs), ys))
        error = loss_of(learner(xq), yq)
        error.backward()
        error.item()
    averaged(module, row.tasks)


def plain_maml(module: nn.Module, episodes: Episodes, row: Row) -> None:
    """The same operations as learn2learn's loop: clone the module, step its weights, backward per task."""
    module.zero_grad()
    for xs, ys, xq, yq in tasks_of(episodes):
        learner = cloned(module)
        for _ in range(row.steps):
            slots = [(m, n, p) for m in learner.modules() for n, p in m._parameters.items() if p is not None]
            second = not row.first_order
            found = torch.autograd.grad(
                loss_of(learner(xs), ys), [p for *_, p in slots], retain_graph=second, create_graph=second
            )
            for (owner, name, p), slope in zip(slots, found, strict=True):
                owner._parameters[name] = p - row.rate * slope  # type: ignore[assignment]  # as learn2learn
        error = loss_of(learner(xq), yq)
        error.backward()  # type: ignore[no-untyped-call]  # torch's own
        error.item()
    averaged(module, row.tasks)


def cloned(module: nn.Module) -> nn.Module:
    """A copy whose parameters are clones with a graph to the originals."""
    copied = module.__new__(type(module))
    copied.__dict__ = module.__dict__.copy()
    copied._parameters = {n: None if p is None else p.clone() for n, p in module._parameters.items()}  # type: ignore[misc]
    copied._modules = {n: None if m is None else cloned(m) for n, m in module._modules.items()}
    return copied


def averaged(module: nn.Module, tasks: int) -> None:
    """Sums over tasks become means."""
    for p in module.parameters():
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        p.grad.mul_(1 / tasks)


def plain_reptile(module: nn.Module, episodes: Episodes, row: Row) -> None:
    """Reptile as its users write it: copy the network, train it, add up the differences."""
    moved = [torch.zeros_like(p) for p in module.parameters()]
    for xs, ys, xq, yq in tasks_of(episodes):
        learner = copy.deepcopy(module)
        optimizer = torch.optim.SGD(learner.parameters(), row.rate)
        x, y = torch.cat([xs, xq]), torch.cat([ys, yq])
        for _ in range(row.steps):
            optimizer.zero_grad()
            loss_of(learner(x), y).backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
        with torch.no_grad():
            loss_of(learner(xq), yq).item()
            for total, p, q in zip(moved, module.parameters(), learner.parameters(), strict=True):
                total.add_(p - q)
    for total, p in zip(moved, module.parameters(), strict=True):
        p.grad = total / row.tasks


def plain_protonet(module: nn.Module, episodes: Episodes, row: Row) -> None:
    """One task after the other: embed support and queries, class means, distances, backward."""
    module.zero_grad()
    embed: Any = module.features
    for xs, ys, xq, yq in tasks_of(episodes):
        n = len(xs)
        features = embed(torch.cat([xs, xq]))
        means = torch.stack([features[:n][ys == way].mean(0) for way in range(WAYS)])
        distance = (features[n:, None] - means).square().sum(2)
        error = F.cross_entropy(-distance, yq)
        error.backward()  # type: ignore[no-untyped-call]  # torch's own
        error.item()
    averaged(module, row.tasks)


def seconds_of(step: Step, repeats: int = 1) -> float:
    """Wall seconds of one step, as the mean of so many."""
    begin = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - begin) / repeats


def matrix_peak(side: int = 1024) -> float:
    """FLOP/s of this machine's own matrix product, at this moment."""
    a = torch.ones(side, side)
    torch.mm(a, a)
    return 2 * side**3 / min(seconds_of(lambda: torch.mm(a, a)) for _ in range(3))


def flops_of(row: Row) -> float:
    """FLOPs of a meta-step's convolutions and matrix products, counted on the operations as they run."""
    learner, episodes = learner_of(row), episodes_of(row)
    with counter() as counted:
        learner.learn(episodes, 0, 10)
    return float(counted.get_total_flops())


def memory(threads: int) -> dict[str, Any]:
    """Peak resident memory over the base of 32 tasks, 5-way 1-shot, 5 second-order steps."""
    argv = [sys.executable, __file__, "--print-peak", "--threads", str(threads)]
    over = int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout) / 2**20
    verdict = "ok" if over < MEMORY_LIMIT_MIB else "ABOVE"
    print(
        f"peak memory of 32 tasks 5-way 1-shot, 5 second-order steps: {over:.0f} MiB over the base, "
        f"wanted below {MEMORY_LIMIT_MIB}: {verdict}"
    )
    return {"row": "memory", "mib_over_base": over, "ok": over < MEMORY_LIMIT_MIB}


def print_peak() -> None:
    """In a process of its own: prints by how many bytes meta-steps raise the peak over what was resident."""
    row = Row("", "maml", "conv4", 1, 5, False, 0, 0)
    learner, episodes = learner_of(row), episodes_of(row)
    base = psutil.Process().memory_info().rss
    for _ in range(3):
        learner.learn(episodes, 0, 10)
    print(peak_bytes() - base)


def peak_bytes() -> int:
    """The most that this process has had resident. Linux counts a parent's peak into getrusage: not used."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found is not None
        return int(found[1]) * 1024
    information = psutil.Process().memory_info()
    if hasattr(information, "peak_wset"):
        return int(information.peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if psutil.MACOS else 1024)


if __name__ == "__main__":
    sys.exit(main())
