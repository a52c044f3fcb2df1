"""The tutorial, run as it stands: from `metabench new` to a row on a leaderboard."""

from __future__ import annotations

import json
import re
import tokenize
from pathlib import Path

import pytest

from helpers.snippets import DOCS, commands, scratch, snippets

TUTORIAL = DOCS / "tutorial.md"
FILES = {
    "algorithm.py": "metabench_anchor/algorithm.py",
    "dataset.py": "metabench_anchor/dataset.py",
    "plugin.py": "metabench_anchor/plugin.py",
    "test_anchor.py": "tests/test_anchor.py",
    "anchor.toml": "metabench_anchor/suites/anchor.toml",
}


@pytest.mark.parametrize("name", ["algorithm.py", "dataset.py"])
def test_algorithm_and_dataset_have_at_most_60_lines_and_use_public_names(name: str) -> None:
    path = DOCS / "tutorial" / name
    assert len(path.read_text().splitlines()) <= 60
    with path.open("rb") as file:
        names = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME]
    private = [
        identifier for identifier in names if identifier.startswith("_") and not identifier.endswith("__")
    ]
    assert private == []
    modules = re.findall(r"^\s*from (metabench[\w.]*) import", path.read_text(), re.MULTILINE)
    assert set(modules) <= {
        "metabench",
        "metabench.device",
        "metabench.engine",
        "metabench.learning",
        "metabench.data",
    }


def test_every_file_of_the_tutorial_is_shown_on_the_page() -> None:
    text = TUTORIAL.read_text()
    assert {path.name for path in (DOCS / "tutorial").iterdir() if path.is_file()} == set(FILES)
    for name, place in FILES.items():
        assert f"{{literalinclude}} tutorial/{name}" in text
        assert f"`{place}`" in text


@pytest.mark.slow
def test_tutorial_leads_from_nothing_to_a_published_row(tmp_path: Path) -> None:
    place = scratch(tmp_path)
    first, *rest = snippets(TUTORIAL, "console")
    for line in commands(first):
        output = place.run(line)
    assert "anchor" in output  # the table of the run that the page begins with
    for name, target in FILES.items():
        (place.folder / target).write_text((DOCS / "tutorial" / name).read_text())
    shorten(place.folder / FILES["anchor.toml"])
    for block in rest:
        for line in commands(block):
            output = place.run(line)
    published = sorted((place.folder / "results" / "anchor-v2").rglob("*.json"))
    methods = {json.loads(path.read_text())["cell"]["algorithm"]["name"] for path in published}
    assert methods == {"anchor", "protonet", "nearest-neighbour"}
    assert "anchor" in (place.folder / "results" / "README.md").read_text()
    pages = list((place.folder / "site").rglob("*.html"))
    assert (place.folder / "site" / "index.html") in pages
    assert any("anchor" in page.read_text() and "ripples" in page.read_text() for page in pages)


def shorten(suite: Path) -> None:
    """The same suite with the least training, so that this test takes seconds."""
    text = suite.read_text()
    for long, short in [
        ("steps = 200, tasks = 8, validate_every = 50", "steps = 20, tasks = 4, validate_every = 10"),
        ("tasks = 600", "tasks = 100"), ("seeds = [0, 1, 2]", "seeds = [0]"),
    ]:  # fmt: skip
        assert long in text
        text = text.replace(long, short)
    suite.write_text(text)
