"""Which code made a set of results: one code a configuration, and where it matters the code at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metabench.publishing.completeness import members_by_machine
from metabench.publishing.findings import Finding
from metabench.publishing.installation import Installation
from metabench.publishing.members import Member
from metabench.records.code import changed_code

NAMED = 4
"""At most so many components are named."""


def code_findings(
    members: Sequence[Member], installation: Installation, *, same_code: bool
) -> Iterator[Finding]:
    """Configurations of several codes, and results of other code than is installed here, or of unknown code.

    same_code: whether other code than is installed is an error.
    """
    yield from _mixed(members)
    for (suite, _), group in members_by_machine(members).items():
        measured = [member for member in group if member.scored]
        unknown = [member for member in measured if not member.code]
        if unknown:
            what = f"{len(unknown)} of {len(measured)} results of {suite} do not say what code made them"
            yield Finding(unknown[0].path, "code", what, serious=False)
        yield from _other_code(suite, measured, installation, same_code)


def _mixed(members: Sequence[Member]) -> Iterator[Finding]:
    """Results of one configuration on one machine that different code made: no seeds of one method."""
    first: dict[tuple[str, str], Member] = {}
    for member in members:
        if not member.scored:
            continue
        other = first.setdefault((member.row["configuration"], member.machine), member)
        if other.code != member.code:
            kinds = changed_code(other.code, member.code) or ["not recorded in one of them"]
            what = f"made by other code than {other.path}, of the same configuration ({', '.join(kinds)})"
            yield Finding(member.path, "code", what)


def _other_code(
    suite: str, members: Sequence[Member], installation: Installation, serious: bool
) -> Iterator[Finding]:
    changed: dict[str, list[Member]] = {}
    for member in members:
        for kind in changed_code(member.code, installation.code_of(member.components)):
            named = f"{kind} {member.components[kind]}" if kind in member.components else kind
            changed.setdefault(named, []).append(member)
    if not changed:
        return
    results = {member.path: member for group in changed.values() for member in group}
    commits = sorted({str(member.row["git"])[:12] for member in results.values() if member.row["git"]})
    at = f" at git {', '.join(commits)}" if commits else ""
    parts = ", ".join(list(changed)[:NAMED]) + (", …" if len(changed) > NAMED else "")
    count = f"{len(results)} of {len(members)} results of {suite}"
    what = f"{count} were made{at} by other code than is installed here: {parts}"
    yield Finding(next(iter(results)), "code", what, serious=serious)
