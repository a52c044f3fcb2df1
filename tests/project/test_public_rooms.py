"""Plugins, templates and the tutorial import the public rooms of metabench alone, as a third party does."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from helpers.public_rooms import ROOMS
from helpers.shell import ROOT
from metabench.commands import new
from metabench.plugins import KINDS

OF_HARDWARE = ROOMS | {
    "metabench.device.host", "metabench.device.meters", "metabench.device.ranks", "metabench.results.store",
}  # fmt: skip
"""For backends and executors."""


def imported(text: str) -> set[str]:
    """The modules of metabench that a source file imports, anywhere in it and for types too."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"metabench.{alias.name}" if node.module == "metabench" else node.module
                      for alias in node.names}  # fmt: skip
    return {name for name in names if name.split(".")[0] == "metabench"}


def breaches(name: str, text: str) -> set[str]:
    """The imports of a file outside of the rooms that are open to it."""
    rooms = OF_HARDWARE if "backends/" in name or "executors/" in name else ROOMS
    modules = {path for path in imported(text) if not is_public_name(path)}
    return {f"{name} imports {module}" for module in modules - rooms}


def is_public_name(path: str) -> bool:
    """Whether this is a name that `from metabench import …` gives, and no module."""
    import metabench

    return path.removeprefix("metabench.") in (*metabench.__all__, "__version__")


def sources() -> Iterator[tuple[str, str]]:
    """Name and text of every file that stands for a third party's."""
    for folder in ("plugins", "docs/tutorial", "tests/toy_package"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for kind in KINDS:
        for path, text in new.files(kind, "mine"):
            if path.endswith(".py"):
                yield f"templates/{kind}s/{path}", text


def test_plugins_import_public_rooms_alone() -> None:
    present = {breach for name, text in sources() for breach in breaches(name, text)}
    assert sorted(present) == []


@pytest.mark.parametrize(
    ("name", "line", "module"),
    [
        (
            "plugins/x/algorithms/mine.py",
            "from metabench.learning.base import ModuleLearner",
            "learning.base",
        ),
        ("plugins/x/algorithms/mine.py", "import metabench.runner", "runner"),
        ("plugins/x/algorithms/mine.py", "from metabench import contracts", "contracts"),
        (
            "plugins/x/reports/mine.py",
            "def f():\n    from metabench.results.table import Results",
            "results.table",
        ),
        (
            "docs/tutorial/mine.py",
            "if TYPE_CHECKING:\n    from metabench.device.device import Device",
            "device.device",
        ),
        ("plugins/x/algorithms/mine.py", "from metabench.device.ranks import Ranks", "device.ranks"),
        ("plugins/x/backends/mine.py", "from metabench.runner import jobs", "runner"),
    ],
)
def test_a_breach_is_seen(name: str, line: str, module: str) -> None:
    assert breaches(name, line) == {f"{name} imports metabench.{module}"}


def test_backends_may_import_ranks_and_every_plugin_the_front() -> None:
    assert breaches("plugins/x/backends/mine.py", "from metabench.device.ranks import Ranks") == set()
    assert breaches("plugins/x/metrics/mine.py", "from metabench import Metric, data, setting") == set()
