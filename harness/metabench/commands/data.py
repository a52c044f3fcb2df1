"""`metabench data list | fetch | verify | path | manifest`."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metabench.commands.terminal import say
from metabench.errors import DataError, RequestError
from metabench.records.protocol import SAMPLINGS, Protocol

if TYPE_CHECKING:
    from metabench.contracts import Dataset
    from metabench.data.remote import Progress
    from metabench.records.cell import Spec

Span = int | list[int]


def _span(context: click.Context, option: click.Parameter, text: str) -> Span:
    """Return a number of at least 1, `5`, or both ends of a range of them, `5-20`."""
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text)
    ends = [int(end) for end in match.groups() if end] if match else []
    if not ends or not 1 <= ends[0] <= ends[-1]:
        raise click.BadParameter(f"must be a number of at least 1, or a range such as 5-20, got {text!r}")
    return ends[0] if len(ends) == 1 else ends


_SET = click.option(
    "--set", "given", multiple=True, metavar="KEY=VALUE", help="A setting of the data set, as in a suite."
)


@click.group(
    epilog="""\b
Examples:
  metabench data list
  metabench data fetch omniglot
  metabench data verify omniglot --set split=lake
  metabench data manifest omniglot-small --ways 5 --shots 1 --out tasks.npz
"""
)
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="The data folder (METABENCH_DATA)."
)
def command(data: Path | None) -> None:
    """Fetch, check and find data sets, and export the tasks that are drawn from them."""
    if data is not None:
        os.environ["METABENCH_DATA"] = str(data.absolute())


@command.command("list", epilog="Example: metabench data list")
def list_() -> int:
    """List the data sets, their classes per split, and whether their files are here."""
    from tabulate import tabulate

    from metabench.data import data_folder
    from metabench.errors import MetabenchError, SettingError
    from metabench.plugin_calls import plugin_call
    from metabench.plugins import load
    from metabench.settings import make
    from metabench.text import printable

    rows = []
    for entry in load().entries("dataset").values():
        try:
            dataset = make(entry.cls)
        except SettingError:
            rows.append([entry.name, "", "", "yours: its settings say where"])
            continue
        try:
            with plugin_call("unusable: its description"):
                rows.append([entry.name, *_summary(dataset)])
        except MetabenchError as error:  # of a plugin, or damaged data; the list goes on
            rows.append([entry.name, "", "", printable(str(error))])
    click.echo(tabulate(rows, ["name", "classes", "input", "state"], disable_numparse=True))
    click.echo(f"\ndata folder: {data_folder()}")
    return 0


@command.command(epilog="Example: metabench data fetch omniglot")
@click.argument("names", nargs=-1, required=True)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def fetch(names: Sequence[str], quiet: bool) -> int:
    """Fetch the files of the data sets NAMES; an interrupted download is resumed."""
    from metabench.data.remote import fetch as download

    with _bar(quiet) as progress:
        for name in names:
            dataset = _dataset(name, ())
            files = _files(dataset)
            if not files:
                _require_data(dataset)  # raises with what is absent and cannot be downloaded
                click.echo(f"{name} needs no files", err=True)
            for file in files:
                place = download(file, progress)
                if not quiet:
                    click.echo(f"{place} is here", err=True)
    return 0


@command.command(epilog="Example: metabench data verify omniglot")
@click.argument("name")
@_SET
def verify(name: str, given: Sequence[str]) -> int:
    """Check a data set: digests of files, counts, blank, equal and like examples, and tasks of each split."""
    from metabench.data.checks import verify as check

    levels = Counter[str]()
    for finding in check(_dataset(name, given)):
        say(finding)  # names of classes and files come from somebody's archive
        levels[finding.level] += 1
    faults, notes = levels["FAULT"], levels["note"]
    summary = f"{faults} faults" if faults else f"sound in {levels['ok']} checks, {notes} notes"
    click.echo(f"{name}: {summary}")
    return 1 if faults else 0


@command.command(epilog="Example: metabench data path omniglot")
@click.argument("name")
@_SET
def path(name: str, given: Sequence[str]) -> int:
    """Print where the files of a data set lie, or would lie, one a line."""
    dataset = _dataset(name, given)
    own = [getattr(dataset, method, None) for method in ("folder", "file")]  # or settings of these names
    places = [str(file.place) for file in _files(dataset)] or [
        str(place()) for place in own if callable(place)
    ]
    click.echo("\n".join(places) if places else f"{name} needs no files", err=not places)
    return 0


@command.command(epilog="Example: metabench data manifest glyphs --ways 20 --shots 1 --out tasks.npz")
@click.argument("name", required=False)
@_SET
@click.option(
    "--split", type=click.Choice(("train", "validation", "test")), default="test", show_default=True
)
@click.option("--ways", callback=_span, default="5", show_default=True, metavar="N[-M]")
@click.option("--shots", callback=_span, default="1", show_default=True, metavar="N[-M]")
@click.option("--queries", callback=_span, default="15", show_default=True, metavar="N[-M]")
@click.option("--sampling", type=click.Choice(SAMPLINGS), help="How shapes are drawn, as in a suite.")
@click.option("--tasks", type=click.IntRange(1), default=600, show_default=True)
@click.option("--seed", type=int, default=2026, show_default=True, help="The evaluation's seed.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the tasks here (.npz).")
@click.option(
    "--check", type=click.Path(dir_okay=False, path_type=Path), help="Draw the tasks of this file again."
)
def manifest(
    name: str | None, given: Sequence[str], split: Any, ways: Span, shots: Span, queries: Span,
    sampling: str | None, tasks: int, seed: int, out: Path | None, check: Path | None,
) -> int:  # fmt: skip
    """Write which classes and images tasks are made of, or check that a file's tasks are drawn here too.

    A range such as --ways 5-20 gives tasks of different shapes, as `ways = [5, 20]` does in a suite.
    """
    from metabench.data.manifests import make_manifest, read_manifest
    from metabench.plugins import load

    if check is not None:
        stored = read_manifest(check)
        dataset = load().make("dataset", stored.dataset)
        _require_data(dataset)
        from metabench.device.device import Device  # torch comes only where there is something to load

        numbers = stored.arrays["index"].tolist()
        source = dataset.load(Device())
        drawn = make_manifest(stored.dataset, source, stored.split, stored.protocol, numbers, stored.seed)
        fault = stored.difference(drawn)
        click.echo(f"{check}: {len(stored)} tasks, " + (f"different: {fault}" if fault else "the same here"))
        return 1 if fault else 0
    if name is None or out is None:
        raise RequestError("name a data set and --out FILE, or --check FILE")
    dataset = _dataset(name, given)
    _require_data(dataset)
    from metabench.device.device import Device

    protocol = _protocol({"ways": ways, "shots": shots, "queries": queries}, sampling)
    source = dataset.load(Device())
    make_manifest(_spec(dataset, given), source, split, protocol, range(tasks), seed).write(out)
    click.echo(f"{out}: {tasks} tasks of {name}, split {split}")
    return 0


def _protocol(numbers: Mapping[str, Span], sampling: str | None) -> Protocol:
    """Return the protocol of these numbers and ranges, as a suite would have it."""
    from metabench.settings import make
    from metabench.suite.protocols import protocol_record

    table = {**numbers, **({} if sampling is None else {"sampling": sampling})}
    return make(*protocol_record(table))


def _dataset(name: str, given: Sequence[str]) -> Dataset:
    from metabench.plugins import load
    from metabench.records.cell import Spec

    dataset: Dataset = load().make("dataset", Spec(name, _settings(given)))
    return dataset


def _spec(dataset: Dataset, given: Sequence[str]) -> Spec:
    from metabench.records.cell import Spec

    return Spec.of(type(dataset), _settings(given))


def _settings(given: Sequence[str]) -> dict[str, Any]:
    """Return KEY=VALUE pairs; a value is read as TOML, or else as a plain string."""
    settings = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals:
            raise RequestError(f"--set takes KEY=VALUE, got {pair!r}")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
    return settings


def _files(dataset: Dataset) -> Sequence[Any]:
    from metabench.data import FilesDataset

    return dataset.files() if isinstance(dataset, FilesDataset) else ()


def _require_data(dataset: Dataset) -> None:
    missing = dataset.missing()
    if missing is not None:
        raise DataError(missing)


def _summary(dataset: Dataset) -> tuple[str, str, str]:
    """Return the classes per split, the shape of an input, and whether the data is here."""
    facts = dataset.describe()
    classes = " + ".join(map(str, facts.classes.values())) if any(facts.classes.values()) else "endless"
    return classes, "×".join(map(str, facts.input_shape)), _state(dataset)


def _state(dataset: Dataset) -> str:
    missing = dataset.missing()
    if missing is None:
        return "ready"
    files = _files(dataset)
    absent = [file for file in files if not file.here()]
    if not absent or not all(file.urls for file in absent):
        return missing  # there is nothing to fetch, or a person must
    here = len(files) - len(absent)
    return f"{here} of {len(files)} files here; metabench data fetch {dataset.name}"


@contextmanager
def _bar(quiet: bool) -> Iterator[Progress]:
    """Yield a progress callback: bars on a terminal, otherwise a line per tenth, nothing if quiet."""
    if quiet or not sys.stderr.isatty():
        tenths: dict[str, int] = {}

        def line(name: str, done: int, size: int | None) -> None:
            tenth = 10 * done // size if size else done >> 26
            if not quiet and tenths.get(name) != tenth:
                tenths[name] = tenth
                of = f" of {size / 1e6:.1f}" if size else ""
                click.echo(f"{name}: {done / 1e6:.1f}{of} MB", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        bars: dict[str, Any] = {}

        def bar(name: str, done: int, size: int | None) -> None:
            if name not in bars:
                bars[name] = shown.add_task(name, total=size)
            shown.update(bars[name], completed=done, total=size)

        yield bar
