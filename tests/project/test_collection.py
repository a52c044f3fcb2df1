"""Every test of this folder is collected: none is hidden by its name."""

import ast
from pathlib import Path


def hidden_tests(folder: Path) -> list[str]:
    """Module-level functions that carry a pytest mark, as tests do, under a name that pytest passes over."""
    return [
        f"{path.name}: {node.name}"
        for path in sorted(folder.glob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("test_")
        and any("pytest.mark." in ast.unparse(mark) for mark in node.decorator_list)
    ]


def test_no_test_is_hidden_by_its_name() -> None:
    assert hidden_tests(Path(__file__).parent.parent) == []


def test_a_hidden_test_is_found(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("@pytest.mark.slow\ndef errors_fall(): ...\ndef helper(): ...\n")
    assert hidden_tests(tmp_path) == ["test_it.py: errors_fall"]
