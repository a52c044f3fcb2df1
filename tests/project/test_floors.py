"""The floors of the house: imports go down only, no rooms form a circle, and torch is loaded in few places.

A room is a module or a package of `metabench`. Imports for types count like all others.
"""

import ast
import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from helpers.shell import ROOT

HARNESS = ROOT / "harness" / "metabench"

FLOORS: Mapping[str, Mapping[str, str]] = {
    # room: rooms that it may import, on its own floor; every floor below is open to it
    "6": {"cli": "commands", "commands": "api", "api": "", "testing": ""},
    "5": {"publishing": ""},
    "4": {"runner": "", "report": ""},
    "3": {"suite": "", "worker": ""},
    "2": {
        "learning": "engine", "engine": "", "data": "", "results": "", "scoring": "",
        "plugins": "hookspecs", "hookspecs": "",
    },
    "1": {"contracts": ""},
    "0": {
        "records": "settings presets text errors", "settings": "errors", "presets": "errors",
        "device": "errors", "stats": "", "text": "",
        "folders": "", "errors": "", "deprecation": "", "interrupts": "",
        "plugin_calls": "errors interrupts text",
    },
}  # fmt: skip

CLOSED: Mapping[str, str] = {
    # room: rooms of lower floors that it must not import all the same
    "testing": "publishing runner",
    "report": "suite worker learning engine data scoring",
    "suite": "learning engine data results scoring",
    "publishing": "worker learning engine",
    "runner": "worker learning engine data scoring",
    "hookspecs": "stats",
}

TORCH = (
    "worker", "device.device", "device.ranks", "device.memory", "engine", "learning", "data", "testing",
    "scoring",
)  # fmt: skip
"""Rooms and modules that import torch at their top."""


def floors() -> dict[str, int]:
    return {room: int(floor) for floor, rooms in FLOORS.items() for room in rooms}


def imported(tree: ast.Module, *, top_only: bool = False) -> set[str]:
    """The modules that a syntax tree imports, for types too; top_only: when it is imported itself."""
    late = set()
    if top_only:
        for node in ast.walk(tree):
            guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            if guarded or isinstance(node, ast.FunctionDef):
                late |= {id(inner) for inner in ast.walk(node)}
    names = set()
    for node in ast.walk(tree):
        if id(node) in late:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms_of(modules: set[str], known: set[str]) -> set[str]:
    """The rooms among imported modules; "metabench" stands for names of the package itself."""
    rooms = set()
    for module in modules:
        first, _, rest = module.partition(".")
        room = rest.partition(".")[0]
        if first == "metabench" and room:
            rooms.add(room if room in known else "metabench")
    return rooms


def arrows(house: Path) -> Iterator[tuple[str, str]]:
    """Pairs of rooms: the first imports the second."""
    files = [path for path in house.rglob("*.py") if path != house / "__init__.py"]
    known = {path.relative_to(house).parts[0].removesuffix(".py") for path in files}
    for path in sorted(files):
        room = path.relative_to(house).parts[0].removesuffix(".py")
        for other in rooms_of(imported(ast.parse(path.read_text())), known) - {room}:
            yield room, other


def breaches(house: Path) -> list[str]:
    """What is wrong with the imports of the rooms in this folder, in words."""
    height, wrong = floors(), set()
    graph: dict[str, set[str]] = {}
    for room, other in arrows(house):
        graph.setdefault(room, set()).add(other)
        if room not in height:
            wrong.add(f"{room}: a room without a floor")
        elif other not in height:
            top = room in ("cli", "commands", "api") and other == "metabench"  # the version, the front door
            wrong |= set() if top else {f"{room} imports {other}: a room without a floor"}
        elif height[other] > height[room]:
            wrong.add(f"{room} imports {other}: up")
        elif height[other] == height[room] and other not in FLOORS[str(height[room])][room].split():
            wrong.add(f"{room} imports {other}: across")
        elif other in CLOSED.get(room, "").split():
            wrong.add(f"{room} imports {other}: closed to it")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        wrong.add(f"circle: {' → '.join(error.args[1])}")
    return sorted(wrong)


def test_imports_go_down_only_and_every_room_has_a_floor() -> None:
    assert breaches(HARNESS) == []


def test_every_floor_names_rooms_that_exist() -> None:
    assert [
        room for room in floors() if not (HARNESS / room).exists() and not (HARNESS / f"{room}.py").exists()
    ] == []


@pytest.mark.parametrize(
    ("files", "breach"),
    [
        ({"records/cell.py": "from metabench.runner import execute"}, "records imports runner: up"),
        ({"results/rows.py": "def f():\n    import metabench.report.scores"}, "results imports report: up"),
        (
            {"contracts.py": "if TYPE_CHECKING:\n    from metabench.results.table import Results"},
            "contracts imports results: up",
        ),
        ({"suite/reader.py": "import metabench.worker.cell"}, "suite imports worker: across"),
        ({"corridor.py": "from metabench.errors import MetabenchError"}, "corridor: a room without a floor"),
        ({"runner/jobs.py": "from metabench.worker import cell"}, "runner imports worker: closed to it"),
        (
            {"text.py": "from metabench.folders import data_folder", "folders.py": "import metabench.text"},
            "circle: ",
        ),
    ],
)  # fmt: skip
def test_a_breach_is_seen(files: Mapping[str, str], breach: str, tmp_path: Path) -> None:
    names = {
        *files,
        "runner/execute.py",
        "report/scores.py",
        "results/table.py",
        "worker/cell.py",
        "errors.py",
    }
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(files.get(name, ""))
    (tmp_path / "folders.py").touch()
    assert any(line.startswith(breach) for line in breaches(tmp_path))


def test_torch_is_imported_at_the_top_of_few_modules_only() -> None:
    heavy = set()
    for path in HARNESS.rglob("*.py"):
        if any(
            name.split(".")[0] == "torch" for name in imported(ast.parse(path.read_text()), top_only=True)
        ):
            heavy.add(".".join(path.relative_to(HARNESS).with_suffix("").parts))
    assert [
        name for name in sorted(heavy) if not any(f"{name}.".startswith(f"{place}.") for place in TORCH)
    ] == []


def test_hook_modules_import_no_torch_at_their_top() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["metabench"]
    for module in points.values():
        program = f"import sys, {module}; sys.exit('torch' in sys.modules or 'learn2learn' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", program]).returncode == 0, module


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["report", "--help"], ["doctor", "--help"], ["--version"]]
)
def test_help_loads_neither_torch_nor_pandas(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom metabench import cli\n"
        f"try:\n    cli.main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_every_package_of_the_tree_is_in_the_wheel() -> None:
    named = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {"metabench_suites"}
    for top in ("harness", "plugins"):
        for init in (ROOT / top).rglob("__init__.py"):
            present.add(".".join(init.parent.relative_to(ROOT / top).parts))
    assert named == present
