"""`metabench list [KIND]`."""

from __future__ import annotations

import click
from tabulate import tabulate

from metabench.errors import RequestError, SettingError, known
from metabench.plugins import KINDS, Entry, Registry, load
from metabench.settings import make
from metabench.suite import installed


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
    """List what is installed, with the package that brings it; KIND is e.g. suites or algorithms."""
    registry = load()
    kinds = ["suites", *(f"{name}s" for name in KINDS)]
    asked = None if kind is None else kind if kind.endswith("s") else f"{kind}s"
    if asked is not None and asked not in kinds:
        raise RequestError(f"no kind of component is called {kind!r}; {known(asked, kinds)}")
    for one in [asked] if asked else kinds:
        click.echo(
            f"{one}\n" + (_suites(registry) if one == "suites" else _components(registry, one[:-1])) + "\n"
        )
    for problem in registry.problems:
        click.echo(f"warning: {problem}", err=True)
    return 0


def _suites(registry: Registry) -> str:
    import tomllib

    rows = []
    for name, path in sorted(installed(registry).items()):
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            told = {"title": f"unreadable: {error}"}
        rows.append([name, told.get("version", ""), told.get("title", "")])
    return tabulate(rows, ["name", "version", "title"], tablefmt="simple", disable_numparse=True)


def _components(registry: Registry, kind: str) -> str:
    rows = [
        [entry.name, first_line(entry.cls), state(entry), entry.source]
        for entry in registry.entries(kind).values()
    ]
    return tabulate(
        rows, ["name", "what it is", "state", "package"], tablefmt="simple", maxcolwidths=[None, 60, 44, None]
    )


def first_line(cls: type) -> str:
    """The first line of a component's help."""
    return (cls.__doc__ or "").strip().splitlines()[0]


def state(entry: Entry) -> str:
    """Whether a component can be used here: "available", or why not."""
    reason: str | None = entry.cls.unavailable()
    if reason is None and entry.kind == "backend":
        reason = make(entry.cls).available()
    if reason is None and entry.kind == "dataset":
        try:
            reason = make(entry.cls).missing()
        except SettingError:  # it needs settings, such as the folder of the user's images
            return "available; needs settings"
    return "available" if reason is None else f"unavailable: {reason}"
