"""`metabench show NAME`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any

import click
from tabulate import tabulate

from metabench.commands.list import state
from metabench.commands.terminal import say
from metabench.errors import UnknownComponent, did_you_mean
from metabench.plugins import KINDS, Entry, load
from metabench.presets import Preset
from metabench.records.cell import Spec
from metabench.settings import Setting, describe_settings
from metabench.suite import Suite, installed_suites, read
from metabench.suite.toml_text import toml_value
from metabench.suite.tuning import rates


@click.command(
    epilog="""\b
Examples:
  metabench show quick
  metabench show maml
  metabench show ./my-suite.toml
"""
)
@click.argument("name")
def command(name: str) -> int:
    """Explain NAME: a suite with its cells, or a component with its help and all of its settings."""
    registry = load()
    suites = installed_suites(registry)
    if name in suites or name.endswith(".toml"):
        say(_suite(read(registry, name)))
        return 0
    entries = [registry.entries(kind)[name] for kind in KINDS if name in registry.entries(kind)]
    if not entries:
        for problem in registry.problems:
            say(f"warning: {problem}", err=True)
        names = [*suites, *(n for kind in KINDS for n in registry.names(kind))]
        raise UnknownComponent(f"nothing is called {name!r}; {did_you_mean(name, names)}")
    say("\n\n".join(_component(entry) for entry in entries))
    return 0


def _suite(suite: Suite) -> str:
    rows: list[list[Any]] = [
        [c.group, c.algorithm, c.network or "", c.data_text, c.test.short,
         f"{c.backend} {c.ranks if c.ranks > 1 else ''}".strip(), c.budget.steps, c.budget.tasks, c.seed]
        for c in suite.cells
    ]  # fmt: skip
    heads = ["group", "algorithm", "network", "data set", "task", "backend", "steps", "tasks", "seed"]
    minutes = f", about {suite.minutes:g} min" if suite.minutes else ""
    title = f"suite {suite.name}, version {suite.version}: {suite.title}\n{suite.path}{minutes}\n"
    description = [suite.description.strip(), ""] if suite.description else []
    table = tabulate([[str(v) for v in row] for row in rows], heads, disable_numparse=True)
    return "\n".join([title, *description, table])


def _component(entry: Entry) -> str:
    rows = [[s.name, s.type_text, _default(s), s.help + _bounds(s)] for s in describe_settings(entry.cls)]
    head = f"{entry.kind} {entry.name} ({entry.source}, {entry.path})\n{state(entry)}\n"
    table = tabulate(rows, ["setting", "type", "default", "what it is"], disable_numparse=True,
                     maxcolwidths=[None, None, None, 70]) if rows else "It has no settings."  # fmt: skip
    return "\n".join(
        [head, inspect.cleandoc(entry.cls.__doc__ or ""), "", table, *_presets(entry), *_space(entry)]
    )


def _presets(entry: Entry) -> list[str]:
    """Return the component's presets as a table, with what a suite's cell writes to have the first."""
    presets: Mapping[str, Preset] = entry.cls.presets
    if not presets:
        return []
    rows = [[name, settings_text(preset), preset.cell, preset.source] for name, preset in presets.items()]
    table = tabulate(rows, ["preset", "settings", "beside it in the cell", "source"], disable_numparse=True,
                     maxcolwidths=[None, 30, 40, 40])  # fmt: skip
    written = f'{{name = "{entry.name}", preset = "{next(iter(presets))}"}}'
    return ["", f"Presets, such as {entry.kind} = {written}:\n", table]


def _space(entry: Entry) -> list[str]:
    """Return what a search of the algorithm's settings varies where the suite states no space."""
    if entry.kind != "algorithm" or any(s.default is MISSING for s in describe_settings(entry.cls)):
        return []
    space = entry.cls.space or rates(Spec.of(entry.cls, {}), entry.cls)
    axes = ", ".join(f"{name} = {toml_value(axis)}" for name, axis in space.items())
    return ["", f"A search of its settings (tune) varies by default: {axes}"] if axes else []


def settings_text(preset: Preset) -> str:
    """Return the settings of a preset as a suite file would have them."""
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in preset.settings.items())


def _default(setting: Setting) -> str:
    """The default as a suite file would have it, which has no word for None."""
    if setting.default is MISSING:
        return "required"
    return "none" if setting.default is None else json.dumps(setting.default, ensure_ascii=False)


def _bounds(setting: Setting) -> str:
    bounds = []
    if setting.choices is not None:
        bounds.append("one of " + ", ".join(map(str, setting.choices)))
    limits = {"at least": setting.at_least, "above": setting.above, "at most": setting.at_most}
    bounds += [f"{word} {bound:g}" for word, bound in limits.items() if bound is not None]
    return f" ({'; '.join(bounds)})" if bounds else ""
