"""The leaderboard site: static pages that work from a file:// address, without any network."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, ClassVar

from metabench import Report, ReportContent, setting
from metabench.errors import RequestError
from metabench.records.cell import Status, task_text
from metabench.report import SEVERAL_MACHINES, Section, best_first, flags, ranked, reference_text, speed
from metabench.text import printable, score_text
from metabench_plugins.reports.csv import write_csv
from metabench_plugins.reports.plots import draw

Record = Mapping[str, Any]

BENEATH = ("time-to-target", "scaling", "weak-scaling", "devices", "capacity", "cost")
"""The tables beneath the leaderboard of a suite."""

MOST_LINES = 200  # of a plain table on a page

COLUMNS: Sequence[tuple[str, str, str, str]] = (
    # field, title, kind, help
    ("rank", "tier", "number", "1 + the rows in better tiers; the rules say when a tier begins"),
    ("method", "method", "text", "algorithm, or what the suite calls it"),
    ("task", "task", "text", "data set, ways and shots"),
    ("score", "score", "number", "mean over seeds and tasks with half a 95 % interval"),
    ("half", "half of the 95 % interval", "hidden", ""),
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
        """Writes index.html, a page per suite, failures.html, rules.html and what they link to."""
        reason = self.unavailable()
        if reason is not None:
            raise RequestError(reason)
        names = sorted({(row["suite"], row["version"]) for row in content.rows})
        each = max(self.pictures // len(names), 1) if names and self.pictures else 0
        root = _root(content)
        suites = [_suite(content.of_suite(s, v), s, v, folder, each, root) for s, v in names]
        failures = [_shown(row) for row in content.rows if row["status"] != Status.OK]
        shared = {"suites": suites, "made_by": installed("metabench")}
        pages: list[tuple[str, str, dict[str, Any]]] = [
            ("index.html", "index.html.jinja",
             {"title": "Leaderboards", "problems": _problems(content, root)}),
            ("failures.html", "failures.html.jinja", {"title": "Failures", "failures": failures}),
            ("rules.html", "rules.html.jinja", {"title": "Rules"}),
            *((s["file"], "suite.html.jinja", {"title": s["name"], "suite": s}) for s in suites),
        ]  # fmt: skip
        render = _renderer()
        for file, template, told in pages:
            (folder / file).write_text(render(template, {**shared, **told}), encoding="utf-8")
        _copy_static(folder / "static")
        return [folder / file for file, _, _ in pages]


def _problems(content: ReportContent, root: str) -> list[str]:
    return [printable(str(problem).replace(f"{root}{os.sep}", "")) for problem in content.problems]


def _root(content: ReportContent) -> str:
    """The folder that all results lie in: addresses are told from there on, not from the builder's root."""
    files = [*(str(row["file"]) for row in content.rows if row["file"]), *(p.file for p in content.problems)]
    return os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""


def _renderer() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files(__name__) / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return lambda template, told: environment.get_template(template).render(told)


def _copy_static(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with as_file(files(__name__) / "static") as source:
        for file in sorted(Path(source).iterdir()):
            if file.is_file():
                shutil.copyfile(file, target / file.name)


def _suite(
    content: ReportContent, suite: str, version: Any, folder: Path, pictures: int, root: str
) -> dict[str, Any]:
    name = f"{suite} v{version}"
    slug = _slug(f"{suite}-v{version}")
    # scaling cells have a table of their own; a suite of nothing else shows them here
    cells = sorted(ranked(content.summaries), key=best_first)
    lines = [_line(cell, slug, folder, root) for cell in cells]
    if len({line["metric"] for line in lines}) == 1:
        lines = [line | {"metric": None} for line in lines]
    write_csv([{k: v for k, v in line.items() if k != "raw"} for line in lines], folder / f"{slug}.csv")
    (scores,) = content.sections(["scores"])
    told = list(scores.shown()[2])
    if len({cell["machine"] for cell in cells}) > 1:
        told.append(SEVERAL_MACHINES)
    made = _pictures(content, folder, pictures)
    return {
        "name": printable(name),
        "file": f"{slug}.html",
        "csv": f"{slug}.csv",
        "lines": len(cells),
        "results": len(content.rows),
        "failures": sum(row["status"] != Status.OK for row in content.rows),
        "machines": sorted({row["machine"] for row in content.rows}),
        "date": max((row["date"] for row in content.rows), default=""),
        "notes": [printable(note) for note in told],
        "tables": [_plain_table(section) for section in content.sections(BENEATH) if section],
        "pictures": made,
        "cut": pictures if 0 < pictures <= len(made) else 0,
        "commands": sorted({printable(row["command"]) for row in content.rows if row["command"]})[:50],
        "citation": _citation(suite, version, content),
        "data": {"name": slug, "rows": lines,
                 "columns": [{"field": field, "title": title, "kind": kind, "help": help or title,
                              "number": kind in ("number", "hidden")}
                             for field, title, kind, help in COLUMNS
                             if any(line[field] is not None for line in lines)]},
    }  # fmt: skip


def _plain_table(section: Section) -> dict[str, Any]:
    """A table without scripts, cut where a page would become too long to read."""
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
        "notes": [printable(note) for note in notes],
    }


def _line(cell: Record, slug: str, folder: Path, root: str) -> dict[str, Any]:
    share = 100.0 if cell["unit"] == "share" else 1.0
    raw = [_raw(file, slug, cell["machine"], folder) for file in cell["files"] if file]
    labels = flags(cell)
    return {
        "rank": cell["rank"],
        "method": printable(cell["method"]),
        "task": printable(f"{cell['dataset']} {task_text(cell['ways'], cell['shots'])}"),
        "score": cell["mean"] * share,
        "_score": score_text(cell["mean"], cell["half_width"], cell["unit"]),
        "half": None if cell["half_width"] is None else round(cell["half_width"] * share, 4),
        "metric": printable(cell["metric"]),
        "network": printable(cell["network"]),
        "seeds": cell["seeds"],
        "tasks": cell["tasks"],
        "labels": "" if labels == "–" else printable(labels),
        "remarks": printable("; ".join(cell["remarks"])) or None,
        "published": printable(reference_text(cell)) if cell["references"] else None,
        "training": _rounded(cell["training_seconds"]),
        "speed": _rounded(cell["tasks_per_second"]),
        "_speed": speed().show(cell),
        "adaptation": _rounded(cell["adapt_seconds"], 1000),
        "memory": _rounded(cell["memory_host"], 1 / 2**20),
        "steps": cell["steps"] if cell["train"] else None,
        "backend": printable(cell["backend"]) + (f" × {cell['ranks']}" if cell["ranks"] > 1 else ""),
        "hardware": printable(cell["hardware"] or cell["machine"]),
        "date": printable(cell["date"]),
        "plugin": printable(cell["plugin"]),
        "reproduce": f"metabench reproduce {printable(_published(cell['files'][0], root))}" if raw else None,
        "raw": raw or None,
    }


def _published(file: str, root: str) -> str:
    """The path of a result in a checkout: from its folder `results` on, or else from `root`."""
    parts = Path(file).parts
    if "results" in parts:
        at = len(parts) - 1 - parts[::-1].index("results")
        return Path(*parts[at:]).as_posix()
    return Path(os.path.relpath(file, root)).as_posix()


def _raw(file: str, slug: str, machine: str, folder: Path) -> list[str]:
    """A link to the result's own file, which is brought into the site: [text, relative address]."""
    source = Path(file)
    target = folder / "raw" / slug / _slug(machine) / f"{_slug(source.stem)}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)  # the same bytes need no second place on the disk
    except OSError:
        shutil.copyfile(source, target)
    seed = re.search(r"-s(\d+)-", source.stem)
    return [f"seed {seed[1]}" if seed else "file", target.relative_to(folder).as_posix()]


def _pictures(content: ReportContent, folder: Path, most: int) -> list[tuple[str, str]]:
    if not most:
        return []
    target = folder / "plots"
    target.mkdir(exist_ok=True)
    made = draw(content, target, ("svg",), most_pictures=most)
    return [(caption, f"plots/{paths[0].name}") for caption, paths in made]


def _citation(suite: str, version: Any, content: ReportContent) -> str:
    year = max((row["date"][:4] for row in content.rows), default="")
    clean = re.sub(r"[{}\\%]", "", printable(suite))
    return (
        f"@misc{{metabench-{_slug(suite)}-v{version},\n"
        f"  title  = {{metabench leaderboard {clean}, version {version}}},\n"
        f"  author = {{{{metabench contributors}}}},\n"
        f"  year   = {{{re.sub('[^0-9]', '', year)}}},\n"
        f"  note   = {{metabench {installed('metabench')}, {len(content.rows)} results}}\n}}"
    )


def _shown(row: Record) -> dict[str, Any]:
    names = ("suite", "cell", "status", "reason", "machine")
    return {name: printable(str(row[name])) for name in names} | {
        "version": row["version"],
        "expected": row["expected"],
        "log_tail": [printable(line) for line in row["log_tail"]],
    }


def _rounded(value: float | None, scale: float = 1.0) -> float | None:
    return None if value is None else float(f"{value * scale:.4g}")


def _slug(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("-.")[:150] or "unnamed"
