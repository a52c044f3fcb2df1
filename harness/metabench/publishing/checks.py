"""Checks that a set of results can be trusted: `metabench verify`, and what `publish` asks first.

Errors are reasons not to publish; notices are what a reader will see as labels.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from metabench import stats
from metabench.publishing.completeness import Gaps, Standard, gaps, standards
from metabench.records.cell import Status, digest_of
from metabench.records.files import read_result
from metabench.records.result import SCHEMA, Result, Training
from metabench.records.schema import stored
from metabench.records.summary import Summary
from metabench.records.upgrade import upgrade
from metabench.report.scaling import agree
from metabench.report.summary import Summaries
from metabench.results import cache
from metabench.results.rows import row_of
from metabench.results.table import Results

SLACK = 1.02
"""Clocks that are read one after the other may disagree by this factor, and by SLACK_SECONDS."""
SLACK_SECONDS = 0.5
NEEDED = ("machine", "processor", "cores", "system", "python", "packages", "suite_digest")
DIGEST = re.compile(r"[0-9a-f]{64}")
PARTIAL = "partial.txt"
"""Stands beside published results of a part of a suite, and says what is missing."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong (or, where `serious` is False, worth knowing) about a result file."""

    file: str
    check: str
    what: str
    serious: bool = True

    def __str__(self) -> str:
        return f"{'error' if self.serious else 'notice'}: {self.file}: {self.check}: {self.what}"


@dataclass(frozen=True)
class Verified:
    """What was checked: the files that hold results, what was found, errors first, and what is missing."""

    files: tuple[Path, ...]
    findings: tuple[Finding, ...]
    gaps: tuple[Gaps, ...] = ()

    @property
    def errors(self) -> list[Finding]:
        """The findings that speak against publishing."""
        return [one for one in self.findings if one.serious]


def verify(
    paths: Iterable[Path | str], suites: Mapping[str, Standard] | None = None, partial: bool = False
) -> Verified:
    """Checks every result in these files and folders; the cache is not trusted, files are read anew.

    suites: for each suite folder (`quick-v1`) the suite, where it is at hand: its results have to be complete
    and its own. Without it, completeness is judged by the seeds that other cells of the suite have.
    partial: what is missing is a notice, as it is for results that were published so.
    """
    results: dict[Path, Result] = {}
    findings: list[Finding] = []
    for path in cache.files(paths):
        told = _told(path, findings)
        if told is None:
            continue
        try:
            result = read_result(path)
            row_of(result)  # asks of every value that it is of the kind that tables rely on
            findings.extend(_one(path, told, result))
        except Exception as error:  # whatever a foreign file makes reading raise, it is no result
            findings.append(Finding(str(path), "schema", str(error).removeprefix(f"{path}: ")))
            continue
        results[path] = result
    found = tuple(gaps(results, suites or {}))
    findings += _incomplete(found, partial)
    findings += _origins(results, suites)
    findings += _together(results)
    findings.sort(key=lambda one: (not one.serious, one.file))
    return Verified(tuple(results), tuple(findings), found)


def verify_whole(paths: Sequence[Path | str], partial: bool = False) -> Verified:
    """Checks results against their suites as they are installed; see `verify`."""
    suites = {read_result(path).cell.suite_folder for path in verify(paths).files}
    return verify(paths, standards(sorted(suites)), partial)


def _told(path: Path, findings: list[Finding]) -> dict[str, Any] | None:
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        findings.append(Finding(str(path), "schema", f"truncated, or no JSON: {error}"))
        return None
    if not isinstance(told, dict):
        findings.append(Finding(str(path), "schema", "no JSON object"))
        return None
    return told


def _one(path: Path, told: Mapping[str, Any], result: Result) -> Iterator[Finding]:
    def wrong(check: str, what: str, serious: bool = True) -> Finding:
        return Finding(str(path), check, what, serious)

    for what in _schema_faults(told):
        yield wrong("schema", what)
    cell = result.cell
    if told.get("digest") != cell.digest:
        yield wrong("cell digest", "does not follow from the cell's settings: one of them was edited")
    if path.name != f"{cell.id}.json":
        yield wrong("cell digest", f"the file should be called {cell.id}.json")
    if told.get("seal") != digest_of({k: v for k, v in told.items() if k != "seal"}):
        yield wrong("seal", "the file was changed after metabench wrote it")
    if not result.started or _in_future(result.started):
        yield wrong("clock", f"started at {result.started or 'no time'!r}")
    if result.status is Status.SKIPPED:
        yield wrong("outcome", f"will stand as skipped: {result.reason or 'no reason'}", serious=False)
        return
    missing = [name for name in NEEDED if not result.environment.get(name)]
    if missing:
        yield wrong("environment", f"does not say {', '.join(missing)}")
    if not DIGEST.fullmatch(str(result.environment.get("suite_digest") or "0" * 64)):
        yield wrong("suite digest", "is no SHA-256")
    if result.status is Status.OK:
        for check, what in (*_score_faults(told, result), *_clock_faults(result)):
            yield wrong(check, what)
    elif result.status not in cell.expect:
        what = f"{result.status}: {result.reason or 'no reason'}"
        yield wrong("outcome", what, serious=not result.status.honest)


def _schema_faults(told: Mapping[str, Any]) -> list[str]:
    """What the schema has against the result, as it reads after its upgrade to this schema."""
    validator = jsonschema.Draft202012Validator(stored())
    errors = validator.iter_errors(upgrade(told, SCHEMA))
    return [f"{error.json_path}: {error.message[:200]}" for error in errors][:5]


def _score_faults(told: Mapping[str, Any], result: Result) -> Iterator[tuple[str, str]]:
    scores, cell = result.scores, result.cell
    if scores is None:
        yield "scores", "an ok result without scores"
        return
    values = np.asarray(scores.per_task, dtype=np.float64)
    if len(values) != cell.evaluation.tasks:
        yield "scores", f"{len(values)} tasks are scored, the suite asks for {cell.evaluation.tasks}"
    if not len(values) or not np.isfinite(values).all():
        yield "scores", "some are no finite numbers"
        return
    mean = told.get("mean")
    if not isinstance(mean, (int, float)) or not math.isclose(
        mean, values.mean(), rel_tol=1e-9, abs_tol=1e-12
    ):
        yield "scores", f"the mean {mean} does not follow from the per-task scores ({values.mean():.6g})"
    if scores.metric == "accuracy":
        answers = cell.test.ways * cell.test.queries
        right = values * answers
        strange = np.flatnonzero((np.abs(right - right.round()) > 1e-3) | (values < 0) | (values > 1))
        if len(strange):
            task = int(strange[0])
            what = f"task {task} scores {values[task]:.6g}, which is no number of right answers of {answers}"
            yield "scores", what
    if not DIGEST.fullmatch(scores.manifest):
        yield "manifest", "is no SHA-256"
    if scores.transductive_found and not scores.transductive:
        yield "transduction", "predictions depend on other queries, which the algorithm does not claim"


def _clock_faults(result: Result) -> Iterator[tuple[str, str]]:
    training, scores = result.training, result.scores
    parts = [*result.setup.values(), result.wall_seconds]
    if scores is not None:
        parts += [scores.seconds, scores.predict_seconds, *scores.adapt_seconds, *scores.latency_seconds]
        adapted = sum(scores.adapt_seconds) / result.cell.ranks
        if _beyond(adapted, scores.seconds):
            yield "clock", f"adaptation took {adapted:.3g} s of an evaluation of {scores.seconds:.3g} s"
    if training is not None:
        blocks = (*training.warmup, *training.blocks)
        parts += [training.seconds, training.validation_seconds, *(b.seconds for b in blocks)]
        yield from _training_faults(training)
    if any(not math.isfinite(part) or part < 0 for part in parts):
        yield "clock", "a time is negative or no finite number"
        return
    inside = sum(result.setup.values()) + (scores.seconds if scores else 0)
    inside += training.seconds + training.validation_seconds if training else 0
    if _beyond(inside, result.wall_seconds):
        yield "clock", f"its parts take {inside:.3g} s, the whole cell {result.wall_seconds:.3g} s"


def _training_faults(training: Training) -> Iterator[tuple[str, str]]:
    blocks = (*training.warmup, *training.blocks)
    steps, seconds = sum(b.steps for b in blocks), sum(b.seconds for b in blocks)
    if steps != training.steps:
        yield "clock", f"the blocks have {steps} steps, the training {training.steps}"
    if not math.isclose(seconds, training.seconds, rel_tol=SLACK - 1, abs_tol=SLACK_SECONDS):
        yield "clock", f"the blocks take {seconds:.3g} s, the training {training.seconds:.3g} s"
    times = [v.train_seconds for v in training.validations]
    if times != sorted(times) or any(_beyond(t, training.seconds) for t in times):
        yield "clock", "the validations' times do not rise within the training"


def _beyond(part: float, whole: float) -> bool:
    return part > whole * SLACK + SLACK_SECONDS


def _in_future(started: str) -> bool:
    try:
        time = datetime.fromisoformat(started)
    except ValueError:
        return True
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return time > datetime.now(UTC) + timedelta(days=1)


def _together(results: Mapping[Path, Result]) -> Iterator[Finding]:
    """What only several results show: seeds, suites, manifests, parity, training; and what tables label."""
    table = Results.of(results.values(), list(results))
    summaries = Summaries(table).summaries
    yield from _copies(results)
    yield from _one_value(
        results, "suite digest", lambda r: r.cell.suite_folder, lambda r: r.environment.get("suite_digest")
    )
    yield from _one_value(
        results, "manifest", _protocol_key, lambda r: r.scores.manifest if r.scores else None
    )
    yield from _parity(table, summaries)
    for line in summaries:
        for check, what in _labels(line):
            yield Finding(str(line["files"][0]), check, what, serious=False)


def _labels(line: Summary) -> Iterator[tuple[str, str]]:
    """What a reader of a table will see, or has to know, of a cell."""
    if line["budget_limited"]:
        yield "trained enough", f"will be labelled budget-limited: {line['limited_reason']}"
    if line["unstable"]:
        yield "times", "will be labelled unstable"
    if line["warnings"]:
        more = f" (and {len(line['warnings']) - 1} more)" if len(line["warnings"]) > 1 else ""
        yield "times", f"the machine was disturbed: {line['warnings'][0]}{more}"
    settings = json.loads(line["backend_settings"])
    for name, what in (("oversubscribe", "more threads than cores"), ("share", "ranks that share a GPU")):
        if settings.get(name) is True:
            yield "times", f"allows {what}: its speed-up is not for a published table"


def _copies(results: Mapping[Path, Result]) -> Iterator[Finding]:
    """One cell told twice on one machine; one trained result passed off as that of another seed."""
    seen: dict[tuple[str, str], Path] = {}
    scores: dict[tuple[str, tuple[float, ...], tuple[tuple[int, float], ...]], tuple[int, Path]] = {}
    for path, result in results.items():
        cell, machine = result.cell, str(result.environment.get("machine"))
        other = seen.setdefault((cell.digest, machine), path)
        if other != path:
            yield Finding(str(path), "seeds", f"a second result of the cell in {other}")
        if result.scores and result.training and len(result.training.losses) > 2:
            key = (cell.algorithm.name, result.scores.per_task, result.training.losses)
            seed, first = scores.setdefault(key, (cell.seed, path))
            if seed != cell.seed:
                yield Finding(str(path), "seeds", f"scores and losses are those of seed {seed} in {first}")


def _incomplete(found: Iterable[Gaps], partial: bool) -> Iterator[Finding]:
    for one in found:
        allowed = partial or (Path(one.folder) / PARTIAL).exists()
        for what in one.missing:
            yield Finding(one.folder, "complete", f"{one.suite}: {what}", serious=not allowed)
        for path in one.foreign:
            yield Finding(str(path), "complete", f"its settings are of no cell of {one.suite} as installed")


def _origins(results: Mapping[Path, Result], suites: Mapping[str, Standard] | None) -> Iterator[Finding]:
    """Suites that are not installed, or whose file is another one than the results were made with."""
    for suite in sorted(
        {result.cell.suite_folder for result in results.values()} if suites is not None else ()
    ):
        path, result = next((p, r) for p, r in results.items() if r.cell.suite_folder == suite)
        digest = str(result.environment.get("suite_digest"))
        here = (suites or {}).get(suite)
        if here is None:
            what = f"{suite} is not installed in that version: only its seeds were compared"
        elif here.digest != digest:
            what = f"made with another text of {suite} ({digest[:12]}) than is installed ({here.digest[:12]})"
        else:
            continue
        yield Finding(str(path), "suite digest", what, serious=False)


def _one_value(results: Mapping[Path, Result], check: str, key: Any, value: Any) -> Iterator[Finding]:
    first: dict[Any, tuple[Any, Path]] = {}
    for path, result in results.items():
        found = value(result)
        if found is None:
            continue
        other, where = first.setdefault(key(result), (found, path))
        if other != found:
            yield Finding(str(path), check, f"differs from that of {where}, though it should be the same")


def _protocol_key(result: Result) -> Any:
    cell = result.cell
    dataset = json.dumps([cell.dataset.name, dict(cell.dataset.settings)], sort_keys=True)
    return (dataset, cell.test, cell.evaluation.tasks, cell.evaluation.seed)


def _parity(table: Results, summaries: Sequence[Summary]) -> Iterator[Finding]:
    """The same work on several backends must give the same scores, weak scaling aside.

    A difference that is shown (Holm over all of them) and is not within the margin is an error. Where too
    few tasks or seeds show neither equality nor a difference, a table withholds the speed-up.
    """
    groups: dict[str, list[Summary]] = {}
    for line in summaries:
        groups.setdefault(line["work"], []).append(line)
    pairs = [(lines[0], line) for lines in groups.values() for line in lines[1:]]
    apart = [
        (base, line, _p_value(table, base["positions"], line["positions"]))
        for base, line in pairs
        if agree(table, base["positions"], line["positions"]) is False
    ]
    for (base, line, _), p in zip(apart, stats.holm([p for _, _, p in apart]), strict=True):
        shown = bool(p <= stats.EQUAL_LEVEL)
        what = f"scores {line['mean']:.4f}, {base['backend']} × {base['ranks']} {base['mean']:.4f}"
        if not shown:
            what += ": neither equality nor a difference is shown, so no speed-up will be"
        yield Finding(str(line["files"][0]), "parity", what, serious=shown)


def _p_value(table: Results, first: Sequence[int], second: Sequence[int]) -> float:
    a, b = table.score_matrix(first), table.score_matrix(second)
    return 1.0 if a is None or b is None else float(stats.difference(a, b).p_value())
