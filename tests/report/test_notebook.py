"""Tables in a notebook: what Jupyter shows of them."""

from pathlib import Path

import pytest

from helpers.results import made_board, store
from metabench.report import Content
from metabench.results.table import Results

CELL = """
from metabench import Results
from metabench.report import Content
Content.of(Results.read(["results"]))
"""


def test_a_table_escapes_the_names_that_it_shows() -> None:
    (table,) = Content.of(Results.of(made_board(test_tasks=10))).sections(["scores"])
    table.records[0]["method"] = "<script>alert(1)</script>"
    assert "<script>" not in table._repr_html_()
    assert "&lt;script&gt;" in table._repr_html_() == table.html()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the notebook's own client
def test_an_executed_notebook_shows_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    store(Path("results"), made_board(test_tasks=60))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (shown,) = notebook.cells[0].outputs
    assert "<h2>Scores" in shown["data"]["text/html"]
    assert "maml" in shown["data"]["text/html"]
