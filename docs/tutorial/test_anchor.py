"""The package's components keep metabench's contract."""

from metabench_anchor.algorithm import Anchor
from metabench_anchor.dataset import Ripples

from metabench.testing import check_dataset, check_learner


def test_anchor() -> None:
    check_learner(Anchor())


def test_ripples() -> None:
    check_dataset(Ripples())
