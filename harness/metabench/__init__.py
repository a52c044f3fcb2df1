"""metabench: a plugin-based benchmarking harness for meta-learning.

    metabench run quick              on the command line
    metabench.run("quick")           in Python: the same, as a pandas DataFrame

A plugin needs only the names below, `metabench.engine` and `metabench.learning` for learners, and
`metabench.data` for data sets. Importing this package does not import torch.
"""

from typing import TYPE_CHECKING, Any

from metabench.contracts import (
    CONTRACT_VERSION,
    Algorithm,
    Backend,
    Component,
    Dataset,
    Episodes,
    Examples,
    Executor,
    Learner,
    LoggedRun,
    Logger,
    Metric,
    Network,
    Report,
    Source,
)
from metabench.errors import (
    DataError,
    Diverged,
    Invalid,
    MetabenchError,
    PluginError,
    RequestError,
    SettingError,
    Skip,
    StoreError,
    SuiteError,
    UnknownComponent,
)
from metabench.hookspecs import hookimpl
from metabench.presets import Preset
from metabench.records.cell import Budget, Cell, Evaluation, Facts, Spec, Split, Workload
from metabench.records.protocol import Batches, Protocol, UnevenProtocol, VariedProtocol
from metabench.records.report_content import ReportContent
from metabench.records.result import Result
from metabench.settings import REQUIRED, setting

if TYPE_CHECKING:
    import pandas as pd

    from metabench.device.device import Device
    from metabench.results.table import Results

__version__ = "0.1.0"

__all__ = [
    "CONTRACT_VERSION",
    "REQUIRED",
    "Algorithm",
    "Backend",
    "Batches",
    "Budget",
    "Cell",
    "Component",
    "DataError",
    "Dataset",
    "Device",
    "Diverged",
    "Episodes",
    "Evaluation",
    "Examples",
    "Executor",
    "Facts",
    "Invalid",
    "Learner",
    "LoggedRun",
    "Logger",
    "MetabenchError",
    "Metric",
    "Network",
    "PluginError",
    "Preset",
    "Protocol",
    "Report",
    "ReportContent",
    "RequestError",
    "Result",
    "Results",
    "SettingError",
    "Skip",
    "Source",
    "Spec",
    "Split",
    "StoreError",
    "SuiteError",
    "UnevenProtocol",
    "UnknownComponent",
    "VariedProtocol",
    "Workload",
    "hookimpl",
    "run",
    "setting",
]


def run(suite: str | None = None, **options: Any) -> "pd.DataFrame":
    """Run a suite (a name or a path) as `metabench run` does; return one row per result.

    Without a suite: run(algorithms=["maml:inner_rate=0.4", "protonet"], networks="conv4", datasets="glyphs",
    test="5w1s", steps=500, seeds=[0, 1]); see `metabench.api.arguments_of`.
    Results and reports are stored as by the command; its warnings are Python's. options: those of
    `metabench.runner.make_plan`, e.g. only=["algorithm=maml"], seeds=[0, 1], results="results/local", and
    quiet=True for no progress.
    """
    from metabench import api  # what it needs beyond this package is imported when something runs

    return api.run(suite, **options)


def __getattr__(name: str) -> Any:
    """Load names that need torch or pandas when they are asked for."""
    if name == "Device":
        from metabench.device.device import Device

        return Device
    if name == "Results":
        from metabench.results.table import Results

        return Results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
