"""Writes the reference pages from the code: hooks, contracts, public rooms, suite file, results, commands.

    python docs/generate.py

A test fails where a page differs from what this writes.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import click

os.environ["COLUMNS"] = "100"

from rooms import OTHER_PAGES, ROOMS, class_section, doc, room_page, settings_table, signature

from metabench import (
    Algorithm,
    Backend,
    Dataset,
    Executor,
    Learner,
    LoggedRun,
    Logger,
    Metric,
    Network,
    Report,
    ReportContent,
    Source,
    contracts,
    hookspecs,
    records,
    suite,
)
from metabench.cli import COMMANDS, metabench
from metabench.commands.show import settings_text
from metabench.learning.statistics import TRANSDUCTIVE
from metabench.plugins import load
from metabench.suite import tables

REFERENCE = Path(__file__).parent / "reference"

SUITE_NOTES = {
    "name": "the name of the suite, which is also that of the file",
    "version": "a whole number, 1 or more; raise it with every change of what is measured",
    "title": 'one line for lists and tables; default `""`',
    "description": 'more about it, shown by `metabench show`; default `""`',
    "minutes": "what the whole suite takes, above 0; a run shows it before it starts; no default",
    "earlier_texts": "SHA-256 of earlier files of this version that asked for the same cells; `verify` takes "
    "results that were made with them; none by default",
    "defaults": "keys of a cell, merged under every entry of `cells`; default: none",
    "cells": "the entries, each written as `[[cells]]`; at least one",
}

CELL_NOTES = {
    "algorithm": "required",
    "network": "required by algorithms that have one, ignored by others",
    "dataset": "required",
    "test_dataset": "what is scored, where that is another data set than `dataset`, which is trained and "
    "validated on; both must be of one kind and input shape, and share no group",
    "backend": 'default `"cpu"`',
    "test": "the protocol of meta-test and validation, a table, see below; required",
    "train": "the protocol of meta-training where it differs: its keys replace those that the algorithm "
    "chooses, which are those of `test` for most. An algorithm that trains on batches or not at all has no "
    "such protocol, and `train` is a mistake in an entry all of whose algorithms are like that",
    "budget": "a table, see below",
    "evaluation": "a table, see below",
    "tune": "how the settings of the algorithm are searched, a table, see below and [tuning](../tuning.md); "
    "default: they are not",
    "seeds": "the training seeds, one cell each; default `[0]`. Test tasks have a seed of their own, "
    "`evaluation.seed`",
    "weights": "a file of safetensors that the learner starts from, or the file of a result whose state was "
    "kept, relative to the suite's file; also as a key of `algorithm`. As a key of `network` it is the "
    "network alone that starts from it",
    "group": 'the table of the report that the cell belongs to, such as `"scaling"`; default `"accuracy"`',
    "label": 'the name of this variant in tables instead of the algorithm\'s; default `""`',
    "expect": "a list of statuses, see below, that are no failure of this cell; default `[]`",
}


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the reference pages: file name → text."""
    return {
        "hooks.md": _hooks(),
        "contracts.md": _contracts(),
        "suite-file.md": _suite_file(),
        "results.md": _results(),
        "commands.md": _commands(),
        "algorithms.md": _algorithms(),
        **{f"{room}.md": _page(room_page(room, ROOM_HEADS.get(room, lambda: ())())) for room in ROOMS},
    }


def hook_names() -> list[str]:
    """Return every hook, in the order of a run."""
    return [name for name in vars(hookspecs) if name.startswith("metabench_")]


def command_lines() -> list[tuple[str, click.Command]]:
    """Return every command with its subcommands: `metabench data fetch` and so on."""
    lines = []
    for name in COMMANDS:
        command = metabench.get_command(click.Context(metabench), name)
        assert command is not None
        lines.append((f"metabench {name}", command))
        if isinstance(command, click.Group):
            inner = click.Context(command)
            for sub_name in command.list_commands(inner):
                sub = command.get_command(inner, sub_name)
                assert sub is not None
                lines.append((f"metabench {name} {sub_name}", sub))
    return lines


def help_of(line: str, command: click.Command) -> str:
    """Return what `--help` prints on a terminal of 100 columns."""
    settings = {**metabench.context_settings, "max_content_width": 100, "terminal_width": 100}
    return command.get_help(click.Context(command, info_name=line, **settings))


def _hooks() -> str:
    parts = ["# Hooks", _hook_head()]
    for name in hook_names():
        function = getattr(hookspecs, name)
        parts.append(f"## `{name}`\n\n```text\n{signature(name, function)}\n```\n\n{doc(function)}")
    return _page(parts)


def _hook_head() -> str:
    return _prose(
        "A plugin is a module that an entry point of the group `metabench` names. It implements any of these "
        "hooks, in the order of a run's life. Those that return a sequence bring components: they "
        "are called in the parent process when a command first asks for that kind, and each returns a list "
        "of classes (of folders, for suites). The worker of a cell imports the classes that its job names "
        "and nothing else. `metabench_progress` and `metabench_result` observe a run.\n\n"
        "A hook may take fewer arguments than are listed here, never other ones: a plugin whose hook has an "
        "unknown name or argument is left out with a message, and the rest works on."
    )


def _contracts() -> str:
    parts = [
        "# Contracts",
        _prose(
            f"This is contract version {contracts.CONTRACT_VERSION}; see [versions](../versions.md). A "
            "component is a frozen dataclass: its fields, made with `setting`, are its settings, and its "
            "docstring is its help. Everything is imported from `metabench` unless another module is "
            "named.\n\nAxes: T tasks, n support examples of a task, q query examples of a task, `*input` one "
            "example's shape."
        ),
    ]
    tuples = (contracts.Examples, contracts.Episodes)
    parts += [f"## {cls.__name__}\n\n{doc(cls)}" for cls in tuples]
    runtime = (Backend, Executor, Logger, LoggedRun, Report)
    for cls in (Algorithm, Learner, Network, Dataset, Source, Metric, *runtime):
        parts.append(class_section(cls, marks_defaults=True))
    parts += [
        "Cells, workloads and jobs: [metabench.records](records.md). Settings: "
        "[metabench.settings](settings.md). The device: [metabench.device](device.md). What a report is "
        "given: [metabench.report](report.md)."
    ]
    return _page(parts)


def _report_head() -> list[str]:
    text = "Every text in a report's content comes from somebody's result file: escape it for your format."
    return [text, class_section(ReportContent)]


ROOM_HEADS = {"report": _report_head}
"""Room → what its page begins with, after the room's docstring."""


def _suite_file() -> str:
    keys = {
        "the top of the file": (tables.SUITE_KEYS, SUITE_NOTES),
        "a cell, and `[defaults]`": (tables.CELL_KEYS, CELL_NOTES),
    }
    parts = ["# The suite file", doc(suite).replace("\n\nname = ", "\n\n```toml\nname = ", 1) + "\n```"]
    for where, (names, more) in keys.items():
        rows = ["| key | what it is |", "| --- | --- |", *(f"| `{name}` | {more[name]} |" for name in names)]
        parts.append(f"## Keys of {where}\n\n" + "\n".join(rows))
    parts.append(
        _prose(
            'A component stands as a name, `algorithm = "maml"`, or as a table with its settings, '
            '`algorithm = {name = "maml", inner_rate = 0.4}`; `metabench show maml` lists them. An entry of '
            "`cells` may have a table `sweep` too: each key is that of a cell or of a component's setting, "
            '`"algorithm.first_order"`, and its value the list to try: '
            "every combination becomes a cell. Mistakes are reported all at once, before anything runs."
        )
    )
    parts.append(
        _prose(
            'A `preset` among the settings, `algorithm = {name = "protonet", preset = "snell2017"}`, stands '
            "for those of a paper, which `metabench show protonet` lists with their source; a setting beside "
            "it wins. The cell records the settings that it stands for: with and without its name it is the "
            "same. A network may have settings that are usual for the data's inputs: `conv4` pools and keeps "
            "all places of images of 32 pixels and more, where nothing else is given."
        )
    )
    parts.append(
        _prose(
            "In `test` and `train` each of `ways`, `shots` and `queries` may be a range, `[5, 20]`, both "
            "ends included; `sampling` then says how the shape of a task is drawn: "
            '`"uniform"` (the default), each number by itself; `"uneven"`, shots for each class of a task; '
            '`"meta-dataset"`, by the rule of Meta-Dataset.'
        )
    )
    for title, cls in (("test", records.Protocol), ("train", records.Protocol), ("budget", records.Budget),
                       ("evaluation", records.Evaluation), ("tune", suite.Tune)):  # fmt: skip
        parts.append(f"## `{title}`\n\n{doc(cls)}\n\n" + settings_table(cls))
    rows = ["| status | tried again by a later run |", "| --- | --- |"]
    rows += [f"| `{status}` | {'no' if status.final else 'yes'} |" for status in records.Status]
    parts.append("## `expect`\n\nStatuses that are no failure of this cell:\n\n" + "\n".join(rows))
    return _page(parts)


def _results() -> str:
    parts = [
        "# The result of a cell",
        _prose(
            "`metabench run` writes one JSON file per cell, `results/local/<suite>-v<version>/<cell "
            "id>.json`. Raw values are kept, block times and per-task scores; intervals, speed-ups and tiers "
            f"are made when a report is. This is schema {records.SCHEMA}; `metabench.Result.from_json` reads "
            "it and older ones. Beside the fields below a file holds `digest` (of the cell), `mean` (of the "
            "scores) and `seal` (a digest of everything else). The JSON Schema is shipped as "
            "`metabench/records/result.schema.json`."
        ),
    ]
    parts += [class_section(getattr(records, name)) for name in OTHER_PAGES["records"]["results.md"]]
    return _page(parts)


def _commands() -> str:
    parts = ["# Commands"]
    parts.append(_prose(
        "Exit status: 0 done, 1 a cell or a check failed or the disk is full, 2 a mistake in the request "
        "(also a path in it that cannot be read or written), 130 interrupted by Ctrl-C or SIGTERM."
    ))  # fmt: skip
    parts.append(f"## `metabench`\n\n```text\n{help_of('metabench', metabench)}\n```")
    for line, command in command_lines():
        parts.append(f"## `{line}`\n\n```text\n{help_of(line, command)}\n```")
    return _page(parts)


def _algorithms() -> str:
    """The catalogue, from the registry; the algorithms over learn2learn have a page of their own."""
    registry = load()
    names = [name for name in registry.names("algorithm") if not name.startswith("l2l-")]
    classes = {name: registry.find("algorithm", name).cls for name in names}
    intro = (
        "Every built-in algorithm but those [over learn2learn](../learn2learn.md), which have a page of "
        "their own. Where predictions may depend on the other queries of a task, evaluation is transductive: "
        "here that is so where batch norm takes their statistics, as the setting `statistics` says, whose "
        "default is in the last column. The harness checks each learner's claim by permuting and splitting "
        "the queries, and a result says "
        "what it found."
    )
    rows = ["| algorithm | learns from | network | transductive | statistics |",
            "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, cls in classes.items():
        statistics = {field.name: field.default for field in dataclasses.fields(cls)}.get("statistics")
        transductive = "with batch norm" if statistics in TRANSDUCTIVE else "no"
        claims = (transductive, f'`"{statistics}"`' if statistics else "–")
        network = "needed" if cls.needs_network else "none"
        rows.append(f"| `{name}` | {', '.join(sorted(cls.kinds))} | {network} | {' | '.join(claims)} |")
    parts = ["# Algorithms", _prose(intro), "\n".join(rows)]
    parts += [
        f"## {name}\n\n{doc(cls)}\n\n{settings_table(cls)}{_presets(cls)}" for name, cls in classes.items()
    ]
    return _page(parts)


def _presets(cls: type[Algorithm]) -> str:
    """The presets of a component as a table; nothing where it has none."""
    if not cls.presets:
        return ""
    rows = ["| preset | settings | beside it in the cell | source |", "| --- | --- | --- | --- |"]
    for name, preset in cls.presets.items():
        cell = f"`{preset.cell}`" if preset.cell else "–"
        rows.append(f"| `{name}` | `{settings_text(preset)}` | {cell} | {preset.source} |")
    return "\n\n" + "\n".join(rows)


def _prose(text: str) -> str:
    """Paragraphs in lines of at most 110 characters."""
    parts = [textwrap.fill(part, 110, break_on_hyphens=False) for part in text.split("\n\n")]
    return "\n\n".join(parts)


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
