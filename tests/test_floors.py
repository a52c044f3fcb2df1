"""The floors of the design: imports go down only, and the core loads torch in few places."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT

HARNESS = ROOT / "harness" / "metabench"

FLOORS = {
    # module or package of metabench → floor; a module may import from its own floor and from below
    "errors": 0, "settings": 0, "records": 0, "result": 0, "contracts": 0, "jobs": 0, "upgrade": 0,
    "hookspecs": 1, "plugins": 1, "device": 1, "meters": 1, "ranks": 1, "environment": 1, "allocation": 1,
    "engine": 1, "learning": 1, "data": 1,
    "suite": 2, "store": 2, "stats": 2, "ended": 2, "fallen": 2, "gathered": 2, "cost": 2, "probe": 2,
    "loop": 3, "worker": 3,
    "runner": 4, "dispatch": 4, "reproduction": 4, "pairing": 4,
    "cli": 5, "commands": 5, "testing": 5,
}  # fmt: skip
TABLE_FLOOR = 2  # every other module of the core makes tables from stored results

TORCH = {
    "loop", "worker", "device", "ranks", "engine", "learning", "data", "cost", "probe", "testing", "pairing",
}  # fmt: skip


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """The modules that a file imports, leaving out those for type checking alone."""
    tree = ast.parse(path.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    late = {
        id(inner) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in guarded or (top_only and id(node) in late):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(module: str) -> str | None:
    """`metabench.engine.lift` → `engine`; None for what is not of the core or is the package itself."""
    pieces = module.split(".")
    if pieces[0] != "metabench" or len(pieces) < 2:
        return None
    known = {p.stem for p in HARNESS.iterdir()}
    return pieces[1] if pieces[1] in known else None


def floor(name: str) -> int:
    return FLOORS.get(name, TABLE_FLOOR)


def breaches(path: Path, name: str) -> list[str]:
    """The imports of this file that go up a floor."""
    used = {part(module) for module in imports(path)} - {None, name}
    return [f"{name} imports {other}" for other in used if other and floor(other) > floor(name)]


def modules() -> list[tuple[Path, str]]:
    files = [p for p in HARNESS.rglob("*.py") if p.name != "__init__.py" or p.parent != HARNESS]
    return [(p, p.relative_to(HARNESS).parts[0].removesuffix(".py")) for p in files]


def test_imports_go_down_only() -> None:
    assert [breach for path, name in modules() for breach in breaches(path, name)] == []


def test_an_import_that_goes_up_is_seen(tmp_path: Path) -> None:
    bad = tmp_path / "records.py"
    bad.write_text("def f():\n    from metabench.runner import execute\n")
    assert breaches(bad, "records") == ["records imports runner"]


def test_torch_is_imported_at_the_top_of_few_modules_only() -> None:
    heavy = {
        name for path, name in modules()
        if any(m.split(".")[0] == "torch" for m in imports(path, top_only=True))
    }  # fmt: skip
    assert heavy <= TORCH


def test_plugins_use_public_names_only() -> None:
    wrong = []
    for path in (ROOT / "plugins").rglob("*.py"):
        for module in imports(path):
            if module.startswith("metabench.") and any(p.startswith("_") for p in module.split(".")):
                wrong.append(f"{path.name}: {module}")
    assert wrong == []


def test_hook_modules_import_no_torch_at_their_top() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["metabench"]
    for module in points.values():
        program = f"import sys, {module}; sys.exit('torch' in sys.modules or 'learn2learn' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", program]).returncode == 0, module


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["report", "--help"], ["--version"]])
def test_help_loads_neither_torch_nor_pandas(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom metabench import cli\n"
        f"try:\n    cli.main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_every_package_of_the_tree_is_in_the_wheel() -> None:
    told = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {"metabench_suites"}
    for top in ("harness", "plugins"):
        for init in (ROOT / top).rglob("__init__.py"):
            there.add(".".join(init.parent.relative_to(ROOT / top).parts))
    assert told == there
