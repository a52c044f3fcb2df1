"""Plots of the results, as SVG, PNG or PDF: learning curves, score against time, scaling, adaptation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from metabench import Report, ReportContent, setting
from metabench.errors import RequestError, did_you_mean
from metabench.records import Summary, suite_folder
from metabench.report import Section, printable, protocol, ranked, task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "png", "pdf")
MOST = 12  # lines in one plot that can still be told apart; the best ones are drawn

Paint = Callable[["Axes"], bool]
"""Draws on these axes; False where there is nothing to draw."""


@dataclass(frozen=True)
class Plot:
    """A plot that was drawn, in each of the formats."""

    caption: str
    files: Sequence[Path]


@dataclass(frozen=True)
class Sketch:
    """A plot that is yet to be drawn; name: of its files, without a suffix."""

    name: str
    title: str
    caption: str
    paint: Paint


@dataclass(frozen=True, kw_only=True)
class Plots(Report):
    """Learning curves, score against training time (Pareto front marked), scaling, and adaptation."""

    name: ClassVar[str] = "plots"
    formats: tuple[str, ...] = setting(("svg", "png"), "file formats: svg, png or pdf")

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Write <plot>-<suite>-<data set>-<task>.<format> for everything that there is to draw."""
        for form in self.formats:
            if form not in FORMATS:
                raise RequestError(f"no picture is written as {form!r}; {did_you_mean(form, FORMATS)}")
        return [file for plot in draw(content, folder, self.formats) for file in plot.files]


def draw(content: ReportContent, folder: Path, formats: Sequence[str], most: int = 0) -> list[Plot]:
    """Draw every plot; most: the number to stop at, 0 for all."""
    plots: list[Plot] = []
    for sketch in _sketches(content):
        if most and len(plots) >= most:
            break
        files = _draw(sketch, folder, formats)
        if files:
            plots.append(Plot(sketch.caption, files))
    return plots


def _sketches(content: ReportContent) -> Iterator[Sketch]:
    """Yield the plots in the order in which they are drawn."""
    (scaling,) = content.sections(["scaling"])
    if scaling:
        suites = sorted({(row["suite"], row["version"]) for row in content.rows})
        name = _slug("-".join(["scaling", *starmap(suite_folder, suites)]))
        caption = "speed-up over ranks where accuracies agree; dashed: ideal"
        yield Sketch(name, "Strong scaling", caption, partial(_scaling, scaling))
    boards: dict[tuple[object, ...], list[Summary]] = {}
    for summary in ranked([summary for summary in content.summaries if not summary["withdrawn"]]):
        boards.setdefault(protocol(summary), []).append(summary)
    for board in boards.values():
        yield from _board_sketches(content, board)


def _board_sketches(content: ReportContent, board: Sequence[Summary]) -> Iterator[Sketch]:
    """Yield the plots of summaries that were scored on the same tasks."""
    first = board[0]
    suite, version, dataset, metric = first["suite"], first["version"], first["dataset"], first["metric"]
    title = f"{dataset}, {task(first)}"
    ending = f"{suite_folder(suite, version)}-{dataset}-{first['ways']}w{first['shots']}s-{metric}"
    prefix = f"{suite} v{version}, {title}"
    # one plot never mixes the times of different machines
    for machine, summaries in _by_machine(board).items():
        name = _slug(f"time-{ending}") + (f"-{_slug(machine)}" if machine else "")
        where = f" ({_label(machine)})" if machine else ""
        caption = f"{prefix}: score against training time; a ring marks the Pareto front{where}"
        yield Sketch(name, title, caption, partial(_against_time, summaries))
    caption = f"{prefix}: validation score over training steps"
    yield Sketch(_slug(f"learning-{ending}"), title, caption, partial(_learning, content, board))
    caption = f"{prefix}: test score over adaptation steps"
    yield Sketch(_slug(f"adaptation-{ending}"), title, caption, partial(_adaptation, content, board))


def _by_machine(summaries: Sequence[Summary]) -> Mapping[str, Sequence[Summary]]:
    """Return the summaries of each machine, by its name; by an empty name where there is only one machine."""
    machines = list(dict.fromkeys(summary["machine"] for summary in summaries))
    if len(machines) == 1:
        return {"": summaries}
    return {machine: [s for s in summaries if s["machine"] == machine] for machine in machines}


def _draw(sketch: Sketch, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Draw a plot and return its files, none where there is nothing to draw."""
    with _matplotlib() as plt:
        figure, axes = plt.subplots(figsize=(7, 4.2))
        try:
            if not sketch.paint(axes):
                return []
            axes.set_title(_label(sketch.title), fontsize=11)
            axes.grid(alpha=0.25)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            handles, _ = axes.get_legend_handles_labels()
            figure.subplots_adjust(left=0.1, right=0.7 if handles else 0.97, bottom=0.13, top=0.92)
            if handles:  # a fixed margin: fitting the layout would take as long as the drawing
                figure.legend(loc="upper left", bbox_to_anchor=(0.71, 0.93), fontsize=8, frameon=False)
            files = [folder / f"{sketch.name}.{form}" for form in formats]
            for file in files:
                figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else {})
            return files
        finally:
            plt.close(figure)


@contextmanager
def _matplotlib() -> Iterator[Any]:
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    # untrusted names are never read as formulas; SVG files are the same at every run
    with matplotlib.rc_context(
        {"text.parse_math": False, "svg.hashsalt": "metabench", "svg.fonttype": "none"}
    ):
        yield pyplot


@dataclass(frozen=True)
class Point:
    """A summary in a plot of score against training time; score and half_width in the unit of the axis."""

    seconds: float
    score: float
    half_width: float
    method: str


def _against_time(summaries: Sequence[Summary], axes: Axes) -> bool:
    scale, label = _unit(summaries[0])
    points = [
        Point(seconds, summary["mean"] * scale, (summary["half_width"] or 0) * scale, summary["method"])
        for summary in summaries
        if (seconds := summary["training_seconds"])
    ]
    if len(points) < 2:
        return False
    sign = 1 if summaries[0]["higher_is_better"] else -1
    front = _front(points, sign)
    by_score = sorted(points, key=lambda point: -sign * point.score)
    drawn = [*front, *(point for point in by_score[:MOST] if point not in front)][:MOST]
    for number, point in enumerate(sorted(drawn, key=lambda point: -sign * point.score)):
        axes.errorbar(point.seconds, point.score, yerr=point.half_width, fmt="o", capsize=3,
                      label=_label(point.method), color=f"C{number % 10}")  # fmt: skip
    x, y = [point.seconds for point in front[:MOST]], [point.score for point in front[:MOST]]
    axes.plot(x, y, drawstyle="steps-post", color="0.5", linewidth=1, zorder=0)
    axes.scatter(x, y, s=140, facecolors="none", edgecolors="0.4", label="Pareto front")
    _scale_time([point.seconds for point in drawn], axes)
    axes.set_xlabel(_label(f"training time, s ({summaries[0]['machine']})", 72))
    axes.set_ylabel(label)
    return True


def _scale_time(seconds: Sequence[float], axes: Axes) -> None:
    if max(seconds) > 2 * min(seconds):  # over less than that a logarithmic axis has no ticks
        wide = max(seconds) > 20 * min(seconds)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "" if wide else f"{value:g}")


def _front(points: Sequence[Point], sign: int) -> list[Point]:
    """Return the points that no quicker point outdoes, the quickest first; sign: 1 if higher is better."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.seconds, -sign * point.score)):
        if not front or sign * point.score > sign * front[-1].score:
            front.append(point)
    return front


def _learning(content: ReportContent, summaries: Sequence[Summary], axes: Axes) -> bool:
    scale, label = _unit(summaries[0])
    drawn = False
    for summary in _best(summaries):
        points: dict[float, list[float]] = {}
        for i in summary["positions"]:
            for step, _, mean in content.rows[i]["validations"]:
                points.setdefault(step, []).append(mean * scale)
        if len(points) > 1:
            steps = sorted(points)
            means = [fmean(points[step]) for step in steps]
            axes.plot(steps, means, label=_label(summary["method"]), linewidth=1.5)
            if len(summary["positions"]) > 1:
                low, high = ([pick(points[step]) for step in steps] for pick in (min, max))
                axes.fill_between(steps, low, high, alpha=0.15)
            drawn = True
    axes.set_xlabel("training steps (band: range over seeds)")
    axes.set_ylabel(f"validation {label}")
    return drawn


def _adaptation(content: ReportContent, summaries: Sequence[Summary], axes: Axes) -> bool:
    scale, label = _unit(summaries[0])
    drawn = False
    for summary in _best(summaries):
        points: dict[int, list[float]] = {}
        for i in summary["positions"]:
            for steps, mean in content.rows[i]["curve"].items():
                points.setdefault(int(steps), []).append(mean * scale)
        if len(points) > 1:
            counts = sorted(points)
            means = [fmean(points[count]) for count in counts]
            axes.plot(counts, means, "o-", label=_label(summary["method"]))
            drawn = True
    axes.set_xlabel("adaptation steps")
    axes.set_ylabel(label)
    return drawn


def _scaling(scaling: Section[Any], axes: Axes) -> bool:
    series: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for line in scaling.records:
        if line["speedup"] is not None:
            key = (line["method"], line["network"], line["dataset"], line["machine"])
            series.setdefault(key, []).append(line)
    most = 1
    for (method, network, dataset, _), lines in list(series.items())[:MOST]:
        ranks = [line["ranks"] for line in lines]
        most = max(most, *ranks)
        speedups = [line["speedup"] for line in lines]
        axes.plot(ranks, speedups, "o-", label=_label(f"{method} {network} {dataset}"))
    axes.plot([1, most], [1, most], "--", color="0.5", label="ideal")
    axes.set_xticks(sorted({line["ranks"] for lines in series.values() for line in lines}))
    axes.set_xlabel("ranks")
    axes.set_ylabel("speed-up")
    return most > 1


def _best(summaries: Sequence[Summary]) -> list[Summary]:
    sign = -1 if summaries[0]["higher_is_better"] else 1
    return sorted(summaries, key=lambda summary: sign * summary["mean"])[:MOST]


def _unit(summary: Summary) -> tuple[float, str]:
    """Return what scores are multiplied by, and what their axis is called."""
    share = summary["unit"] == "share"
    return (100.0, f"{summary['metric']}, %") if share else (1.0, _label(summary["metric"]))


def _label(value: str, most: int = 36) -> str:
    flat = printable(value).replace("\n", " ")
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def _slug(value: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", value.lower()).strip("-")[:120]
