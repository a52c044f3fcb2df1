"""The report as LaTeX tables (booktabs), to be pasted into a paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Report, ReportContent
from metabench.records import Summary
from metabench.report import ABSENT, MARKS, Section, grid, marks, printable, score, task

ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "±": r"$\pm$", "×": r"$\times$", "–": "--", "…": r"\ldots{}", "|": r"\textbar{}",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Latex(Report):
    """Tables for a paper: scores of methods by task with the best tier in bold, then the other tables."""

    name: ClassVar[str] = "latex"

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Write report.tex, one `table` environment per table; it needs \\usepackage{booktabs}."""
        parts = ["% \\usepackage{booktabs}"]
        parts += [
            _scores(table) if table and table.name == "scores" else _section(table)
            for table in content.sections()
        ]
        path = folder / "report.tex"
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        return [path]


def _scores(table: Section[Summary]) -> str:
    """Return the scores with methods down and tasks across; what differs between lines tells them apart."""
    summaries = table.records
    layout = grid(summaries, _method, _task)
    kept = [
        n
        for n, column in enumerate(layout.columns)
        if column.header != "network" and len({row.texts[n] for row in layout.rows}) > 1
    ]
    body = [
        [
            *(escaped(row.texts[n]) for n in kept),
            escaped(str(row.name)),
            *(_score(row.summaries[head]) if head in row.summaries else "--" for head in layout.heads),
        ]
        for row in layout.rows
    ]
    shown = {layout.columns[n].header for n in kept}
    notes = [
        *table.shown()[2],
        *_differing(table, summaries, {*shown, "data set", "task", "network", "notes"}),
        f"Bold: the best tier. {MARKS}",
    ]
    headers = [*(layout.columns[n].header for n in kept), "method", *map(str, layout.heads)]
    right = [*(layout.columns[n].right for n in kept), False, *(True for _ in layout.heads)]
    return _environment("scores", notes, headers, body, right)


def _score(summary: Summary) -> str:
    bold = summary["rank"] == 1 and summary["rivals"] > 1
    text = escaped(score(summary))
    letters = marks(summary)
    return (rf"\textbf{{{text}}}" if bold else text) + (f"$^{{{letters}}}$" if letters else "")


def _differing(table: Section[Summary], summaries: Sequence[Summary], known: set[str]) -> list[str]:
    """Return what a column of the table says of each line, where the layout leaves no place for it."""
    notes = []
    for column in table.columns:
        if not column.quiet or column.header in known:
            continue
        lines: dict[str, dict[str, None]] = {}  # by text; by method alone, where its tasks do not differ
        methods = [(_method(summary), column.show(summary)) for summary in summaries]
        by_method = len({name for name, _ in methods}) == len(set(methods))
        for summary, (name, text) in zip(summaries, methods, strict=True):
            lines.setdefault(text, {})[name if by_method else f"{name} on {_task(summary)}"] = None
        if len(lines) > 1:
            parts = [f"{text} for {', '.join(names)}" for text, names in lines.items() if text != ABSENT]
            notes.append(f"{column.header}: {'; '.join(parts)}.")
    return notes


def _method(summary: Summary) -> str:
    return f"{summary['method']} ({summary['network']})" if summary["network"] else summary["method"]


def _task(summary: Summary) -> str:
    return f"{summary['dataset']} {task(summary)}"


def _section(section: Section[Any]) -> str:
    columns, lines, notes = section.shown()
    body = [[escaped(text) for text in line] for line in lines]
    headers, right = [column.header for column in columns], [column.right for column in columns]
    return _environment(section.name, [f"{section.title}.", *notes], headers, body, right)


def _environment(
    name: str,
    notes: Sequence[str],
    headers: Sequence[str],
    body: Sequence[Sequence[str]],
    right: Sequence[bool],
) -> str:
    align = "".join("r" if flush_right else "l" for flush_right in right)
    head = " & ".join(escaped(header) for header in headers)
    rows = [" & ".join(line) + r" \\" for line in body]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{align}}}", r"\toprule", head + r" \\",
        r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
        rf"\caption{{{escaped(' '.join(notes))}}}", rf"\label{{tab:metabench-{name}}}", r"\end{table}",
    ])  # fmt: skip


def escaped(value: str) -> str:
    """Return untrusted text as LaTeX shows it literally, never as a command."""
    return "".join(ESCAPES.get(c, c) for c in printable(value).replace("\n", " ")) or escaped(ABSENT)
