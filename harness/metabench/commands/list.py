"""`metabench list [KIND]`."""

from __future__ import annotations

import click
from tabulate import tabulate

from metabench.errors import RequestError, SettingError, did_you_mean
from metabench.plugins import KINDS, Entry, Registry, load
from metabench.settings import make
from metabench.suite.suite import brought


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
        raise RequestError(f"no kind of component is called {kind!r}; {did_you_mean(asked, kinds)}")
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
    for name, (plugin, path) in sorted(brought(registry).items()):
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            told = {"title": f"unreadable: {error}"}
        package = f"{plugin.distribution} {plugin.version}"
        rows.append([name, told.get("version", ""), told.get("title", ""), package])
    heads = ["name", "version", "title", "package"]
    return tabulate(
        rows, heads, tablefmt="simple", disable_numparse=True, maxcolwidths=[None, None, 70, None]
    )


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
    told = [f"\nunavailable: {', '.join(names)}\n  {reason}" for reason, names in reasons.items()]
    return "\n".join([table, *told])


def first_line(cls: type) -> str:
    """The first line of a component's help."""
    return (cls.__doc__ or "").strip().splitlines()[0]


def state(entry: Entry) -> str:
    """Whether a component can be used here: "available", "needs settings" or "unavailable: " and why."""
    word, reason = _availability(entry)
    return f"{word}: {reason}" if reason else word


def _availability(entry: Entry) -> tuple[str, str]:
    """A component's state in a word or two, and the reason where it is unavailable."""
    try:
        reason: str | None = entry.cls.unavailable()
        if reason is None and entry.kind == "backend":
            reason = make(entry.cls).available()
        elif reason is None and entry.kind == "dataset":
            reason = make(entry.cls).missing()
    except SettingError:  # it has no default for one, such as the folder of the user's images
        return "needs settings", ""
    except Exception as error:  # a plugin's own; the list goes on
        reason = f"asked for its state, it raised {type(error).__name__}: {error}"
    return ("available", "") if reason is None else ("unavailable", str(reason))
