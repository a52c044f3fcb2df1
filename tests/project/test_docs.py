"""The documentation agrees with the code: signatures, help, snippets, links."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from helpers.public_rooms import ROOMS
from helpers.shell import ROOT
from helpers.snippets import DOCS, commands, files, pages, scratch, snippets
from metabench import hookspecs
from metabench.cli import COMMANDS, metabench
from metabench.plugins import load
from metabench.suite import read

GENERATED = sorted(path.name for path in (DOCS / "reference").glob("*.md"))
OTHERS = {
    "hardware.md",
    "learn2learn.md",
    "reports.md",
    "states.md",
}  # their blocks need what a test machine lacks


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        spec.loader.exec_module(module)
    yield module
    del sys.modules["rooms"]


def test_reference_pages_are_what_the_code_says(generator: ModuleType) -> None:
    texts = generator.pages()
    assert sorted(texts) == GENERATED
    stale = [name for name, text in texts.items() if (DOCS / "reference" / name).read_text() != text]
    assert stale == [], "run `python docs/generate.py`"


def test_every_public_name_of_every_room_is_on_its_page(generator: ModuleType) -> None:
    rooms = sys.modules[generator.room_page.__module__]
    assert {f"metabench.{room}" for room in generator.ROOMS} | {"metabench"} == ROOMS
    for room in generator.ROOMS:
        names = rooms.public_names(importlib.import_module(f"metabench.{room}"))
        assert names
        other_pages = generator.OTHER_PAGES.get(room, {})
        for name in names:
            page = next((page for page, listed in other_pages.items() if name in listed), f"{room}.md")
            assert f"\n## {name}\n" in (DOCS / "reference" / page).read_text(), name


def test_every_page_is_in_the_index() -> None:
    text = (DOCS / "index.md").read_text()
    paths = [page.relative_to(DOCS).with_suffix("").as_posix() for page in pages()]
    assert [path for path in paths if path != "index" and f"\n{path}\n" not in text] == []


def test_every_hook_is_in_the_docs_with_its_exact_arguments() -> None:
    text = (DOCS / "reference" / "hooks.md").read_text()
    hooks = {name: f for name, f in vars(hookspecs).items() if name.startswith("metabench_")}
    assert len(hooks) >= 10
    for name, function in hooks.items():
        arguments = ", ".join(
            f"{argument.name}: {argument.annotation}"
            for argument in inspect.signature(function).parameters.values()
        )
        assert f"{name}({arguments}) -> " in text, name


def helps(generator: ModuleType) -> dict[str, str]:
    """What `--help` of every command prints: command line → text."""
    lines = ["metabench", *(line for line, _ in generator.command_lines())]
    return {
        line: CliRunner().invoke(
            metabench, [*line.split()[1:], "--help"], prog_name="metabench", terminal_width=100
        ).output
        for line in lines
    }  # fmt: skip


def test_help_in_the_docs_is_what_the_command_prints(generator: ModuleType) -> None:
    text = (DOCS / "reference" / "commands.md").read_text()
    texts = helps(generator)
    assert {f"metabench {name}" for name in COMMANDS} < set(texts)
    for line, printed in texts.items():
        assert f"## `{line}`\n\n```text\n{printed.rstrip()}\n```" in text, line


def test_every_help_has_an_example_of_its_command(generator: ModuleType) -> None:
    texts = helps(generator)
    assert "metabench run quick" in texts.pop("metabench")
    without = [line for line, text in texts.items() if line not in text.partition("Example")[2]]
    assert without == []


@pytest.mark.parametrize("page", [str(p.relative_to(DOCS)) for p in pages() if snippets(p, "python")])
def test_python_on_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "doc_" + re.sub(r"\W", "_", page)
    (tmp_path / f"{name}.py").write_text("\n\n".join(snippets(DOCS / page, "python")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)  # a module, since workers and checks import classes by their path
    for function in [f for n, f in vars(module).items() if n.startswith("test_")]:
        function()
    monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("page", [str(p.relative_to(DOCS)) for p in pages() if snippets(p, "toml")])
def test_suites_on_a_page_are_read(page: str, tmp_path: Path) -> None:
    suites = 0
    for text in snippets(DOCS / page, "toml"):
        name = re.search(r'^name = "([\w-]+)"', text, re.MULTILINE)
        if name and "[[cells]]" in text:
            path = tmp_path / f"{name[1]}.toml"
            path.write_text(text)
            assert read(load(), str(path)).cells
            suites += 1
    assert suites or page in OTHERS


def test_commands_on_the_pages_run(tmp_path: Path) -> None:
    place = scratch(tmp_path)
    for page in pages():
        if page.name in OTHERS or page.name == "tutorial.md":  # the tutorial has a test of its own
            continue
        for name, text in files(page).items():
            (place.folder / name).write_text(text)
        for block in snippets(page, "console"):
            for line in commands(block):
                place.run(line)


def test_contract_checks_are_named_on_the_page_of_their_kind() -> None:
    checks = {"algorithm": "check_learner", "suite": "metabench_suites"}
    for page in (DOCS / "kinds").glob("*.md"):
        text = page.read_text()
        assert checks.get(page.stem, f"check_{page.stem}") in text
        assert page.stem == "suite" or f"metabench new {page.stem} " in text


def test_links_between_pages_resolve() -> None:
    for page in [*pages(), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+\.md)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    pytest.importorskip("furo")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(build, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "metabench_progress" in (tmp_path / "reference" / "hooks.html").read_text()


def test_changelog_names_this_version_and_its_contract() -> None:
    from metabench import CONTRACT_VERSION, __version__

    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {__version__} (contract {CONTRACT_VERSION})" in text
    assert "Deprecat" in text
