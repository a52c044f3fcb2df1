"""Digests of code: what changes them, what does not, and which modules belong to a component."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from metabench.records import code
from metabench.records.code import CodeReader, changed_code, source_of

FILES = {
    "own_pack/__init__.py": "from own_pack.method import Method\n",
    "own_pack/method.py": "from own_pack.inner import parts\nfrom .inner.rates import RATE\n"
    "import own_helper\nimport json\n\n\nclass Method:\n    def rate(self):\n        return RATE\n",
    "own_pack/other.py": "OTHER = 1\n",
    "own_pack/inner/__init__.py": "INNER = 1\n",
    "own_pack/inner/parts.py": "def part():\n    from own_pack.inner import late\n    return late\n",
    "own_pack/inner/rates.py": "RATE = 0.1\n",
    "own_pack/inner/late.py": "LATE = 1\n",
    "own_helper.py": "HELP = 1\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package that is not imported, and a module beside it."""
    folder = tmp_path / "source"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in [name for name in sys.modules if name.startswith("own_")]:  # packages are imported to look
        monkeypatch.delitem(sys.modules, name)
    return folder


def digest(module: str = "own_pack.method") -> str:
    return CodeReader().component(module)


@pytest.mark.parametrize("name", [
    "own_pack/inner/parts.py", "own_pack/inner/rates.py", "own_pack/inner/late.py", "own_helper.py",
    "own_pack/method.py",
])  # fmt: skip
def test_a_changed_module_that_is_imported_changes_the_digest(package: Path, name: str) -> None:
    before = digest()

    (package / name).write_text(FILES[name] + "MORE = 2\n")

    assert digest() != before


@pytest.mark.parametrize("name", ["own_pack/other.py", "own_pack/__init__.py", "own_pack/inner/__init__.py"])
def test_a_module_that_is_not_imported_changes_nothing(package: Path, name: str) -> None:
    before = digest()

    (package / name).write_text(FILES[name] + "MORE = 2\n")

    assert digest() == before


def test_comments_layout_and_docstrings_change_nothing(package: Path) -> None:
    before = digest()
    text = FILES["own_pack/method.py"].replace("class Method:\n", 'class Method:\n    """Help."""\n\n')

    (package / "own_pack/method.py").write_text(f'"""A module."""\n# a comment\n{text}')
    assert digest() == before

    (package / "own_pack/method.py").write_text(text.replace('"""Help."""', '"""Help."""; x = "text"'))
    assert digest() != before


def test_a_flipped_sign_changes_the_digest(package: Path) -> None:
    before = digest()
    (package / "own_pack/method.py").write_text(
        FILES["own_pack/method.py"].replace("return RATE", "return -RATE")
    )
    assert digest() != before


def test_a_name_that_a_package_hands_on_counts_the_package(package: Path) -> None:
    (package / "user.py").write_text("from own_pack.inner import INNER\n")
    before = digest("user")

    (package / "own_pack/inner/__init__.py").write_text("INNER = 2\n")

    assert digest("user") != before


def test_files_are_read_once_until_they_change(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache" / "code.json"
    expected = CodeReader(cache).code_of({"algorithm": "own_pack.method:Method"}, {})
    read: list[Path] = []
    original = code._read

    def counted(path: Path) -> object:
        read.append(path)
        return original(path)

    monkeypatch.setattr(code, "_read", counted)
    assert CodeReader(cache).code_of({"algorithm": "own_pack.method:Method"}, {}) == expected
    assert read == []

    (package / "own_helper.py").write_text("HELP = 22\n")
    assert CodeReader(cache).code_of({"algorithm": "own_pack.method:Method"}, {}) != expected
    assert [path.name for path in read] == ["own_helper.py"]


def test_the_cache_forgets_files_that_are_gone(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "code.json"
    CodeReader(cache).code_of({"algorithm": "own_pack.method:Method"}, {})
    assert "own_helper.py" in cache.read_text()

    (package / "own_helper.py").unlink()
    (package / "own_pack" / "method.py").write_text("METHOD = 1\n")
    CodeReader(cache).code_of({"algorithm": "own_pack.method:Method"}, {})

    assert "own_helper.py" not in cache.read_text()
    assert "method.py" in cache.read_text()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"format": 1}', b'{"format": 99, "files": {}}'])
def test_a_damaged_cache_is_made_anew(package: Path, tmp_path: Path, content: bytes) -> None:
    cache = tmp_path / "code.json"
    cache.write_bytes(content)

    assert CodeReader(cache).component("own_pack.method") == digest()


def test_only_code_that_both_know_is_compared() -> None:
    stored = {"algorithm": "a", "harness": "h", "metric": "m"}

    assert changed_code(stored, {"algorithm": "b", "harness": "h", "dataset": "d"}) == ["algorithm"]
    assert changed_code({}, stored) == []


def test_the_harness_is_read_and_a_module_without_source_has_no_digest() -> None:
    assert len(CodeReader().harness) == 64
    assert source_of("sys") is None
    assert CodeReader().component("sys") == ""
    assert CodeReader().component("no_such_module_here") == ""
