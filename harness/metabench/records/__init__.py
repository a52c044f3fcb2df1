"""Plain data that the rooms hand to each other: cells, jobs and results. No torch here."""

from metabench.records.cell import (
    COMPONENTS,
    SPLITS,
    Budget,
    Cell,
    Evaluation,
    Facts,
    Spec,
    Split,
    Status,
    Workload,
    suite_folder,
)
from metabench.records.files import read_result, write_json, writing
from metabench.records.identity import digest_of
from metabench.records.imported import content_of, module_of
from metabench.records.job import RANK_PREFIX, Job, JobFile, JobFolder, Outcome
from metabench.records.logged import curves_of_event, final_scores, logged_settings
from metabench.records.metric_scores import MetricScores
from metabench.records.outputs import DataKind, Needs, Outputs
from metabench.records.progress import (
    CheckpointEvent,
    EndEvent,
    EvaluateEvent,
    Event,
    ResumeEvent,
    SetupEvent,
    StartEvent,
    TrainEvent,
    ValidationEvent,
    event_from_json,
)
from metabench.records.protocol import Batches, Protocol, UnevenProtocol, VariedProtocol
from metabench.records.result import SCHEMA, Block, Result, Scores, Training, Validation
from metabench.records.row import FurtherFields, Row, UnreadableFile
from metabench.records.section import Column, Section
from metabench.records.summary import Reference, Summary

__all__ = [
    "COMPONENTS",
    "RANK_PREFIX",
    "SCHEMA",
    "SPLITS",
    "Batches",
    "Block",
    "Budget",
    "Cell",
    "CheckpointEvent",
    "Column",
    "DataKind",
    "EndEvent",
    "EvaluateEvent",
    "Evaluation",
    "Event",
    "Facts",
    "FurtherFields",
    "Job",
    "JobFile",
    "JobFolder",
    "MetricScores",
    "Needs",
    "Outcome",
    "Outputs",
    "Protocol",
    "Reference",
    "Result",
    "ResumeEvent",
    "Row",
    "Scores",
    "Section",
    "SetupEvent",
    "Spec",
    "Split",
    "StartEvent",
    "Status",
    "Summary",
    "TrainEvent",
    "Training",
    "UnevenProtocol",
    "UnreadableFile",
    "Validation",
    "ValidationEvent",
    "VariedProtocol",
    "Workload",
    "content_of",
    "curves_of_event",
    "digest_of",
    "event_from_json",
    "final_scores",
    "logged_settings",
    "module_of",
    "read_result",
    "suite_folder",
    "write_json",
    "writing",
]
