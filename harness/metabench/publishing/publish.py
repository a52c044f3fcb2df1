"""Published results: copied to where a pull request adds them, and the page that lists them.

results/<suite>-v<version>/<machine>/<cell>.json
results/<suite>-v<version>/<machine>/partial.txt    what is missing, where a part was published
results/README.md                                   made from these files, never written by hand
"""

from __future__ import annotations

import shutil
from pathlib import Path

from metabench.errors import RequestError
from metabench.publishing.checks import FOLDER_NAME
from metabench.publishing.verify import PARTIAL, Verified
from metabench.records.files import read_result
from metabench.report.content import Content
from metabench.report.output import plain
from metabench.results.table import Results
from metabench.text import markdown_text, one_line

HEAD = """# Published results

This page is made by `metabench publish` from the files beside it; changes by hand are lost, and a test
fails where it is stale. Each suite has a folder `<suite>-v<version>/<machine>/`, with one JSON file per
cell. `metabench verify results` checks them all, `metabench reproduce FILE` runs one of them again, and
`metabench leaderboard results -o site` builds the site.
"""


UNPUBLISHED = (
    "No published counterpart: the published figures known here are of other data sets, tasks, algorithms or "
    "networks than these rows."
)


def publish(verified: Verified, folder: Path) -> list[Path]:
    """Copies results that were verified without an error into `folder`; returns the new files.

    Where a suite is not complete, `partial.txt` says what is missing. Raises RequestError where a file of
    another content is there already, or results of another text of the suite: published results stay.
    """
    targets: list[tuple[Path, Path]] = []
    for path in verified.files:
        result = read_result(path)
        suite = result.cell.suite_folder
        machine = str(result.environment.get("machine") or "unknown-machine")
        for name in (suite, machine):
            if not FOLDER_NAME.fullmatch(name):
                raise RequestError(f"{path}: {name!r} cannot be the name of a folder")
        target = folder / suite / machine / f"{result.cell.id}.json"
        if target.exists() and target.read_bytes() != path.read_bytes():
            raise RequestError(
                f"{target} is published already, with other content than {path}; published results stay: "
                "raise the suite's version, or remove the old file in a commit of its own that says why"
            )
        _require_same_suite(path, str(result.environment.get("suite_digest")), target)
        targets.append((path, target))
    new = []
    for path, target in targets:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            new.append(target)
    missing = {folder / part.suite / part.machine: part.missing for part in verified.missing if part.missing}
    for place in sorted({target.parent for _, target in targets}):
        if place in missing:
            (place / PARTIAL).write_text("\n".join(missing[place]) + "\n", encoding="utf-8")
        else:
            (place / PARTIAL).unlink(missing_ok=True)
    return new


def _require_same_suite(path: Path, digest: str, target: Path) -> None:
    """Raises RequestError where results of the suite's version were published with another text of it."""
    published = sorted(target.parent.parent.glob("*/*.json"))
    other = next((file for file in published if file.name != path.name), None)
    earlier = str(read_result(other).environment.get("suite_digest")) if other else digest
    if earlier != digest:
        raise RequestError(
            f"{path} was made with another text of its suite ({digest[:12]}) than {other} ({earlier[:12]}), "
            "which has the same version; raise the version, or run the suite again as it was"
        )


def readme(folder: Path) -> str:
    """The text of README.md for the results in `folder`."""
    parts = [HEAD.strip()]
    for suite in sorted(p for p in folder.iterdir() if p.is_dir() and p.name != "local"):
        content = Content.of(Results.read([suite]))
        if not content.rows:
            continue
        parts.append(f"# {markdown_text(suite.name)}")
        commands = sorted({row["command"] for row in content.rows if row["command"]})
        parts.append("\n".join(["Made by:", "", *(f"    {one_line(text)}" for text in commands)]))
        parts += [
            f"Partial ({markdown_text(path.parent.name)}): {markdown_text(path.read_text(encoding='utf-8'))}"
            for path in sorted(suite.glob(f"*/{PARTIAL}"))
        ]
        parts += [plain(section, "github") for section in content.sections()]
        if not any(cell["references"] for cell in content.summaries):
            parts.append(UNPUBLISHED)
        parts += [f"Passed over: {markdown_text(p.what)}" for p in content.problems]
    if len(parts) == 1:
        parts.append("Nothing is published yet.")
    return "\n\n".join(parts) + "\n"


def stale(folder: Path) -> bool:
    """Whether README.md is not what the results in `folder` make."""
    path = folder / "README.md"
    return not path.exists() or path.read_text(encoding="utf-8") != readme(folder)


def write_readme(folder: Path) -> Path:
    """Writes README.md anew."""
    path = folder / "README.md"
    path.write_text(readme(folder), encoding="utf-8")
    return path
