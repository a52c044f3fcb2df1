"""Lake's runs as a source: official tasks, which no seed changes."""

from collections.abc import Sequence

import numpy as np

from metabench import Examples, Invalid, Protocol, Split
from metabench.data import Drawn, TensorSource
from metabench.records import Batches
from metabench_plugins.datasets._lake_list import RUNS, WAYS, characters, first_row, runs


class LakeRuns(TensorSource):
    """The 20 runs in their order; of fewer ways than 20 a task has the first characters of its run."""

    def draw(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Drawn:
        """Return the runs of these numbers; raises Invalid beyond the last, or for other shots or queries."""
        if protocol.ways > WAYS or (protocol.shots, protocol.queries) != (1, 1):
            raise Invalid(
                f"lake's runs must be {WAYS}-way 1-shot tasks with one query a class, got {protocol} with "
                f"{protocol.queries} queries"
            )
        beyond = [number for number in indices if not 0 <= number < RUNS]
        if beyond:
            raise Invalid(f"lake has {RUNS} runs, 0 to {RUNS - 1}, got number {beyond[0]}")
        names = [runs()[number][1][: protocol.ways] for number in indices]
        classes = [[characters().index(name) for name in run] for run in names]
        support = [
            [first_row(number, name) for name in run] for number, run in zip(indices, names, strict=True)
        ]
        rows = np.asarray(support, dtype=np.int64)
        return Drawn(np.asarray(classes, dtype=np.int64), rows, rows + 1)

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        """Raise Invalid: the runs are there to be scored."""
        raise Invalid("lake has test tasks only: train on another data set, and name lake as test_dataset")
