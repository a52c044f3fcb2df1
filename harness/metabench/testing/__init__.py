"""Checks that a component keeps its contract, one line per kind, and tiny components to test it with.

    from metabench.testing import check_learner

    def test_contract() -> None:
        check_learner(MyMethod())

Every check raises `ContractError`, an AssertionError whose text names the component, what is wrong and
what to do. Where a component cannot be used on this machine (absent data, hardware or library) it raises
`unittest.SkipTest` with the reason, which pytest and unittest show as a skip. All built-ins pass these
same checks.
"""

from metabench.testing.backends import check_backend
from metabench.testing.contract_error import ContractError
from metabench.testing.datasets import check_dataset
from metabench.testing.executors import check_executor
from metabench.testing.fakes import (
    CLASSIFICATION,
    REGRESSION,
    TinyClasses,
    TinyCurves,
    TinyNetwork,
    tiny_results,
)
from metabench.testing.learners import check_learner
from metabench.testing.loggers import check_logger
from metabench.testing.metrics import check_metric
from metabench.testing.networks import check_network
from metabench.testing.predictions import check_predictions, example_tasks
from metabench.testing.pretended_device import pretend_device
from metabench.testing.reports import check_report

__all__ = [
    "CLASSIFICATION",
    "REGRESSION",
    "ContractError",
    "TinyClasses",
    "TinyCurves",
    "TinyNetwork",
    "check_backend",
    "check_dataset",
    "check_executor",
    "check_learner",
    "check_logger",
    "check_metric",
    "check_network",
    "check_predictions",
    "check_report",
    "example_tasks",
    "pretend_device",
    "tiny_results",
]
