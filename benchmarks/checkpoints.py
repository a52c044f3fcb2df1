"""What checkpoints cost: the fraction of a cell's training time that writing them takes.

    python benchmarks/checkpoints.py [--width 64] [--steps 200] [--seconds 120]

Trains MAML and ProtoNet on `conv4` in this process, writes a checkpoint after every block, and prints how
long one takes, as a fraction of the time between two at the default of two minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

import torch

from metabench import Budget, Cell, Evaluation, Protocol, Spec
from metabench.device import Device
from metabench.plugins import load
from metabench.records.job import CHECKPOINT_SECONDS
from metabench.worker.cell_run import build
from metabench.worker.checkpoint import Checkpoint, CheckpointFile
from metabench.worker.training import train


class Timed(CheckpointFile):
    """Notes how long each checkpoint took, and its size."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, {"cell": "benchmark"}, 0.0)
        self.costs: list[float] = []

    def write(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint and note its time."""
        super().write(checkpoint)
        self.costs.append(self.cost_seconds)


def main() -> None:
    """Print one line for each algorithm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=CHECKPOINT_SECONDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for algorithm in ("maml", "protonet"):
        with tempfile.TemporaryDirectory() as folder:
            file = Timed(Path(folder) / "checkpoint.safetensors")
            seconds = trained(algorithm, options.width, options.steps, file)
            size = file.path.stat().st_size / 2**20
        cost = median(file.costs)
        print(
            f"{algorithm}: {size:.1f} MiB, {1e3 * cost:.1f} ms a checkpoint (median of {len(file.costs)}), "
            f"{100 * cost / options.seconds:.4f} % of {options.seconds:g} s; training took {seconds:.1f} s"
        )


def trained(algorithm: str, width: int, steps: int, file: CheckpointFile) -> float:
    """Train with a checkpoint after every block; return the seconds of the training clock."""
    registry = load()
    specs = {
        kind: Spec.of(registry.find(kind, name).cls, settings)
        for kind, name, settings in (
            ("algorithm", algorithm, {}),
            ("network", "conv4", {"width": width}),
            ("dataset", "glyphs", {}),
        )
    }
    protocol = Protocol(5, 1, 5)
    cell = Cell(
        suite="checkpoints", suite_version=1, **specs, test=protocol, train=protocol, budget=Budget(steps, 4),
        evaluation=Evaluation(4, metric="accuracy"), backend=Spec("cpu"), seed=0, plugins={},
    )  # fmt: skip
    run = build(cell, registry.make, Device())
    run.checkpoint = file
    train(run)
    return run.training.seconds


if __name__ == "__main__":
    main()
