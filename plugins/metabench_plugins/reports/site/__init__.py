"""The leaderboard site: static pages that work from a file:// address, without any network."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, ClassVar

from metabench import Report, ReportContent, setting
from metabench.errors import RequestError
from metabench.records import Row, Status, Summary, suite_folder
from metabench.report import (
    ABSENT,
    MIB,
    SEVERAL_MACHINES,
    Section,
    best_first,
    flags,
    further_titles,
    printable,
    ranked,
    reference_text,
    score_text,
    speed,
    task,
)
from metabench_plugins.reports.csv import write_csv
from metabench_plugins.reports.plots import draw

BENEATH = ("replication", "time-to-target", "scaling", "weak-scaling", "devices", "capacity", "cost")
"""The tables beneath the leaderboard of a suite."""

MOST_LINES = 200  # of a plain table on a page

Cells = Mapping[str, Any]
"""A row of a leaderboard as the page's script reads it: value by field of COLUMNS."""

COLUMNS: Sequence[tuple[str, str, str, str]] = (
    # field, title, kind, help
    ("rank", "tier", "number", "1 + the rows in better tiers; the rules say when a tier begins"),
    ("method", "method", "text", "algorithm, or what the suite calls it"),
    ("task", "task", "text", "data set, ways and shots"),
    ("score", "score", "number", "mean over seeds and tasks with half a 95 % interval"),
    ("half", "half of the 95 % interval", "hidden", ""),
    ("new_half", "new classes ±", "number", "half a 95 % interval that holds for new classes too"),
    ("ranking", "ranking", "text", "what the tier is among: rows of one budget, transductive ones apart"),
    ("metric", "metric", "text", "what the score is"),
    ("network", "network", "text", ""),
    ("seeds", "seeds", "number", "training seeds"),
    ("tasks", "test tasks", "number", ""),
    ("labels", "labels", "text", "transductive, budget-limited, unstable times; see the rules"),
    ("published", "published", "text", "published counterpart, and whether this agrees"),
    ("training", "training s", "number", "training time, mean over seeds"),
    ("speed", "tasks/s", "number", "training tasks a second, steady blocks"),
    ("adaptation", "adapt ms/task", "number", "adaptation time of one test task"),
    ("memory", "peak MiB", "number", "peak host memory"),
    ("remarks", "remarks", "text", "what disturbed the times"),
    ("steps", "steps", "number", "training steps"),
    ("backend", "backend", "text", ""),
    ("hardware", "hardware", "text", "machine that it ran on"),
    ("date", "date", "text", ""),
    ("plugin", "plugin", "text", "distribution and version of the algorithm"),
    ("reproduce", "reproduce", "text", "the command that runs the first seed again"),
    ("raw", "raw results", "link", "one file per seed"),
)


@dataclass(frozen=True, kw_only=True)
class Site(Report):
    """Leaderboards as a static site: a page per suite, failures, rules; nothing is fetched from anywhere."""

    name: ClassVar[str] = "site"
    pictures: int = setting(
        24, "maximum pictures of all suites together, at least one of each (0 = none)", at_least=0
    )

    @classmethod
    def unavailable(cls) -> str | None:
        """None where Jinja is installed."""
        try:
            import jinja2  # noqa: F401 - only whether it is there
        except ImportError:
            return "Jinja2 is absent: pip install 'metabench[site]'"
        return None

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Write index.html, a page per suite, failures.html, rules.html and what they link to."""
        reason = self.unavailable()
        if reason is not None:
            raise RequestError(reason)
        names = sorted({(row["suite"], row["version"]) for row in content.rows})
        plots = max(self.pictures // len(names), 1) if names and self.pictures else 0
        root = _root(content)
        slugs = _slugs([suite_folder(*name) for name in names])
        suites = [
            _suite(content.of_suite(*name), *name, slug, folder, plots, root)
            for name, slug in zip(names, slugs, strict=True)
        ]
        failures = [_failure(row) for row in content.rows if row["status"] != Status.OK]
        shared = {"suites": suites, "made_by": installed("metabench")}
        pages: list[tuple[str, str, dict[str, Any]]] = [
            ("index.html", "index.html.jinja",
             {"title": "Leaderboards", "problems": _problems(content, root)}),
            ("failures.html", "failures.html.jinja", {"title": "Failures", "failures": failures}),
            ("rules.html", "rules.html.jinja", {"title": "Rules"}),
            *((s["file"], "suite.html.jinja", {"title": s["name"], "suite": s}) for s in suites),
        ]  # fmt: skip
        render = _renderer()
        for file, template, variables in pages:
            (folder / file).write_text(render(template, {**shared, **variables}), encoding="utf-8")
        _copy_static(folder / "static")
        return [folder / file for file, _, _ in pages]


def _problems(content: ReportContent, root: str) -> list[str]:
    return [printable(str(problem).replace(f"{root}{os.sep}", "")) for problem in content.problems]


def _root(content: ReportContent) -> str:
    """Return the folder that all results lie in: paths on the site start there, not at the builder's root."""
    files = [*(row["file"] for row in content.rows if row["file"]), *(p.file for p in content.problems)]
    return os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""


def _renderer() -> Callable[[str, Mapping[str, Any]], str]:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files(__name__) / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    return lambda template, variables: str(environment.get_template(template).render(variables))


def _copy_static(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with as_file(files(__name__) / "static") as source:
        for file in sorted(Path(source).iterdir()):
            if file.is_file():
                shutil.copyfile(file, target / file.name)


def _suite(
    content: ReportContent, suite: str, version: int, slug: str, folder: Path, plots: int, root: str
) -> dict[str, Any]:
    """Return what the page of a suite shows; writes its CSV, its plots and its raw results."""
    # series have tables of their own; a suite of nothing else shows them here
    summaries = sorted(ranked(content.summaries), key=best_first)
    titles = further_titles(summaries)
    lines = [{**_line(summary, slug, folder, root), **_further(summary, titles)} for summary in summaries]
    if len({line["metric"] for line in lines}) == 1:
        lines = [line | {"metric": None} for line in lines]
    names = {f"further{number}": title for number, title in enumerate(titles)}
    plain_lines = [{names.get(k, k): v for k, v in line.items() if k != "raw"} for line in lines]
    write_csv(plain_lines, folder / f"{slug}.csv")
    drawn = _plots(content, folder, plots)
    return {
        "name": printable(f"{suite} v{version}"),
        "file": f"{slug}.html",
        "csv": f"{slug}.csv",
        "lines": len(summaries),
        "results": len(content.rows),
        "failures": sum(row["status"] != Status.OK for row in content.rows),
        "machines": sorted({printable(row["machine"]) for row in content.rows}),
        "date": printable(max((row["date"] for row in content.rows), default="")),
        "notes": [printable(note) for note in _notes(content, summaries)],
        "tables": [_plain_table(table) for table in content.sections(BENEATH) if table],
        "pictures": drawn,
        "cut": plots if 0 < plots <= len(drawn) else 0,
        "commands": sorted({printable(row["command"]) for row in content.rows if row["command"]})[:50],
        "citation": _citation(suite, version, content),
        "data": {"name": slug, "rows": lines, "columns": _columns(lines, titles)},
    }


def _notes(content: ReportContent, summaries: Sequence[Summary]) -> list[str]:
    (scores,) = content.sections(["scores"])
    several = len({summary["machine"] for summary in summaries}) > 1
    return [*scores.shown()[2], *([SEVERAL_MACHINES] if several else [])]


def _further(summary: Summary, titles: Sequence[str]) -> dict[str, Any]:
    """Return the further metrics of a row: a figure and its text for each title, by its number."""
    figures: dict[str, Any] = {}
    for number, title in enumerate(titles):
        metric = summary["further"].get(title)
        value = metric["value"] if metric is not None else None
        figures[f"further{number}"] = value
        if metric is not None and value is not None:
            figures[f"further{number}"] = value * (100.0 if metric["unit"] == "share" else 1.0)
            figures[f"_further{number}"] = score_text(value, metric["half_width"], metric["unit"])
    return figures


def _columns(lines: Sequence[Cells], further: Sequence[str]) -> list[dict[str, Any]]:
    """Return the columns that a leaderboard has values for, as the page's script reads them.

    further: the titles of further metrics, whose columns come after that of the metric.
    """
    after = next(number for number, column in enumerate(COLUMNS, 1) if column[0] == "metric")
    columns = [
        *COLUMNS[:after],
        *(
            (f"further{number}", printable(title), "number", "of the same predictions; it ranks nothing")
            for number, title in enumerate(further)
        ),
        *COLUMNS[after:],
    ]
    return [
        {"field": field, "title": title, "kind": kind, "help": help or title,
         "number": kind in ("number", "hidden")}
        for field, title, kind, help in columns
        if any(line[field] is not None for line in lines)
    ]  # fmt: skip


def _plain_table(section: Section[Any]) -> dict[str, Any]:
    """Return a table without scripts, cut where a page would become too long to read."""
    left_out = max(len(section.records) - MOST_LINES, 0)
    columns, lines, notes = replace(section, records=section.records[:MOST_LINES]).shown()
    if left_out:
        notes.insert(0, f"{left_out} more lines: metabench report RESULTS --table {section.name} --lines 0")
    return {
        "title": section.title,
        "headers": [(printable(column.header), column.right) for column in columns],
        "lines": [
            [(printable(cell), column.right) for cell, column in zip(line, columns, strict=True)]
            for line in lines
        ],
        "struck": section.struck()[:MOST_LINES],
        "notes": [printable(note) for note in notes],
    }


def _line(summary: Summary, slug: str, folder: Path, root: str) -> dict[str, Any]:
    scale = 100.0 if summary["unit"] == "share" else 1.0
    raw = [_raw(file, slug, summary["machine"], folder) for file in summary["files"] if file]
    labels, published = flags(summary), reference_text(summary)
    return {
        "withdrawn": bool(summary["withdrawn"]),
        "rank": summary["rank"],
        "method": printable(summary["method"]),
        "task": printable(f"{summary['dataset']} {task(summary)}"),
        "score": _finite(summary["mean"] * scale),
        "_score": score_text(summary["mean"], summary["half_width"], summary["unit"]),
        "half": None if summary["half_width"] is None else _finite(round(summary["half_width"] * scale, 4)),
        "new_half": _rounded(summary["new_half_width"], scale),
        "ranking": printable(summary["ranking"]) or None,
        "metric": printable(summary["metric"]),
        "network": printable(summary["network"]),
        "seeds": summary["seeds"],
        "tasks": summary["tasks"],
        "labels": "" if labels == ABSENT else printable(labels),
        "remarks": printable("; ".join(summary["warnings"])) or None,
        "published": None if published == ABSENT else printable(published),
        "training": _rounded(summary["training_seconds"]),
        "speed": _rounded(summary["tasks_per_second"]),
        "_speed": speed(summary),
        "adaptation": _rounded(summary["adapt_seconds"], 1000),
        "memory": _rounded(summary["memory_host"], 1 / MIB),
        "steps": summary["steps"] if summary["train"] else None,
        "backend": printable(summary["backend"]) + (f" × {summary['ranks']}" if summary["ranks"] > 1 else ""),
        "hardware": printable(summary["hardware"] or summary["machine"]),
        "date": printable(summary["date"]),
        "plugin": printable(summary["plugin"]),
        "reproduce": f"metabench reproduce {printable(_published(summary['files'][0], root))}"
        if raw
        else None,
        "raw": raw or None,
    }


def _published(file: str, root: str) -> str:
    """Return the path of a result in a checkout: from its folder `results` on, or else from `root`."""
    parts = Path(file).parts
    if "results" in parts:
        at = len(parts) - 1 - parts[::-1].index("results")
        return Path(*parts[at:]).as_posix()
    return Path(os.path.relpath(file, root)).as_posix()


def _raw(file: str, slug: str, machine: str, folder: Path) -> list[str]:
    """Copy the result's own file into the site and return a link to it: [text, relative address]."""
    source = Path(file)
    target = folder / "raw" / slug / _slug(machine) / f"{_slug(source.stem)}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while target.exists():  # of another file, whose name reads the same
        number += 1
        target = target.with_name(f"{_slug(source.stem)}-{number}.json")
    shutil.copyfile(source, target)  # never a link: a site may be edited, a result may not
    seed = re.search(r"-s(\d+)-", source.stem)
    return [f"seed {seed[1]}" if seed else "file", target.relative_to(folder).as_posix()]


def _plots(content: ReportContent, folder: Path, most: int) -> list[tuple[str, str]]:
    """Draw the plots of a suite and return captions with relative addresses."""
    if not most:
        return []
    target = folder / "plots"
    target.mkdir(exist_ok=True)
    return [(plot.caption, f"plots/{plot.files[0].name}") for plot in draw(content, target, ("svg",), most)]


def _citation(suite: str, version: int, content: ReportContent) -> str:
    year = max((row["date"][:4] for row in content.rows), default="")
    clean = re.sub(r"[{}\\%]", "", printable(suite))
    return (
        f"@misc{{metabench-{_slug(suite)}-v{version},\n"
        f"  title  = {{metabench leaderboard {clean}, version {version}}},\n"
        f"  author = {{{{metabench contributors}}}},\n"
        f"  year   = {{{re.sub('[^0-9]', '', year)}}},\n"
        f"  note   = {{metabench {installed('metabench')}, {len(content.rows)} results}}\n}}"
    )


def _failure(row: Row) -> dict[str, Any]:
    return {
        "suite": printable(row["suite"]),
        "version": row["version"],
        "cell": printable(row["cell"]),
        "status": printable(row["status"]),
        "reason": printable(row["reason"]),
        "machine": printable(row["machine"]),
        "expected": row["expected"],
        "log_tail": [printable(line) for line in row["log_tail"]],
    }


def _rounded(value: float | None, scale: float = 1.0) -> float | None:
    return None if value is None else _finite(float(f"{value * scale:.4g}"))


def _finite(value: float) -> float | None:
    """Return a figure that JSON has: a browser reads no page with NaN in it."""
    return value if math.isfinite(value) else None


def _slugs(names: Sequence[str]) -> list[str]:
    """Return a name for the files of each suite, none of them twice."""
    slugs: list[str] = []
    for name in names:
        slug = plain = _slug(name)
        number = 1
        while slug in slugs:
            number += 1
            slug = f"{plain}-{number}"
        slugs.append(slug)
    return slugs


def _slug(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("-.")[:150] or "unnamed"
