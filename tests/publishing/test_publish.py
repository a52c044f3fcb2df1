"""`metabench publish`: what is published stays, as a whole, and its page is true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.reports import content_in
from helpers.results import store
from helpers.shell import ROOT
from helpers.submissions import edited, honest, honest_result, made_cell, made_suite, run
from metabench.errors import RequestError
from metabench.publishing import publish, readme, stale, verify, write_readme
from metabench.publishing.installation import Installation
from metabench.records.files import read_result, state_path, write_bytes
from metabench.results.states import digest_of_bytes, pack, read_state


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is asked about this installation is remembered from test to test, and nowhere else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METABENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_what_is_published_lies_by_suite_and_machine_and_stays(
    stored_results: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "published"
    published = publish(verify([stored_results[0].parent]), target)

    assert {path.parent for path in published} == {target / "made-v1" / "made-machine-2-cores"}
    assert {path.name for path in published} == {path.name for path in stored_results}
    assert publish(verify([stored_results[0].parent]), target) == []  # again: nothing new
    published[0].write_text("{}")
    with pytest.raises(RequestError, match="published results stay"):
        publish(verify([stored_results[0].parent]), target)


def test_publishing_refuses_what_verify_refuses(stored_results: list[Path], tmp_path: Path) -> None:
    edited(stored_results[0], lambda document: document.update(mean=0.9))

    code, _ = run("publish", str(stored_results[0].parent), "--to", str(tmp_path / "published"))

    assert code == 1
    assert not (tmp_path / "published").exists()


def test_a_machine_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    store(tmp_path, [honest_result(machine="../../elsewhere")])

    with pytest.raises(RequestError, match="cannot be the name of a folder"):
        publish(verify([tmp_path]), tmp_path / "published")


def test_a_part_of_a_suite_is_published_on_request_and_labelled(
    stored_results: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Installation, "suites", lambda self, folders: made_suite(made_cell("cnp")))
    source, target = str(stored_results[0].parent), tmp_path / "published"

    code, text = run("publish", source, "--to", str(target))
    assert code == 1
    assert "1 of 7 cells lack a result" in text
    assert not target.exists()

    assert run("publish", source, "--to", str(target), "--partial")[0] == 0
    assert "Partial (made-machine-2-cores): 1 of 7 cells lack a result" in (target / "README.md").read_text()
    assert not verify([target], made_suite(made_cell("cnp")), complete=True).errors

    store(tmp_path / "results", [honest_result(made_cell("cnp"))])
    assert run("publish", source, "--to", str(target))[0] == 0
    assert "Partial" not in (target / "README.md").read_text()


def test_results_of_another_text_of_a_published_suite_are_refused(
    stored_results: list[Path], tmp_path: Path
) -> None:
    publish(verify([stored_results[0].parent]), tmp_path / "published")
    (other,) = honest([7], ["maml"])
    other = replace(other, environment={**other.environment, "suite_digest": "d" * 64, "machine": "mine"})
    store(tmp_path / "mine", [other])

    with pytest.raises(RequestError, match="another text of its suite"):
        publish(verify([tmp_path / "mine"]), tmp_path / "published")


def test_every_table_that_has_a_line_stands_on_the_page(tmp_path: Path) -> None:
    targets = [honest_result(made_cell("maml", s, target=0.6)) for s in range(3)]
    publish(verify([store(tmp_path / "results", targets)[0].parent]), tmp_path / "published")

    page = readme(tmp_path / "published")

    titles = [
        section.title for section in content_in([tmp_path / "published"], tmp_path / "cache").sections()
    ]
    assert {"Scores", "Wall time", "Time to target", "Cost"} <= set(titles)
    assert all(f"## {title}\n" in page for title in titles)
    assert "No published counterpart" in page


def test_the_page_of_published_results_is_stale_until_made_anew(
    stored_results: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "published"

    code, _ = run("publish", str(stored_results[0].parent), "--to", str(target))
    assert code == 0
    assert "| protonet" in (target / "README.md").read_text()
    assert run("publish", "--check", "--to", str(target))[0] == 0
    next((target / "made-v1").rglob("*.json")).unlink()
    assert stale(target)
    assert run("publish", "--check", "--to", str(target))[0] == 1
    write_readme(target)
    assert not stale(target)


def test_the_page_of_this_repository_is_up_to_date(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path))

    assert (ROOT / "results" / "README.md").read_text() == readme(ROOT / "results"), "run: metabench publish"


def test_what_is_published_in_this_repository_verifies() -> None:
    folders = [p for p in (ROOT / "results").iterdir() if p.is_dir() and p.name != "local"]
    if not folders:
        pytest.skip("nothing is published yet")

    assert not verify(folders, complete=True).errors


@pytest.mark.parametrize("name", ["README.md", "made-v1", "made-v1/made-machine-2-cores/partial.txt"])
def test_publishing_writes_through_no_link(stored_results: list[Path], tmp_path: Path, name: str) -> None:
    target, victim = tmp_path / "published", tmp_path / "victim"
    link = target / name
    link.parent.mkdir(parents=True)
    if name == "made-v1":
        victim.mkdir()
    else:
        victim.write_text("precious")
    link.symlink_to(victim)

    with pytest.raises(RequestError, match="is a link"):
        run("publish", str(stored_results[0].parent), "--to", str(target), "--partial")

    assert list(victim.iterdir()) == [] if victim.is_dir() else victim.read_text() == "precious"
    assert not list(target.rglob("*.json"))


def test_publishing_keeps_a_readme_that_it_did_not_write(stored_results: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "published"
    target.mkdir()
    (target / "README.md").write_text("# Mine\n")

    with pytest.raises(RequestError, match="was not made by `metabench publish`"):
        run("publish", str(stored_results[0].parent), "--to", str(target))

    assert (target / "README.md").read_text() == "# Mine\n"
    assert not list(target.rglob("*.json"))


@pytest.mark.parametrize("machine", ["aside", "日本"])
def test_a_machine_whose_folder_nobody_would_read_is_named(tmp_path: Path, machine: str) -> None:
    paths = store(tmp_path / "results", [honest_result(machine=machine)])

    assert any("no folder of results can be" in finding.what for finding in verify(paths).errors)
    with pytest.raises(RequestError, match="cannot be the name of a folder"):
        publish(verify(paths), tmp_path / "published")


def test_a_machine_called_local_is_read_where_it_is_published(tmp_path: Path) -> None:
    store(tmp_path / "results", [honest_result(machine="local")])

    publish(verify([tmp_path / "results"]), tmp_path / "published")

    assert len(verify([tmp_path / "published"]).files) == 1
    assert "maml" in readme(tmp_path / "published")


def test_the_page_shows_no_file_of_somebody_else(stored_results: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "published"
    publish(verify([stored_results[0].parent]), target)
    secret = tmp_path / "secret"
    secret.write_text("secret words")
    (target / "made-v1" / "made-machine-2-cores" / "partial.txt").symlink_to(secret)
    (target / "other-v1").symlink_to(tmp_path / "results" / "made-v1")
    (target / "made-v1" / "x.json").write_text("{}")

    page = readme(target)

    assert "secret words" not in page
    assert "Passed over: other-v1: a link" in page
    assert "Passed over: x.json: no result" in page


def test_learned_states_are_published_where_that_is_asked_for_and_they_are_small(tmp_path: Path) -> None:
    source, published = tmp_path / "results", tmp_path / "published"
    states = {"maml": torch.zeros(8), "protonet": torch.zeros(300_000)}  # the latter has 1.2 MB
    for method, tensor in states.items():
        (result,) = honest([0], [method])
        content = pack({"w": tensor})
        digest = digest_of_bytes(content)
        (path,) = store(source, [replace(result, state=digest)])
        write_bytes(state_path(path.parent, digest), content)

    publish(verify([source]), published)
    assert not list(published.rglob("*.safetensors"))

    publish(verify([source]), published, with_weights=True)
    (copy,) = published.rglob("*.safetensors")
    assert torch.equal(read_state(copy, copy.stem)["w"], states["maml"])
    assert {read_result(path).state != "" for path in published.rglob("*.json")} == {True}
