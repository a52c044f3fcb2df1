"""Pictures of the results, as SVG and PNG: learning curves, score against time, scaling, adaptation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from metabench import Report, ReportContent, setting
from metabench.errors import RequestError, did_you_mean
from metabench.records.cell import task_text
from metabench.report import Section, ranked
from metabench.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cell = Mapping[str, Any]
FORMATS = ("svg", "png", "pdf")
MOST = 12  # lines in one picture that can still be told apart; the best ones are drawn


@dataclass(frozen=True, kw_only=True)
class Plots(Report):
    """Learning curves, score against training time (Pareto front marked), scaling, and adaptation."""

    name: ClassVar[str] = "plots"
    formats: tuple[str, ...] = setting(("svg", "png"), "file formats: svg, png or pdf")

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Writes <picture>-<suite>-<data set>-<task>.<format> for everything that there is to draw."""
        for form in self.formats:
            if form not in FORMATS:
                raise RequestError(f"no picture is written as {form!r}; {did_you_mean(form, FORMATS)}")
        return [path for _, each in draw(content, folder, self.formats) for path in each]


def draw(
    content: ReportContent, folder: Path, formats: Sequence[str], most_pictures: int = 0
) -> list[tuple[str, list[Path]]]:
    """Draws every picture; returns (caption, files). most_pictures: 0 for all."""
    boards: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in ranked(content.summaries):
        key = ("suite", "version", "dataset", "ways", "shots", "metric")
        boards.setdefault(tuple(cell[k] for k in key), []).append(cell)
    made: list[tuple[str, list[Path]]] = []
    most = most_pictures or 10**9
    (scaling,) = content.sections(["scaling"])
    if scaling:
        suites = sorted({(row["suite"], row["version"]) for row in content.rows})
        slug = _slug("-".join(["scaling", *(f"{suite}-v{version}" for suite, version in suites)]))
        files = _picture(folder, slug, formats, "Strong scaling", partial(_scaling, scaling))
        if files:
            made.append(("speed-up over ranks where accuracies agree; dashed: ideal", files))
    pictures: Sequence[tuple[str, str, Callable[[ReportContent, Sequence[Cell], Axes], bool]]] = (
        ("time", "score against training time; a ring marks the Pareto front", _against_time),
        ("learning", "validation score over training steps", _learning),
        ("adaptation", "test score over adaptation steps", _adaptation),
    )
    for (suite, version, dataset, ways, shots, metric), board in boards.items():
        title = f"{dataset}, {task_text(ways, shots)}"
        for name, caption, view in pictures:
            # one picture never mixes the times of different machines
            for machine, cells in _by_machine(board).items() if name == "time" else [("", board)]:
                if len(made) >= most:
                    return made
                slug = _slug(f"{name}-{suite}-v{version}-{dataset}-{ways}w{shots}s-{metric}")
                slug += f"-{_slug(machine)}" if machine else ""
                files = _picture(folder, slug, formats, title, partial(view, content, cells))
                if files:
                    where = f" ({_label(machine)})" if machine else ""
                    made.append((f"{suite} v{version}, {title}: {caption}{where}", files))
    return made


def _by_machine(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells of each machine, by its name; by an empty one where there is only one."""
    machines = list(dict.fromkeys(cell["machine"] for cell in cells))
    if len(machines) == 1:
        return {"": list(cells)}
    return {machine: [cell for cell in cells if cell["machine"] == machine] for machine in machines}


def _picture(
    folder: Path, slug: str, formats: Sequence[str], title: str, paint: Callable[[Axes], bool]
) -> list[Path]:
    with _matplotlib() as plt:
        figure, axes = plt.subplots(figsize=(7, 4.2))
        try:
            if not paint(axes):
                return []
            axes.set_title(_label(title), fontsize=11)
            axes.grid(alpha=0.25)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            handles, _ = axes.get_legend_handles_labels()
            figure.subplots_adjust(left=0.1, right=0.7 if handles else 0.97, bottom=0.13, top=0.92)
            if handles:  # a fixed margin: fitting the layout would take as long as the drawing
                figure.legend(loc="upper left", bbox_to_anchor=(0.71, 0.93), fontsize=8, frameon=False)
            paths = [folder / f"{slug}.{form}" for form in formats]
            for path in paths:
                told = {"Date": None} if path.suffix in (".svg",) else {}
                figure.savefig(path, dpi=150, metadata=told)
            return paths
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


def _against_time(content: ReportContent, cells: Sequence[Cell], axes: Axes) -> bool:
    timed = [c for c in cells if c["training_seconds"]]
    if len(timed) < 2:
        return False
    scale, label = _unit(timed[0])
    better = 1 if timed[0]["higher_is_better"] else -1
    front = _front(timed, better)
    drawn = [*front, *(cell for cell in _best(timed) if cell not in front)][:MOST]
    for number, cell in enumerate(_best(drawn)):
        half = (cell["half_width"] or 0) * scale
        axes.errorbar(cell["training_seconds"], cell["mean"] * scale, yerr=half, fmt="o", capsize=3,
                      label=_label(cell["method"]), color=f"C{number % 10}")  # fmt: skip
    x, y = zip(*((c["training_seconds"], c["mean"] * scale) for c in front[:MOST]), strict=True)
    axes.plot(x, y, drawstyle="steps-post", color="0.5", linewidth=1, zorder=0)
    axes.scatter(x, y, s=140, facecolors="none", edgecolors="0.4", label="Pareto front")
    times = [cell["training_seconds"] for cell in drawn]
    if max(times) > 2 * min(times):  # over less than that a logarithmic axis has no ticks
        wide = max(times) > 20 * min(times)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "" if wide else f"{value:g}")
    axes.set_xlabel(_label(f"training time, s ({timed[0]['machine']})", 72))
    axes.set_ylabel(label)
    return True


def _front(cells: Sequence[Cell], better: int) -> list[Cell]:
    """The cells that no quicker one outdoes, the quickest first; better: 1 where a higher score is."""
    front: list[Cell] = []
    for cell in sorted(cells, key=lambda c: (c["training_seconds"], -better * c["mean"])):
        if not front or better * cell["mean"] > better * front[-1]["mean"]:
            front.append(cell)
    return front


def _learning(content: ReportContent, cells: Sequence[Cell], axes: Axes) -> bool:
    scale, label = _unit(cells[0])
    drawn = False
    for cell in _best(cells):
        curves = [content.rows[i]["validations"] for i in cell["positions"]]
        points: dict[int, list[float]] = {}
        for step, _, mean in (point for curve in curves for point in curve):
            points.setdefault(step, []).append(mean * scale)
        if len(points) > 1:
            steps = sorted(points)
            axes.plot(steps, [fmean(points[s]) for s in steps], label=_label(cell["method"]), linewidth=1.5)
            if len(curves) > 1:
                low, high = ([pick(points[s]) for s in steps] for pick in (min, max))
                axes.fill_between(steps, low, high, alpha=0.15)
            drawn = True
    axes.set_xlabel("training steps (band: range over seeds)")
    axes.set_ylabel(f"validation {label}")
    return drawn


def _adaptation(content: ReportContent, cells: Sequence[Cell], axes: Axes) -> bool:
    scale, label = _unit(cells[0])
    drawn = False
    for cell in _best(cells):
        points: dict[int, list[float]] = {}
        for i in cell["positions"]:
            for steps, mean in content.rows[i]["curve"].items():
                points.setdefault(int(steps), []).append(mean * scale)
        if len(points) > 1:
            steps = sorted(points)
            axes.plot(steps, [fmean(points[s]) for s in steps], "o-", label=_label(cell["method"]))
            drawn = True
    axes.set_xlabel("adaptation steps")
    axes.set_ylabel(label)
    return drawn


def _scaling(scaling: Section, axes: Axes) -> bool:
    series: dict[tuple[Any, ...], list[Cell]] = {}
    for line in scaling.records:
        if line["speedup"] is not None:
            key = (line["method"], line["network"], line["dataset"], line["machine"])
            series.setdefault(key, []).append(line)
    most = 1
    for (method, network, dataset, _), lines in list(series.items())[:MOST]:
        ranks = [line["ranks"] for line in lines]
        most = max(most, *ranks)
        axes.plot(
            ranks, [line["speedup"] for line in lines], "o-", label=_label(f"{method} {network} {dataset}")
        )
    axes.plot([1, most], [1, most], "--", color="0.5", label="ideal")
    axes.set_xticks(sorted({line["ranks"] for lines in series.values() for line in lines}))
    axes.set_xlabel("ranks")
    axes.set_ylabel("speed-up")
    return most > 1


def _best(cells: Sequence[Cell]) -> list[Cell]:
    better = -1 if cells[0]["higher_is_better"] else 1
    return sorted(cells, key=lambda c: better * c["mean"])[:MOST]


def _unit(cell: Cell) -> tuple[float, str]:
    share = cell["unit"] == "share"
    return (100.0, f"{cell['metric']}, %") if share else (1.0, _label(cell["metric"]))


def _label(value: str, most: int = 36) -> str:
    flat = printable(str(value)).replace("\n", " ")
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def _slug(value: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", value.lower()).strip("-")[:120]
