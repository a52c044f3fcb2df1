"""Plain data that the rooms hand to each other: cells, jobs and results. No torch here."""

from metabench.records.cell import (
    COMPONENTS,
    SPLITS,
    Batches,
    Budget,
    Cell,
    Evaluation,
    Facts,
    Protocol,
    Spec,
    Split,
    Status,
    Workload,
    digest_of,
    suite_folder,
)
from metabench.records.job import Job, Outcome
from metabench.records.result import SCHEMA, Block, Result, Scores, Training, Validation

__all__ = [
    "COMPONENTS",
    "SCHEMA",
    "SPLITS",
    "Batches",
    "Block",
    "Budget",
    "Cell",
    "Evaluation",
    "Facts",
    "Job",
    "Outcome",
    "Protocol",
    "Result",
    "Scores",
    "Spec",
    "Split",
    "Status",
    "Training",
    "Validation",
    "Workload",
    "digest_of",
    "suite_folder",
]
