"""Plain data that the rooms hand to each other: cells, jobs and results. No torch here."""

from metabench.records.cell import (
    SPLITS,
    STATUSES,
    Batches,
    Budget,
    Cell,
    Evaluation,
    Facts,
    Protocol,
    Spec,
    Split,
    Workload,
    digest_of,
)
from metabench.records.job import Job, Outcome
from metabench.records.result import SCHEMA, Block, Result, Scores, Training, Validation

__all__ = [
    "SCHEMA",
    "SPLITS",
    "STATUSES",
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
    "Training",
    "Validation",
    "Workload",
    "digest_of",
]
