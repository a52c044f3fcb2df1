"""The report as LaTeX tables (booktabs), to be pasted into a paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Report
from metabench.rows import task_text
from metabench.sections import ABSENT, Section, score_text
from metabench.table import Table
from metabench.views import plain_cells, printable

ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "±": r"$\pm$", "×": r"$\times$", "–": "--", "…": r"\ldots{}", "|": r"\textbar{}",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Latex(Report):
    """Tables for a paper: scores of methods by task with the best tier in bold, then the other tables."""

    name: ClassVar[str] = "latex"

    def write(self, table: Table, folder: Path) -> list[Path]:
        """Writes report.tex, one `table` environment per table; it needs \\usepackage{booktabs}."""
        parts = ["% \\usepackage{booktabs}"]
        if table.cells:
            parts.append(_scores(table))
        parts += [_section(section) for section in table.sections() if section.name != "accuracy"]
        path = folder / "report.tex"
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        return [path]


def _scores(table: Table) -> str:
    """Methods down, tasks across, each suite's best tier in bold."""
    cells = plain_cells(table)
    tasks = list(dict.fromkeys(_task(cell) for cell in cells))
    lines: dict[tuple[Any, ...], dict[str, list[str]]] = {}
    for cell in cells:
        name = (cell["method"], cell["network"], f"{cell['backend']} {cell['ranks']}")
        score = escaped(score_text(cell["mean"], cell["half_width"], cell["unit"]))
        told = rf"\textbf{{{score}}}" if cell["rank"] == 1 and cell["rivals"] > 1 else score
        marks = "t" * cell["transductive"] + "b" * cell["budget_limited"]
        lines.setdefault(name, {}).setdefault(_task(cell), []).append(
            told + (f"$^{{{marks}}}$" if marks else "")
        )
    body = [
        [
            escaped(f"{method} ({network})" if network else method),
            *("; ".join(found.get(t, ["--"])) for t in tasks),
        ]
        for (method, network, _), found in lines.items()
    ]
    notes = [
        *table.accuracy().shown()[2],
        "Bold: the best tier. t: transductive evaluation. b: budget-limited training.",
    ]
    return _environment("accuracy", notes, ["method", *tasks], body, [False] + [True] * len(tasks))


def _task(cell: dict[str, Any]) -> str:
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
