"""`check_report`: a report of results whose every name is an attack, read as a browser would read it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

from metabench.contracts import Report
from metabench.report.content import Content
from metabench.results.table import Results
from metabench.testing.contract_error import Subject, begin
from metabench.testing.fakes import tiny_results

CANARY = "metabenchcanary"
HOSTILE = (
    f"<{CANARY}>",
    f'"><{CANARY} onload="alert(1)">',
    f"'-->]]></script></title></style><{CANARY}>",
    f"a | b || c `<{CANARY}>` [x](javascript:{CANARY}) ![y](http://{CANARY}/z.png)",
    f"line\n\n# {CANARY}\n\n| x |",
    f"\\{CANARY}{{x}} 100%{CANARY} a&{CANARY} b_{CANARY} c#{CANARY} $x^{CANARY}$",
    f"=HYPERLINK({CANARY})",
    f"../../{CANARY}",
    f"\x1b[31m{CANARY}\u202e",
)
"""Names that are harmless only where a report escapes them."""


def check_report(report: Report | type[Report]) -> None:
    """Checks a report against its whole contract: its files, no results, and hostile names in results.

    HTML and SVG, Markdown, LaTeX, CSV and JSON files are read as programs read them; of other files only
    the place is checked.

    Raises ContractError with what is wrong and what to do; SkipTest where it cannot be used here.
    """
    report, subject = begin("report", report)
    with TemporaryDirectory() as name:
        top = Path(name)
        for title, names in (("empty", ()), ("plain", ("one", "two")), ("hostile", HOSTILE)):
            folder = top / title / "report"
            folder.mkdir(parents=True)
            before = _files(top)
            results = tiny_results(names) if names else []
            with subject.doing(f"write(content, folder) of {len(results)} results ({title})"):
                written = report.write(Content.of(Results.of(results)), folder)
            _check_files(subject, written, folder, before, top, bool(results))
            for path in written:
                _check_text(subject, path)


def _files(top: Path) -> set[Path]:
    return {path for path in top.rglob("*") if path.is_file()}


def _check_files(
    subject: Subject, written: Sequence[Path], folder: Path, before: set[Path], top: Path, some: bool
) -> None:
    new = _files(top) - before
    strays = sorted(str(path) for path in new if not path.is_relative_to(folder))
    subject.require(
        not strays, f"it writes outside of the folder it was given: {strays}; never make a path of a name"
    )
    subject.require(
        isinstance(written, list) and {Path(p).resolve() for p in written} <= {p.resolve() for p in new},
        f"write must return the files that it wrote, got {written!r}",
    )
    subject.require(
        bool(written) or not some, "write must return at least one file for content that has results"
    )
    odd = [path.name for path in new if CANARY in path.name and not re.fullmatch(r"[\w.+-]+", path.name)]
    subject.require(
        not odd, f"it names files by untrusted text: {odd}; keep letters, digits, . + - and _ only"
    )


def _check_text(subject: Subject, path: Path) -> None:
    if path.suffix not in _READERS:
        return
    text = path.read_text(encoding="utf-8")
    wrong = _READERS[path.suffix](text)
    subject.require(wrong is None, f"{path.name}: {wrong}")


def _html(text: str) -> str | None:
    """Return what a hostile name has done to an HTML page or an SVG image."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.wrong


class _Reader(HTMLParser):
    wrong: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if CANARY in tag:
            self.wrong = (
                f"a name from the results became a tag, <{tag}>: escape every text (html.escape, or Jinja2 "
                "with autoescape; inside of <script> write < as \\u003c)"
            )
        for name, value in attrs:
            link = name in ("href", "src", "action", "xlink:href") and (value or "").strip().lower()
            if CANARY in name or (name.startswith("on") and CANARY in (value or "")):
                self.wrong = f"a name from the results became an attribute of <{tag}>: quote and escape it"
            if link and (link.startswith("javascript:") or (CANARY in link and link.startswith("http"))):
                self.wrong = f"a name from the results became a link, {value!r}: link only to what you made"


def _markdown(text: str) -> str | None:
    outside = re.sub(r"(`+)(?:(?!\1).)*?\1", "", text)  # code spans show what they hold as it is
    if re.search(rf"(?<!\\)<[^>\s]*{CANARY}", outside):
        return "a name from the results became an HTML tag: write < as &lt;"
    if re.search(rf"(?<!\\)\]\((javascript:|http://){CANARY}", outside):
        return "a name from the results became a link or an image: escape [ and ]"
    if re.search(rf"^# {CANARY}", text, re.MULTILINE):
        return "a name from the results became a heading: write line breaks in names as spaces"
    for block in re.split(r"\n(?!\|)", text):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        if len(cells) > 1:
            return "a name from the results adds columns to a table: write | as \\|"
    return None


def _latex(text: str) -> str | None:
    if re.search(rf"(?<!\\)\\{CANARY}", text):
        return "a name from the results became a command: write \\ as \\textbackslash{}"
    bare = re.search(rf"(?<!\\)([%&_#])({CANARY})", text)
    if bare:
        return f"a name from the results holds a bare {bare[1]}: write it as \\{bare[1]}"
    if re.search(rf"(?<!\\)\$x\^{CANARY}", text):
        return "a name from the results switches to mathematics: write $ as \\$"
    return None


def _csv(text: str) -> str | None:
    rows = list(csv.reader(text.splitlines(keepends=True)))
    if any(cell.startswith(f"=HYPERLINK({CANARY}") for row in rows for cell in row):
        return "a name that starts with = is a formula to a spreadsheet: put an apostrophe before it"
    if len({len(row) for row in rows if row}) > 1:
        return "its rows have different numbers of cells: write it with the csv module"
    return None


def _json(text: str) -> str | None:
    try:
        json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        return f"it is no JSON: {error}"
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON; write null")


_READERS = {
    ".html": _html, ".htm": _html, ".svg": _html, ".md": _markdown, ".tex": _latex, ".csv": _csv,
    ".json": _json,
}  # fmt: skip
