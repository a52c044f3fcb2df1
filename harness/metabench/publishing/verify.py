"""Checks that a set of results can be trusted: `metabench verify`, and what `publish` asks first.

Errors are reasons not to publish; notices are what a reader will see as labels. The files are read anew, one
at a time; what is kept of each is in `metabench.publishing.members`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from metabench import stats
from metabench.plugins import Registry
from metabench.publishing.checks import check_result
from metabench.publishing.code_findings import code_findings
from metabench.publishing.completeness import (
    CellKeys,
    Matching,
    MissingResults,
    annotation_findings,
    cell_keys,
    members_by_machine,
    missing_results,
)
from metabench.publishing.copies import copy_findings
from metabench.publishing.findings import Finding
from metabench.publishing.installation import Installation, InstalledSuite
from metabench.publishing.members import Member, member_of
from metabench.publishing.parameters import parameter_findings
from metabench.publishing.rerun_checks import record_findings
from metabench.publishing.sign import signature_findings
from metabench.publishing.task_draws import Drawn, TaskSet
from metabench.publishing.tuning_checks import tuning_findings
from metabench.publishing.withdrawals import withdrawal_findings
from metabench.records.cell import Cell, Status
from metabench.records.document import read_document
from metabench.records.result import Result
from metabench.records.row import Row
from metabench.report.limits import budget_limited_reason
from metabench.report.references import published
from metabench.results import cache
from metabench.results.predictions import predictions_beside
from metabench.results.table import Results

PARTIAL = "partial.txt"
"""The file beside published results of a part of a suite that says what is missing."""


@dataclass(frozen=True)
class Verified:
    """What was checked: the files that hold results, the findings, errors first, and what is missing."""

    files: tuple[Path, ...]
    findings: tuple[Finding, ...]
    missing: tuple[MissingResults, ...] = ()

    @property
    def errors(self) -> list[Finding]:
        """The findings that speak against publishing."""
        return [finding for finding in self.findings if finding.serious]


def verify(
    paths: Iterable[Path | str],
    suites: Mapping[str, InstalledSuite] | None = None,
    *,
    complete: bool = False,
    partial: bool = False,
    same_code: bool = False,
    deep: bool = False,
    registry: Registry | None = None,
    signers: Path | None = None,
    allow_import: Sequence[str] = (),
) -> Verified:
    """Checks every result in these files and folders against itself, its metric, its data set and its suite.

    suites: the suite of each folder (`quick-v1`); None for those that are installed. complete: results have
    to be all of their suite's, and no others; otherwise only the seeds of its cells have to be the same.
    partial: what is missing is a notice, as it is for results that were published so. same_code: results of
    other code than is installed here are errors, not notices. deep: learners are built, to count their
    parameters, and scores are made anew from the predictions beside a result, where they are here. signers:
    the file with the keys that are known; None for `allowed_signers` of the results repository. allow_import:
    modules that learners which are built may import by a path.
    """
    paths = list(paths)
    with cache.uncollected(), Installation(registry) as installation:
        members, cells, findings = _read(paths, installation)
        if suites is None:
            suites = installation.suites({member.suite for member in members})
        known = [cell for cell in cells.values() if cell.suite_folder in suites]
        keys = cell_keys((*known, *(cell for suite in suites.values() for cell in suite.cells)), installation)
        missing = tuple(missing_results(members, suites if complete else {}, keys, installation))
        findings += _missing_findings(missing, partial)
        findings += _suite_findings(members, suites, keys, installation, complete=complete)
        findings += code_findings(members, installation, same_code=same_code)
        findings += _set_findings(members)
        findings += tuning_findings(members, installation)
        if deep:
            findings += parameter_findings(members, cells, installation, allow_import)
            findings += _deep_findings(members, installation)
        findings += withdrawal_findings(paths, members)
    files = [Path(member.path) for member in members]
    findings += signature_findings(files, signers)
    findings += record_findings(files, signers)
    findings.sort(key=lambda finding: (not finding.serious, finding.file))
    return Verified(tuple(files), tuple(findings), missing)


def _read(
    paths: Iterable[Path | str], installation: Installation
) -> tuple[list[Member], dict[str, Cell], list[Finding]]:
    """The results that could be read, a cell of each configuration, and the findings of each file."""
    members: list[Member] = []
    cells: dict[str, Cell] = {}
    paths_to_read, passed_over = cache.files(paths)
    findings = [Finding(problem.file, "schema", problem.what) for problem in passed_over]
    for path in paths_to_read:
        try:
            document = read_document(path)
            result = Result.from_json(document)
            member = member_of(str(path), result)
            findings += check_result(path, document, result, installation)
        except Exception as error:  # whatever a foreign file makes reading raise, it is no result
            what = str(error) or type(error).__name__
            findings.append(Finding(str(path), "schema", what.removeprefix(f"{path}: ")[:500]))
            continue
        cells.setdefault(member.configuration, result.cell)
        members.append(member)
    return members, cells, findings


def _missing_findings(missing: Iterable[MissingResults], partial: bool) -> Iterator[Finding]:
    for results in missing:
        allowed = partial or (Path(results.folder) / PARTIAL).exists()
        for what in results.missing:
            yield Finding(results.folder, "complete", f"{results.suite}: {what}", serious=not allowed)
        for path in results.foreign:
            what = f"its settings are of no cell of {results.suite} as installed"
            yield Finding(path, "complete", what)


def _suite_findings(
    members: Sequence[Member],
    suites: Mapping[str, InstalledSuite],
    keys: Mapping[str, CellKeys],
    installation: Installation,
    *,
    complete: bool,
) -> Iterator[Finding]:
    """What contradicts the suites as they are installed: their text, annotations of cells, and test tasks."""
    matched: list[tuple[Member, TaskSet]] = []
    for (name, _), group in members_by_machine(members).items():
        suite = suites.get(name)
        if suite is None:
            if complete:
                yield _not_installed(group[0], installation)
            continue
        yield from _text_findings(group, suite)
        matching = Matching(suite, group, keys)
        yield from annotation_findings(group, matching)
        matched += [
            (member, TaskSet.of(cells[0]))
            for member in group
            if member.scored and (cells := matching.cells_of(member))
        ]
    drawn = installation.draw(tasks for _, tasks in matched)
    yield from _manifest_findings(matched, drawn, installation)


def _not_installed(member: Member, installation: Installation) -> Finding:
    """What a set of results lacks of which nobody here can tell whether it is complete.

    A version after the installed one is an error: there is no such suite here. A version that the installed
    one replaced stays as it was, and a suite of another name may be anybody's own.
    """
    name, _, version = member.suite.rpartition("-v")
    installed = installation.suite_version(name)
    what = f"{member.suite} is not installed in that version: only its seeds were compared"
    if installed is None:
        return Finding(member.path, "suite digest", what, serious=False)
    later = not version.isdigit() or int(version) > installed
    return Finding(member.path, "suite digest", f"{what}; version {installed} is", serious=later)


def _text_findings(members: Sequence[Member], suite: InstalledSuite) -> Iterator[Finding]:
    """Results that were made with another text of the suite than the installed file or an earlier one."""
    texts = (suite.digest, *suite.earlier)
    for digest in {member.suite_digest for member in members}.difference(texts):
        first = next(member for member in members if member.suite_digest == digest)
        what = (
            f"made with another text of {first.suite} ({digest[:12]}) than is installed ({suite.digest[:12]})"
        )
        yield Finding(first.path, "suite digest", what)


def _manifest_findings(
    matched: Sequence[tuple[Member, TaskSet]], drawn: Mapping[TaskSet, Drawn], installation: Installation
) -> Iterator[Finding]:
    """Results whose test tasks are not those that their suite's data set draws here.

    Another version of the data set's plugin may draw others: then it is no error.
    """
    named: set[TaskSet] = set()
    for member, tasks in matched:
        digest, problem, classes = drawn[tasks]
        if problem and tasks not in named:
            named.add(tasks)
            what = f"the tasks of {tasks.dataset} could not be drawn here: {problem}"
            yield Finding(member.path, "manifest", what, serious=False)
        if digest is not None and digest != member.row["manifest"]:
            here = (installation.component("dataset", tasks.dataset) or {}).get("source")
            yield Finding(
                member.path,
                "manifest",
                f"{tasks.dataset} ({here}) draws other test tasks here than the result says",
                serious=member.dataset_plugin == here,
            )
        elif classes and member.row["classes"] not in ("", classes):
            what = "the classes that it says its test tasks consist of are not those of its tasks"
            yield Finding(member.path, "classes", what)


def _deep_findings(members: Sequence[Member], installation: Installation) -> Iterator[Finding]:
    """Scores that do not follow from the stored predictions; results whose predictions are not here."""
    here = []
    for member in members:
        if not member.predictions:
            continue
        if predictions_beside(Path(member.path)).exists():
            here.append(member.path)
        else:
            what = "they are not beside it: its scores could not be made anew"
            yield Finding(member.path, "predictions", what, serious=False)
    for file, what in installation.deep_faults(here):
        yield Finding(file, "predictions", what)


def _set_findings(members: Sequence[Member]) -> Iterator[Finding]:
    """What only several results show: copies, facts that differ, parity; and what tables label."""
    yield from copy_findings(members)
    yield from _differing(members, "suite digest", lambda m: m.suite, lambda m: m.suite_digest)
    yield from _differing(
        [member for member in members if member.scored],
        "manifest",
        _tasks_key,
        lambda m: str(m.row["manifest"]),
    )
    yield from _differing(members, "environment", lambda m: m.machine, lambda m: m.hardware)
    yield from _differing(
        members, "environment", lambda m: (m.suite, m.machine, m.seed), lambda m: m.software
    )
    results = Results([member.row for member in members], [member.scores for member in members])
    configurations = _configurations(results)
    yield from _parity(results, configurations)
    for positions in configurations:
        rows = [results.rows[i] for i in positions]
        for check, what in _labels(rows):
            yield Finding(str(rows[0]["file"]), check, what, serious=False)


def _configurations(results: Results) -> list[list[int]]:
    """Positions of the scored results of each configuration on each machine, over its seeds."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(results.rows):
        if row["status"] == Status.OK and row["mean"] is not None:
            groups.setdefault((row["configuration"], row["machine"]), []).append(i)
    return list(groups.values())


def _differing(
    members: Sequence[Member], check: str, key: Callable[[Member], Any], value: Callable[[Member], str]
) -> Iterator[Finding]:
    """Members that differ from most of those with the same key, where all should be the same."""
    groups: dict[Any, dict[str, list[Member]]] = {}
    for member in members:
        groups.setdefault(key(member), {}).setdefault(value(member), []).append(member)
    for values in groups.values():
        usual = max(values, key=lambda text: len(values[text]))
        for text in values.keys() - {usual}:
            for member in values[text]:
                what = f"{text:.100} differs from that of {values[usual][0].path} ({usual:.100})"
                yield Finding(member.path, check, what)


def _tasks_key(member: Member) -> tuple[Any, ...]:
    """What makes the test tasks of two results the same."""
    row = member.row
    return (
        row["dataset"], row["dataset_settings"], row["ways"], row["shots"], row["queries"],
        row["evaluation_tasks"], row["evaluation_seed"],
    )  # fmt: skip


def _parity(results: Results, configurations: Sequence[Sequence[int]]) -> Iterator[Finding]:
    """The same work on several backends must give the same scores, weak scaling excepted.

    A difference that is shown (Holm over all of them) and is not within the margin is an error. Where too
    few tasks or seeds show neither equality nor a difference, a table withholds the speed-up.
    """
    groups: dict[str, list[Sequence[int]]] = {}
    for positions in configurations:
        groups.setdefault(results.rows[positions[0]]["work"], []).append(positions)
    pairs = [(group[0], other) for group in groups.values() for other in group[1:]]
    unequal = [(first, other) for first, other in pairs if results.score_equally(first, other) is False]
    p_values = stats.holm([_p_value(results, first, other) for first, other in unequal])
    for (first, other), p in zip(unequal, p_values, strict=True):
        shown = bool(p <= stats.EQUAL_LEVEL)
        base = results.rows[first[0]]
        what = f"scores {_mean(results, other):.4f}, {base['backend']} × {base['ranks']} "
        what += f"{_mean(results, first):.4f}"
        if not shown:
            what += ": neither equality nor a difference is shown, so no speed-up will be"
        yield Finding(str(results.rows[other[0]]["file"]), "parity", what, serious=shown)


def _mean(results: Results, positions: Sequence[int]) -> float:
    return fmean(float(results.scores[i].mean()) for i in positions)


def _p_value(results: Results, first: Sequence[int], second: Sequence[int]) -> float:
    a, b = results.score_matrix(first), results.score_matrix(second)
    return 1.0 if a is None or b is None else float(stats.difference(a, b).p_value())


def _labels(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """What a reader of a table will see, or has to know, of the seeds of a configuration."""
    limited = budget_limited_reason(rows, published(rows[0]))
    if limited:
        yield "trained enough", f"will be labelled budget-limited: {limited}"
    if any(row["unstable"] for row in rows):
        yield "times", "will be labelled unstable"
    remarks = sorted({note for row in rows for note in row["notes"]})
    if remarks:
        more = f" (and {len(remarks) - 1} more)" if len(remarks) > 1 else ""
        yield "times", f"the machine was disturbed: {remarks[0]}{more}"
    settings = json.loads(rows[0]["backend_settings"])
    for name, what in (("oversubscribe", "more threads than cores"), ("share", "ranks that share a GPU")):
        if settings.get(name) is True:
            yield "times", f"allows {what}: its speed-up is not for a published table"
