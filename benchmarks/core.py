"""What the harness itself costs: start-up of commands, of a cell, and the loop's own share of a step.

    python benchmarks/core.py

Prints each figure as a ratio to `import torch` measured in the same run, beside the bound it should keep.
Run it on a machine that is quiet.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUITE = """
name = "overhead"
version = 1
[defaults]
test = {ways = 1, shots = 10, queries = 10}
network = "mlp"
dataset = "sinusoid"
algorithm = "maml"
evaluation = {tasks = 100}
[[cells]]
budget = {steps = 1000, tasks = 25}
backend = {name = "cpu", threads = 1}
[[cells]]
budget = {steps = 1000, tasks = 25}
backend = {name = "cpu-ranks", ranks = 2, threads = 1}
"""

BARE = {
    "cpu": ["-c", "import torch"],
    "cpu-ranks": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "bare.py"],
}


def main() -> None:
    """Measures and prints every figure."""
    torch = seconds(["-c", "import torch"])
    print(f"import torch: {torch:.2f} s (median of 5)")
    show = "{:<34} {:6.2f} s   {:5.2f} × import torch   wanted: {}"
    for arguments, wanted in (
        (["--help"], "< 0.25 ×"),
        (["list"], "≤ import torch + 1 s"),
        (["report", "--help"], "< 0.25 ×"),
    ):
        seconds_taken = seconds(["-m", "metabench.cli", *arguments])
        print(show.format("metabench " + " ".join(arguments), seconds_taken, seconds_taken / torch, wanted))
    with tempfile.TemporaryDirectory() as scratch:
        cells(Path(scratch))


def cells(folder: Path) -> None:
    """What a cell costs beyond its measured parts, and the loop's own share of a training step."""
    (folder / "overhead.toml").write_text(SUITE)
    (folder / "bare.py").write_text("import torch\n")
    run = [sys.executable, "-m", "metabench.cli", "run", "overhead.toml", "--quiet", "--rerun"]
    beyond: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    for _ in range(3):
        subprocess.run(run, cwd=folder, check=True)
        for path in (folder / "results/local/overhead-v1").glob("*.json"):
            result = json.loads(path.read_text())
            backend = result["cell"]["backend"]["name"]
            measured = result["setup"]["data"] + result["setup"]["build"] + result["training"]["seconds"]
            measured += result["training"]["validation_seconds"] + result["scores"]["seconds"]
            beyond.setdefault(backend, []).append(result["wall_seconds"] - measured)
            shares.setdefault(backend, []).append(own_share(result["training"]["blocks"]))
    for backend, values in beyond.items():
        bare = seconds(BARE[backend], cwd=folder)
        extra = statistics.median(values) - bare
        print(f"{backend}: a cell costs {extra:+.2f} s beyond its measured parts and a bare import torch "
              f"({bare:.2f} s) under the same launcher; wanted: ≤ 1 s")  # fmt: skip
    share = statistics.median(shares["cpu"])
    print(f"the loop's own share of a sinusoid step: {share:.1%}; wanted: < 3 %")


def own_share(blocks: list[dict[str, float]]) -> float:
    """Everything but sampling, the learner's own work and communication, of all blocks' time."""
    named = sum(b["sampling"] + b["learning"] + b["updating"] + b["communication"] for b in blocks)
    return 1 - named / sum(b["seconds"] for b in blocks)


def seconds(arguments: list[str], cwd: Path | None = None, times: int = 5) -> float:
    """Median wall seconds of `python ARGUMENTS`, after one run that warms the file cache."""
    seconds_taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=cwd)
        seconds_taken.append(time.perf_counter() - start)
    return statistics.median(seconds_taken[1:])


if __name__ == "__main__":
    main()
