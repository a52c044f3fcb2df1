"""Run the cell of a stored result again, from nothing but its file, and compare the numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from metabench.errors import RequestError, StoreError
from metabench.folders import file_digest
from metabench.plugins import Registry, load
from metabench.publishing.checks import FOLDER_NAME, connections, without_connections
from metabench.publishing.findings import Finding
from metabench.publishing.verdict import Verdict, compare
from metabench.publishing.verify import verify
from metabench.records.carried import LOCAL
from metabench.records.cell import COMPONENTS, NETWORK_WEIGHTS, Budget, Cell, Evaluation, Spec
from metabench.records.files import read_result, state_path
from metabench.records.identity import RULE
from metabench.records.metric_scores import component_slots
from metabench.records.protocol import Protocol
from metabench.records.result import Result
from metabench.report.destination import require_no_link
from metabench.results.reproductions import RerunRecord, record_path, write_record
from metabench.results.signatures import SUMS, SUMS_SIGNATURE, fingerprint
from metabench.results.store import Store
from metabench.runner import Plan, Warn, execute
from metabench.runner.imports import require_allowed_imports
from metabench.settings import make
from metabench.suite.suite import Suite
from metabench.text import printable

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,239}")


@dataclass(frozen=True)
class Reproduction:
    """The old and the new result, what verification found in the old one's file, and what comparing says."""

    old: Result
    new: Result
    findings: tuple[Finding, ...]
    verdict: Verdict
    lines: tuple[str, ...]

    @property
    def errors(self) -> int:
        """How many findings speak against trusting the file."""
        return sum(finding.serious for finding in self.findings)

    @property
    def confirmed(self) -> bool:
        """Whether the rerun confirms a file in which nothing is wrong."""
        return self.verdict.reproduced and not self.errors


def reproduce(
    path: Path,
    results: Path,
    quiet: bool = False,
    warn: Warn | None = None,
    weights: Path | None = None,
    allow_import: Collection[str] = (),
) -> Reproduction:
    """Run the cell of the result in `path`, store the new result in `results`, and compare the two.

    The new result names the plugins that made it, and the suite file of the old one. weights: the file that
    the cell starts from; None for the state of that digest which is kept beside the result; allow_import:
    modules that the cell may import by a path. Raises RequestError where the file holds no result, a
    component of its cell is not installed, the cell makes no sense, its weights are not here, it would
    connect this machine to another, or import a module that is not allowed.
    """
    registry = load()
    old, cell = read_installed(path, registry)
    store = Store(results / cell.suite_folder)
    if store.path(old.cell).absolute() == path.absolute():
        raise RequestError(f"{path}: the new result would replace it; name another folder with --results")
    files = weights_of(path, cell, weights)
    require_allowed_imports(registry, [cell], allow_import)
    findings = _findings_of(path, registry)
    if quiet:
        registry.silence()
    new = run_again(registry, cell, old, store, warn, weights=files, imports=allow_import)
    comparison = compare(old, new)
    lines = (*_versions(old.cell, new.cell), *comparison.lines)
    return Reproduction(old, new, findings, comparison.verdict, tuple(map(printable, lines)))


def run_again(
    registry: Registry,
    cell: Cell,
    old: Result,
    store: Store,
    warn: Warn | None = None,
    timeout: float | None = None,
    weights: Mapping[str, Path] = MappingProxyType({}),
    imports: Collection[str] = (),
) -> Result:
    """Run a cell that was made from a stored result; the new result names the same text of the suite.

    weights: the file that the cell starts from, by its digest; imports: the modules that it may import.
    """
    suite = Suite(cell.suite, cell.suite_version, f"{cell.id} again", store.path(cell), (cell,))
    digest = str(old.environment.get("suite_digest", ""))
    plan = Plan(
        registry, suite, store, (cell,), {}, timeout=timeout, rerun=True, suite_digest=digest,
        weights=weights, imports=frozenset(imports),
    )  # fmt: skip
    return execute(plan, warn).results[0]


def weights_of(path: Path, cell: Cell, given: Path | None = None) -> dict[str, Path]:
    """Return the file that the cell of a result in `path` starts from, by its digest; empty without weights.

    given: the file; None for the state that is kept beside the result. Raises RequestError where it is
    absent or another, or where it is given for a cell that starts from none.
    """
    digest = cell.weights.removeprefix(NETWORK_WEIGHTS)
    if not digest:
        if given is not None:
            raise RequestError(f"{path}: its cell starts from no weights, got {given}")
        return {}
    file = state_path(path.parent, digest) if given is None else given
    if not file.is_file():
        raise RequestError(f"{path}: the weights of its cell must lie at {file}, which is absent")
    if file_digest(file) != digest:
        raise RequestError(f"{file}: the weights of the cell of {path} must have the SHA-256 {digest}")
    return {digest: file}


def record(path: Path, reproduction: Reproduction, key: Path) -> Path:
    """Leave a record of a rerun beside the result in `path`, signed with an SSH key; return its file."""
    new = reproduction.new
    document = RerunRecord(
        result=file_digest(path),
        verdict=reproduction.verdict.value,
        reproduced=reproduction.verdict.confirms,
        findings=tuple(finding.what for finding in reproduction.findings if finding.serious),
        machine=str(new.environment.get("machine", "")),
        date=new.started,
        key=fingerprint(key),
        rerun=new.to_json(),
    )
    target = record_path(path, document)
    require_no_link(path.parent, target)
    write_record(target, document, key)
    return target


def _findings_of(path: Path, registry: Registry) -> tuple[Finding, ...]:
    """Return what verification finds in a file and in the signature of its folder, not in other files."""
    file = path.absolute()
    about = {
        str(place) for place in (file, file.parent, file.with_name(SUMS), file.with_name(SUMS_SIGNATURE))
    }
    return tuple(finding for finding in verify([path], registry=registry).findings if finding.file in about)


def read_installed(path: Path, registry: Registry) -> tuple[Result, Cell]:
    """Return the result in a file, and its cell as it runs here; raises RequestError where there is none."""
    try:
        old = read_result(path)
    except StoreError as error:
        raise RequestError(printable(f"{path}: {str(error).removeprefix(f'{path}: ')}")) from error
    try:
        return old, _installed(registry, _checked(old.cell))
    except (RequestError, TypeError, AttributeError) as error:  # the latter: a field of another type
        raise RequestError(printable(f"{path}: {error}")) from error


def _checked(cell: Cell) -> Cell:
    """Return the cell; raises RequestError unless numbers are numbers and names can be names of files."""
    for name, value in (("suite_version", cell.suite_version), ("seed", cell.seed)):
        if type(value) is not int or value < 0:
            raise RequestError(f"its {name} must be an integer ≥ 0, got {value!r}")
    for record in (cell.test, cell.train, cell.budget, replace(cell.evaluation, metrics=())):
        if isinstance(record, (Protocol, Budget, Evaluation)):  # metrics are checked as components
            make(type(record), vars(record))
    if not isinstance(cell.suite, str) or not FOLDER_NAME.fullmatch(cell.suite):
        raise RequestError(f"its suite {cell.suite!r} cannot be the name of a folder")
    for name in connections(cell):
        raise RequestError(f"its backend's setting {name!r} would connect this machine to another")
    if not FILE_NAME.fullmatch(cell.id):
        raise RequestError(f"its cell {cell.id!r} cannot be the name of a file")
    return cell


def _installed(registry: Registry, cell: Cell) -> Cell:
    """Return the cell with the plugins that provide its components; raises RequestError without one."""
    plugins: dict[str, str] = {}
    specs: dict[str, Any] = {}
    for slot, kind, spec in component_slots(cell):
        try:
            entry = registry.find(kind, spec.name)
        except RequestError as error:
            source = cell.plugins.get(slot, "a plugin")
            remedy = (
                "its source is in the file, environment.sources" if source.startswith(LOCAL) else "install it"
            )
            raise RequestError(f"{error}; the result was made with {source}: {remedy}") from error
        own = without_connections(spec.settings) if kind == "backend" else spec.settings
        specs[slot] = Spec.of(entry.cls, own)
        plugins[slot] = entry.source
    plugins = {slot: plugins[slot] for slot in (*cell.plugins, *plugins) if slot in plugins}
    own = {slot: spec for slot, spec in specs.items() if slot in COMPONENTS}
    return replace(cell, plugins=plugins, digest_rule=RULE, **own)


def _versions(old: Cell, new: Cell) -> Sequence[str]:
    """Return the components whose plugin is another, or of another version, than the file says, in words."""
    return [
        f"{kind} {spec.name!r}: made with {old.plugins.get(slot, 'an unknown plugin')}, here is {source}"
        for slot, kind, spec in component_slots(new)
        if (source := new.plugins[slot]) != old.plugins.get(slot)
    ]
