"""The test tree: every test is collected, and test modules share helpers, not each other."""

import ast
import re
from pathlib import Path

from helpers.shell import ROOT

TESTS = ROOT / "tests"


def hidden_tests(folder: Path) -> list[str]:
    """Module-level functions that carry a pytest mark, as tests do, under a name that pytest passes over."""
    return [
        f"{path.name}: {node.name}"
        for path in sorted(folder.rglob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("test_")
        and any("pytest.mark." in ast.unparse(mark) for mark in node.decorator_list)
    ]


def imports_of_tests(folder: Path) -> list[str]:
    """Lines that import a test module."""
    return [
        f"{path.name}: {line.strip()}"
        for path in sorted(folder.rglob("*.py"))
        for line in path.read_text().splitlines()
        if re.match(r"\s*(from|import) (\w+\.)*test_\w+", line)
    ]


def test_no_test_is_hidden_by_its_name() -> None:
    assert hidden_tests(TESTS) == []


def test_no_module_imports_a_test_module() -> None:
    assert imports_of_tests(TESTS) == [], "what tests share lies in tests/helpers"


def test_a_hidden_test_is_reported(tmp_path: Path) -> None:
    (tmp_path / "runner").mkdir()
    path = tmp_path / "runner" / "test_it.py"
    path.write_text("@pytest.mark.slow\ndef errors_fall(): ...\ndef helper(): ...\n")
    assert hidden_tests(tmp_path) == ["test_it.py: errors_fall"]


def test_an_import_of_a_test_module_is_reported(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def f():\n    from engine.test_adapt import g\n")
    assert imports_of_tests(tmp_path) == ["test_it.py: from engine.test_adapt import g"]
