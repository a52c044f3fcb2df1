"""A small suite of sine waves that really runs, in seconds."""

from pathlib import Path

import metabench
from metabench import Cell
from metabench.plugins import load
from metabench.suite import read

WAVES = """
name = "waves"
version = 1
title = "A few steps of sine waves"

[[cells]]
algorithm = "maml"
network = "mlp"
dataset = "sinusoid"
test = {ways = 1, shots = 5, queries = 5}
budget = {steps = 20, tasks = 4, validate_every = 10}
evaluation = {tasks = 40}
backend = {name = "cpu", threads = 1}
seeds = [0]
"""


def waves_cell(folder: Path) -> Cell:
    """The suite's only cell; folder: where its file is written."""
    (cell,) = read(load(), str(_written(folder))).cells
    return cell


def run_waves(folder: Path) -> Path:
    """The file of the result that a run of it leaves in `folder`."""
    metabench.run(str(_written(folder)), results=str(folder / "results"), quiet=True)
    (path,) = (folder / "results" / "waves-v1").glob("*.json")
    return path


def _written(folder: Path) -> Path:
    path = folder / "waves.toml"
    path.write_text(WAVES)
    return path
