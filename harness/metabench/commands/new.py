"""`metabench new KIND NAME`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

import click

from metabench import CONTRACT_VERSION, __version__
from metabench.errors import RequestError, StoreError, did_you_mean
from metabench.plugins import KINDS, Registry, load
from metabench.suite import installed_suites

TEMPLATES = Path(__file__).parent / "templates"
LEADERBOARD = "leaderboard"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

CHECKS = {kind: f"check_{kind}" for kind in KINDS} | {"algorithm": "check_learner"}
SWEEPS = {
    "algorithm": 'algorithm = ["$name", "protonet", "nearest-neighbour"]',
    "network": 'network = ["$name", "mlp"]',
    "dataset": 'dataset = ["$name", "blobs"]',
    "metric": '"evaluation.metric" = ["$name", "accuracy"]',
    "backend": 'backend = ["$name", {name = "cpu", threads = 1}]',
    "executor": 'algorithm = ["protonet", "nearest-neighbour"]',
    "logger": 'algorithm = ["protonet", "nearest-neighbour"]',
    "report": 'algorithm = ["protonet", "nearest-neighbour"]',
}
RUN_OPTIONS = {"executor": " --executor $name", "logger": " --log $name"}
AFTER = {"report": "\nmetabench report results/local/$name-v1 --format $name"}


@click.command(
    epilog="""\b
Examples:
  metabench new algorithm cosine-means
  metabench new dataset chords --folder ~/chords
  metabench new leaderboard letters
"""
)
@click.argument("kind")
@click.argument("name")
@click.option("--folder", metavar="FOLDER", help="Where to write it; ./metabench-NAME by default.")
def command(kind: str, name: str, folder: str | None) -> int:
    """Write a small package that provides the KIND called NAME and works at once.

    KIND is one of algorithm, network, dataset, metric, backend, executor, logger, report. The package
    holds the component, its test, a suite that compares it with the built-ins, and a README with what to do
    next.

    KIND may be leaderboard, too: a repository for results with a suite of its own, and a workflow that
    verifies pull requests and runs one of their rows again.
    """
    if kind not in (*KINDS, LEADERBOARD):
        known = (*KINDS, LEADERBOARD)
        raise RequestError(f"no kind of component is called {kind!r}; {did_you_mean(kind, known)}")
    _check_name(load(), kind, name)
    target = Path(folder or f"metabench-{name}").expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RequestError(f"{target} exists and is not empty; choose another --folder")
    for path, text in files(kind, name):
        try:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{target / path}: cannot be written: {error.strerror}") from error
    steps = (
        ["pip install -e .", "git init"] if kind == LEADERBOARD else ["pip install -e '.[test]'", "pytest"]
    )
    click.echo("\n  ".join([f"wrote {target}; next:", f"cd {target}", *steps, f"metabench run {name}"]))
    return 0


def _check_name(registry: Registry, kind: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} is no name: use small letters, digits and single dashes, e.g. my-{kind}"
        )
    if kind in KINDS and name in registry.names(kind):
        owner = registry.find(kind, name).plugin
        raise RequestError(f"the {kind} {name!r} is already provided by {owner}; choose another name")
    if name in installed_suites(registry):
        raise RequestError(
            f"a suite is already called {name!r}, as the package's own would be; choose another name"
        )


def files(kind: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield every file of the package: its path within the folder, and its text."""
    module = "metabench_" + name.replace("-", "_")
    words = {
        "kind": kind, "name": name, "name_": name.replace("-", "_"), "module": module,
        "distribution": f"metabench-{name}", "title": name.replace("-", " ").capitalize(),
        "cls": "".join(part.capitalize() for part in name.split("-")), "contract": str(CONTRACT_VERSION),
        "version": __version__,
    }  # fmt: skip
    yield f"{module}/__init__.py", f'"""The {kind} \'{name}\' for metabench."""\n'
    if kind in KINDS:
        words["check"] = CHECKS[kind]
        words["sweep"] = Template(SWEEPS[kind]).substitute(words)
        words["run_options"] = Template(RUN_OPTIONS.get(kind, "") + AFTER.get(kind, "")).substitute(words)
    for path, template in (_templates if kind in KINDS else _leaderboard_templates)(kind, words).items():
        yield path, Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(words)


def _templates(kind: str, words: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a package with a component, and their templates."""
    return {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        f"{words['module']}/plugin.py": "plugin.py.txt",
        f"{words['module']}/{kind}.py": f"{kind}.py.txt",
        f"{words['module']}/suites/{words['name']}.toml": "suite.toml.txt",
        f"tests/test_{words['name_']}.py": "test.py.txt",
    }


def _leaderboard_templates(kind: str, words: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a results repository, and their templates."""
    templates = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        ".gitignore": "gitignore.txt",
        ".github/workflows/referee.yml": "referee.yml.txt",
        "referee/check.py": "check.py.txt",
        "referee/post.py": "post.py.txt",
        "referee/plugins.txt": "plugins.txt.txt",
        "results/allowed_signers": "allowed_signers.txt",
        f"{words['module']}/plugin.py": "plugin.py.txt",
        f"{words['module']}/suites/{words['name']}.toml": "suite.toml.txt",
    }
    return {path: f"{kind}/{template}" for path, template in templates.items()}
