"""The report as LaTeX tables (booktabs), to be pasted into a paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Report, ReportContent
from metabench.records.cell import task_text
from metabench.report import MARKS, Section, grid, marks, score
from metabench.text import ABSENT, printable

Record = Mapping[str, Any]

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
        """Writes report.tex, one `table` environment per table; it needs \\usepackage{booktabs}."""
        parts = ["% \\usepackage{booktabs}"]
        parts += [
            _scores(section) if section and section.name == "scores" else _section(section)
            for section in content.sections()
        ]
        path = folder / "report.tex"
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        return [path]


def _scores(section: Section) -> str:
    """Methods down, tasks across, the best tier in bold; what differs between lines tells them apart."""
    laid = grid(section.records, _method, _task)
    kept = [
        n
        for n, column in enumerate(laid.columns)
        if column.header != "network" and len({row.texts[n] for row in laid.rows}) > 1
    ]
    body = [
        [
            *(escaped(row.texts[n]) for n in kept),
            escaped(row.name),
            *(_score(row.summaries[task]) if task in row.summaries else "--" for task in laid.heads),
        ]
        for row in laid.rows
    ]
    apart = {laid.columns[n].header for n in kept}
    notes = [
        *section.shown()[2],
        *_differing(section, {*apart, "data set", "task", "network", "notes"}),
        f"Bold: the best tier. {MARKS}",
    ]
    headers = [*(laid.columns[n].header for n in kept), "method", *laid.heads]
    right = [*(laid.columns[n].right for n in kept), False, *(True for _ in laid.heads)]
    return _environment("scores", notes, headers, body, right)


def _score(cell: Record) -> str:
    bold = cell["rank"] == 1 and cell["rivals"] > 1
    told = escaped(score(cell))
    letters = marks(cell)
    return (rf"\textbf{{{told}}}" if bold else told) + (f"$^{{{letters}}}$" if letters else "")


def _differing(section: Section, known: set[str]) -> list[str]:
    """What a column of the table of scores says of each cell, where the layout leaves no place for it."""
    notes = []
    for column in section.columns:
        if not column.quiet or column.header in known:
            continue
        texts: dict[str, dict[str, None]] = {}  # of every method, where its tasks do not differ
        methods = [(_method(record), column.show(record)) for record in section.records]
        alone = len({name for name, _ in methods}) == len(set(methods))
        for record, (name, told) in zip(section.records, methods, strict=True):
            texts.setdefault(told, {})[name if alone else f"{name} on {_task(record)}"] = None
        if len(texts) > 1:
            parts = [f"{told} for {', '.join(cells)}" for told, cells in texts.items() if told != ABSENT]
            notes.append(f"{column.header}: {'; '.join(parts)}.")
    return notes


def _method(cell: Record) -> str:
    return f"{cell['method']} ({cell['network']})" if cell["network"] else str(cell["method"])


def _task(cell: Record) -> str:
    return f"{cell['dataset']} {task_text(cell['ways'], cell['shots'])}"


def _section(section: Section) -> str:
    columns, lines, notes = section.shown()
    body = [[escaped(cell) for cell in line] for line in lines]
    return _environment(section.name, [f"{section.title}.", *notes], [c.header for c in columns], body,
                        [c.right for c in columns])  # fmt: skip


def _environment(
    name: str,
    notes: Sequence[str],
    headers: Sequence[str],
    body: Sequence[Sequence[str]],
    right: Sequence[bool],
) -> str:
    align = "".join("r" if one else "l" for one in right)
    head = " & ".join(escaped(header) for header in headers)
    rows = [" & ".join(line) + r" \\" for line in body]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{align}}}", r"\toprule", head + r" \\",
        r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
        rf"\caption{{{escaped(' '.join(notes))}}}", rf"\label{{tab:metabench-{name}}}", r"\end{table}",
    ])  # fmt: skip


def escaped(value: str) -> str:
    """Untrusted text as LaTeX shows it, never as a command."""
    return "".join(ESCAPES.get(c, c) for c in printable(value).replace("\n", " ")) or escaped(ABSENT)
