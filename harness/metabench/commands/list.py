"""`metabench list [KIND]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from tabulate import tabulate

from metabench.commands.terminal import say
from metabench.errors import MetabenchError, RequestError, SettingError, SuiteError, did_you_mean
from metabench.plugin_calls import plugin_call
from metabench.plugins import KINDS, Entry, Registry, load
from metabench.settings import make
from metabench.suite import installed_suites
from metabench.suite.bounds import read_suite_file

SUITES = "suites"


@click.command(
    epilog="""\b
Examples:
  metabench list
  metabench list algorithms
  metabench list backends
"""
)
@click.argument("kind", required=False)
def command(kind: str | None) -> int:
    """List what is installed, with the package that provides it; KIND is e.g. suites or algorithms."""
    registry = load()
    by_plural = {kind.plural: kind.name for kind in KINDS.values()}
    known = [SUITES, *by_plural]
    plural = None if kind is None else kind if kind.endswith("s") else f"{kind}s"
    if plural is not None and plural not in known:
        raise RequestError(f"no kind of component is called {kind!r}; {did_you_mean(plural, known)}")
    for heading in [plural] if plural else known:
        table = _suites(registry) if heading == SUITES else _components(registry, by_plural[heading])
        say(f"{heading}\n{table}\n")
    for problem in registry.problems:
        say(f"warning: {problem}", err=True)
    return 0


def _suites(registry: Registry) -> str:
    rows = []
    for name, suite in sorted(installed_suites(registry).items()):
        document = _document(suite.path)
        package = f"{suite.plugin.distribution} {suite.plugin.version}"
        rows.append([name, document.get("version", ""), document.get("title", ""), package])
    heads = ["name", "version", "title", "package"]
    return tabulate(
        rows, heads, tablefmt="simple", disable_numparse=True, maxcolwidths=[None, None, 70, None]
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        return read_suite_file(path)
    except SuiteError as error:
        return {"title": f"unreadable: {error}"}


def _components(registry: Registry, kind: str) -> str:
    rows, reasons = [], dict[str, list[str]]()
    for entry in registry.entries(kind).values():
        word, reason = _availability(entry)
        rows.append([entry.name, first_line(entry.cls), word, entry.source])
        if reason:
            reasons.setdefault(reason, []).append(entry.name)
    heads = ["name", "what it is", "state", "package"]
    table = tabulate(rows, heads, tablefmt="simple", maxcolwidths=[None, 60, None, None])
    # below the table, where a command to copy is never broken over two lines
    notes = [f"\nunavailable: {', '.join(names)}\n  {reason}" for reason, names in reasons.items()]
    return "\n".join([table, *notes])


def first_line(cls: type) -> str:
    """Return the first line of a component's help."""
    return (cls.__doc__ or "").strip().splitlines()[0]


def state(entry: Entry) -> str:
    """Return whether a component can be used here: "available", "needs settings" or "unavailable: " why."""
    word, reason = _availability(entry)
    return f"{word}: {reason}" if reason else word


def _availability(entry: Entry) -> tuple[str, str]:
    """A component's state in a word or two, and the reason where it is unavailable."""
    try:
        with plugin_call("its state is unknown, asking for it"):
            reason: str | None = entry.cls.unavailable()
            if reason is None and entry.kind == "backend":
                reason = make(entry.cls).available()
            elif reason is None and entry.kind == "dataset":
                reason = make(entry.cls).missing()
    except SettingError:  # it has no default for one, such as the folder of the user's images
        return "needs settings", ""
    except MetabenchError as error:  # a plugin's own; the list goes on
        reason = str(error)
    return ("available", "") if reason is None else ("unavailable", str(reason))
