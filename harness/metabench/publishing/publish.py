"""Published results: copied to where a pull request adds them, and the page that lists them.

results/<suite>-v<version>/<machine>/<cell>.json
results/<suite>-v<version>/<machine>/tuning/        the trials that settings were chosen from
results/<suite>-v<version>/<machine>/partial.txt    what is missing, where a part was published
results/<suite>-v<version>/<machine>/SHA256SUMS     what the folder holds, where it was signed; .sig beside it
results/README.md                                   made from these files, never written by hand
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from metabench.errors import RequestError
from metabench.publishing.checks import FOLDER_NAME, RESERVED_MACHINES
from metabench.publishing.sign import require_signable, sign_folder
from metabench.publishing.tuning_checks import trial_files
from metabench.publishing.verify import PARTIAL, Verified
from metabench.records.carried import LOCAL
from metabench.records.document import DocumentError, read_bytes
from metabench.records.files import read_result, state_path, write_bytes, write_text
from metabench.report.content import Content
from metabench.report.destination import require_no_link
from metabench.report.output import plain
from metabench.results.cache import LINK, RESERVED, TRIALS
from metabench.results.states import read_state_bytes, require_state
from metabench.results.table import Results
from metabench.text import markdown_text, one_line

MADE_BY = "This page is made by `metabench publish`"

HEAD = f"""# Published results

{MADE_BY} from the files beside it; changes by hand are lost, and a test
fails where it is stale. Each suite has a folder `<suite>-v<version>/<machine>/`, with one JSON file per
cell. `metabench verify results` checks them all, `metabench reproduce FILE` runs one of them again, and
`metabench leaderboard results -o site` builds the site.
"""


LARGEST_PARTIAL = 2**16
LARGEST_README = 256 * 2**20

UNPUBLISHED = (
    "No published counterpart: the published figures known here are of other data sets, tasks, algorithms or "
    "networks than these rows."
)


LARGEST_PUBLISHED_STATE = 10**6
"""Bytes of the largest learned state that is published: a repository is no place for more."""


def publish(
    verified: Verified, folder: Path, key: Path | None = None, with_weights: bool = False
) -> list[Path]:
    """Copies results that were verified without an error into `folder`; returns the new files.

    Where a suite is not complete, `partial.txt` says what is missing. key: an SSH key that signs the list of
    each machine's folder; with_weights: copy learned states of at most 1 MB too, not their digests alone.
    Raises RequestError, before anything is copied, where a file of another content is
    there already, or results of another text of the suite: published results stay. So do links, folders that
    another key signed, and a README.md that metabench did not write.
    """
    _require_own_readme(folder)
    targets = [(path, _target(path, folder)) for path in verified.files]
    places = sorted({target.parent for _, target in targets})
    changing = {target.parent for _, target in targets if not target.exists()}
    require_signable(places if key or with_weights else sorted(changing), key)
    new = []
    for path, target in targets:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, path.read_text(encoding="utf-8"))
            new.append(target)
        new += _publish_trials(path, target)
        if with_weights:
            new += _publish_state(path, target)
    missing = {folder / part.suite / part.machine: part.missing for part in verified.missing if part.missing}
    for place in places:
        if place in missing:
            write_text(place / PARTIAL, "\n".join(missing[place]) + "\n")
        else:
            (place / PARTIAL).unlink(missing_ok=True)
        if key:
            new += sign_folder(place, key)
    return new


def _publish_trials(path: Path, target: Path) -> list[Path]:
    """Copy the trials that the settings of a result were chosen from; return the new files."""
    record = read_result(path).tuning
    new = []
    for source in trial_files(path, record) if record is not None else ():
        copy = target.parent / TRIALS / source.name
        require_no_link(target.parent, copy)
        if not copy.exists():
            write_text(copy, source.read_text(encoding="utf-8"))
            new.append(copy)
    return new


def _publish_state(path: Path, target: Path) -> list[Path]:
    """Copy the learned state of a result beside the published one, where it was kept and is small."""
    digest = read_result(path).state
    source = state_path(path.parent, digest)
    if not digest or not source.exists() or source.stat().st_size > LARGEST_PUBLISHED_STATE:
        return []
    copy = state_path(target.parent, digest)
    require_no_link(target.parent, copy)
    if copy.exists():
        return []
    content = read_state_bytes(source, digest, LARGEST_PUBLISHED_STATE)
    require_state(content, source)
    write_bytes(copy, content)
    return [copy]


def _target(path: Path, folder: Path) -> Path:
    """Where a result is published; raises RequestError where it cannot be."""
    result = read_result(path)
    suite, machine = result.cell.suite_folder, str(result.environment.get("machine") or "unknown-machine")
    local = [slot for slot, source in result.cell.plugins.items() if source.startswith(LOCAL)]
    if local:
        raise RequestError(
            f"{path}: its {local[0]} is of a script or notebook, which nobody else can run; put it into a "
            "package (`metabench new`) and run it from there"
        )
    for name in (suite, machine):
        if not FOLDER_NAME.fullmatch(name) or name in RESERVED_MACHINES:
            raise RequestError(f"{path}: {name!r} cannot be the name of a folder of results")
    target = folder / suite / machine / f"{result.cell.id}.json"
    require_no_link(folder, target)
    require_no_link(folder, target.with_name(PARTIAL))
    if target.exists() and target.read_bytes() != path.read_bytes():
        raise RequestError(
            f"{target} is published already, with other content than {path}; published results stay: "
            "raise the suite's version, or remove the old file in a commit of its own that says why"
        )
    _require_same_suite(path, str(result.environment.get("suite_digest")), target)
    return target


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
    for suite in sorted(p for p in folder.iterdir() if p.is_dir() and p.name not in RESERVED):
        if suite.is_symlink():
            parts.append(f"Passed over: {markdown_text(suite.name)}: {LINK}")
            continue
        content = Content.of(Results.read([suite]))
        if not content.rows and not content.problems:
            continue
        parts += _suite_parts(suite, content)
    if len(parts) == 1:
        parts.append("Nothing is published yet.")
    return "\n\n".join(parts) + "\n"


def _suite_parts(suite: Path, content: Content) -> Iterator[str]:
    """The paragraphs about one suite."""
    yield f"# {markdown_text(suite.name)}"
    commands = sorted({row["command"] for row in content.rows if row["command"]})
    if commands:
        yield "\n".join(["Made by:", "", *(f"    {one_line(text)}" for text in commands)])
    for path in sorted(suite.glob(f"*/{PARTIAL}")):
        yield f"Partial ({markdown_text(path.parent.name)}): {markdown_text(_partial_text(path))}"
    yield from (plain(section, "github") for section in content.sections())
    if content.rows and not any(cell["references"] for cell in content.summaries):
        yield UNPUBLISHED
    for problem in content.problems:
        name = os.path.relpath(problem.file, suite.absolute())
        yield f"Passed over: {markdown_text(f'{name}: {problem.what}')}"


def _partial_text(path: Path) -> str:
    if path.is_symlink():
        return LINK
    try:
        return read_bytes(path, LARGEST_PARTIAL).decode()
    except (DocumentError, UnicodeDecodeError) as error:
        return f"unreadable: {error}"


def stale(folder: Path) -> bool:
    """Whether README.md is not what the results in `folder` make."""
    return _readme_bytes(folder / "README.md") != readme(folder).encode()


def write_readme(folder: Path) -> Path:
    """Writes README.md anew; raises RequestError where another is there that metabench did not write."""
    _require_own_readme(folder)
    path = folder / "README.md"
    write_text(path, readme(folder))
    return path


def _require_own_readme(folder: Path) -> None:
    path = folder / "README.md"
    require_no_link(folder, path)
    if path.exists() and MADE_BY.encode() not in _readme_bytes(path):
        raise RequestError(
            f"{path} was not made by `metabench publish`, which would replace it; rename it, or name another "
            "folder with --to"
        )


def _readme_bytes(path: Path) -> bytes:
    try:
        return read_bytes(path, LARGEST_README)
    except DocumentError:
        return b""
