"""Signed records of reruns: `metabench reproduce --record KEY`, what tables count, what `verify` checks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.keys import allow, made_key, needs_ssh_keygen
from helpers.results import store
from helpers.shell import ROOT
from helpers.submissions import honest, run
from helpers.waves import run_waves
from metabench.errors import RequestError
from metabench.plugins import load
from metabench.publishing import Finding, publish, verify
from metabench.publishing.reproduce import Reproduction, read_installed, record
from metabench.publishing.rerun_checks import same_cell
from metabench.publishing.verdict import compare
from metabench.records import Spec, digest_of
from metabench.records.files import read_result
from metabench.records.result import Result
from metabench.report.content import Content
from metabench.results.reproductions import read_record, signature_of
from metabench.results.signatures import OF_RERUNS, sign
from metabench.results.table import Results

pytestmark = needs_ssh_keygen


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: made_key(folder, name) for name in ("alice", "bob", "carol")}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder for all of these tests: what is installed is looked up once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METABENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def published(tmp_path: Path, keys: dict[str, Path]) -> Path:
    """A folder of two results that Alice signed, in a repository that knows her and Bob."""
    publish(verify(store(tmp_path / "results", honest([0]))), tmp_path / "published", keys["alice"])
    allow(tmp_path / "published", keys["alice"], keys["bob"])
    return tmp_path / "published" / "made-v1" / "made-machine-2-cores"


def recorded(file: Path, key: Path, change: Callable[[Result], Result] = lambda result: result) -> Path:
    """The record that a rerun leaves which gave the result of the file, changed."""
    old = read_result(file)
    environment = {**old.environment, "machine": "other-machine"}
    new = change(replace(old, environment=environment, started="2026-02-01T10:00:00+00:00"))
    comparison = compare(old, new)
    return record(file, Reproduction(old, new, (), comparison.verdict, comparison.lines), key)


def worse(result: Result) -> Result:
    assert result.scores is not None
    return replace(result, scores=replace(result.scores, per_task=(0.2,) * len(result.scores.per_task)))


def notes(published: Path) -> dict[str, str]:
    """The notes of each method in the table of scores."""
    (table,) = Content.of(Results.read([published.parent.parent])).sections(["scores"])
    columns, lines, shared = table.shown()
    headers = [column.header for column in columns]
    if "notes" not in headers:
        return {"all": " ".join(shared)}
    return {line[headers.index("method")]: line[headers.index("notes")] for line in lines}


def file_of(published: Path, method: str) -> Path:
    (path,) = published.glob(f"{method}-*.json")
    return path


def findings(published: Path) -> list[Finding]:
    return [finding for finding in verify([published]).findings if finding.check == "reproduction"]


@pytest.mark.slow
def test_a_real_rerun_leaves_a_record_that_tables_count(tmp_path: Path, keys: dict[str, Path]) -> None:
    run_waves(tmp_path)
    publish(verify([tmp_path / "results"]), tmp_path / "published", keys["alice"])
    allow(tmp_path / "published", keys["bob"])
    (path,) = (tmp_path / "published").rglob("maml-*.json")

    again = ["--quiet", "--results", str(tmp_path / "again"), "--record", str(keys["bob"])]
    code, text = run("reproduce", str(path), *again)

    (file,) = (path.parent / "reproduced" / path.stem).glob("*.json")
    assert code == 0
    assert f"recorded: {file}" in text
    kept, signer = read_record(file, tmp_path / "published" / "allowed_signers")
    assert (kept.verdict, kept.reproduced, signer.name) == ("reproduced to the bit", True, "bob@example.org")
    assert kept.rerun["cell"]["plugins"]["algorithm"].startswith("metabench ")
    assert kept.rerun["environment"]["packages"]["torch"]
    assert "reproduced on 1 machine" in notes(path.parent)["all"]
    (finding,) = findings(path.parent)
    assert finding.what.startswith(
        f"reproduced to the bit on {kept.machine}, signed by bob@example.org (SHA256:"
    )
    assert not verify([path.parent]).errors


def test_tables_count_distinct_known_keys_but_for_the_publishers(
    published: Path, keys: dict[str, Path]
) -> None:
    path = file_of(published, "maml")

    for name in ("alice", "carol"):  # who published it, and whom the repository does not know
        recorded(path, keys[name])
    assert "reproduced" not in notes(published)["maml"]

    for day in (1, 2):
        recorded(
            path,
            keys["bob"],
            lambda result, day=day: replace(result, started=f"2026-02-0{day}T10:00:00+00:00"),
        )
    assert "; reproduced on 1 machine" in notes(published)["maml"]
    assert "reproduced" not in notes(published)["protonet"]

    allow(published.parent.parent, *keys.values())
    assert "reproduced on 2 machines" in notes(published)["maml"]
    texts = {finding.what.partition("signed by ")[2] for finding in findings(published)}
    assert len(texts) == 3
    assert any("not counted, since it signed the row itself" in text for text in texts)
    assert not verify([published]).errors


def test_the_site_shows_how_many_reproduced_a_row(
    published: Path, keys: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("jinja2")
    recorded(file_of(published, "maml"), keys["bob"])

    assert (
        run("leaderboard", str(published.parent.parent), "-o", str(tmp_path / "site"), "--pictures", "0")[0]
        == 0
    )

    pages = [
        path.read_text()
        for path in (tmp_path / "site").rglob("*")
        if path.suffix in (".html", ".js", ".json")
    ]
    assert any("reproduced on 1 machine" in page for page in pages)


def test_the_latest_rerun_of_a_key_counts(published: Path, keys: dict[str, Path]) -> None:
    path = file_of(published, "maml")

    recorded(path, keys["bob"])
    recorded(path, keys["bob"], lambda result: worse(replace(result, started="2026-03-01T10:00:00+00:00")))

    assert "not reproduced on 1 machine" in notes(published)["maml"]
    assert "; reproduced on" not in notes(published)["maml"]


def test_a_row_that_was_replaced_loses_its_records(published: Path, keys: dict[str, Path]) -> None:
    path = file_of(published, "maml")
    recorded(path, keys["bob"])

    result = read_result(path)
    path.write_text(json.dumps(replace(result, wall_seconds=31.0).to_json()))

    assert "reproduced" not in notes(published)["maml"]
    assert [f.what for f in findings(published)] == [f"is of another content of {path.name}"]


def resigned(file: Path, key: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a record as its own author could, who signs it anew."""
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    signature_of(file).write_bytes(sign(file.read_bytes(), key, OF_RERUNS))


def other_machine(document: dict[str, Any]) -> None:
    document["rerun"]["environment"]["machine"] = "third"
    document["rerun"]["seal"] = digest_of({k: v for k, v in document["rerun"].items() if k != "seal"})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: d.update(verdict="reproduced to rounding"), "its figures say 'reproduced to the bit'"),
        (lambda d: d.update(reproduced=None), "its figures say 'reproduced to the bit'"),
        (lambda d: d.update(machine="third"), "its machine is 'third', its rerun says 'other-machine'"),
        (other_machine, "its machine is 'other-machine', its rerun says 'third'"),
        (lambda d: d["rerun"].update(reason="x"), "its rerun was changed after metabench wrote it"),
        (lambda d: d["rerun"]["cell"].update(seed=9), "its rerun is of another cell"),
        (lambda d: d.update(date="2026-02-02"), "date must state its time zone"),
        (lambda d: d.update(key="SHA256:abc"), "but says SHA256:abc"),
        (lambda d: d.update(record=2), "record must be 1"),
        (lambda d: d.update(rerun=[]), "rerun must be an object"),
        (lambda d: d.update(rerun={}), "is no record of a rerun"),
        (lambda d: d.update(stars=5), "unknown field 'stars'"),
        (lambda d: d.pop("reproduced"), "reproduced is absent"),
    ],
)
def test_a_record_that_contradicts_itself_is_an_error(
    published: Path, keys: dict[str, Path], change: Callable[[dict[str, Any]], Any], what: str
) -> None:
    file = recorded(file_of(published, "maml"), keys["bob"])
    assert not verify([published]).errors

    resigned(file, keys["bob"], change)

    assert [finding.file for finding in verify([published]).errors] == [str(file)]
    assert what in verify([published]).errors[0].what


def test_a_record_without_a_field_counts_nothing(published: Path, keys: dict[str, Path]) -> None:
    file = recorded(file_of(published, "maml"), keys["bob"])

    resigned(file, keys["bob"], lambda document: document.pop("reproduced"))

    assert "reproduced" not in notes(published)["maml"]


@pytest.mark.parametrize("edit", ["record", "signature", "unsigned", "fifo", "link"])
def test_a_record_that_its_author_did_not_sign_counts_nothing(
    published: Path, keys: dict[str, Path], edit: str
) -> None:
    file = recorded(file_of(published, "maml"), keys["bob"])
    if edit == "record":
        file.write_text(file.read_text().replace("other-machine", "third-machine"))
    elif edit == "signature":
        signature_of(file).write_bytes(sign(file.read_bytes(), keys["bob"], "git"))
    elif edit == "unsigned":
        signature_of(file).unlink()
    elif edit == "link":
        file.rename(moved := published.parent.parent / "moved.json")
        file.symlink_to(moved)
    else:
        file.unlink()
        os.mkfifo(file)

    assert [finding.file for finding in verify([published]).errors] == [str(file)]
    assert "reproduced" not in notes(published)["maml"]


def test_a_record_is_written_through_no_link(published: Path, keys: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (published / "reproduced").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RequestError, match="is a link"):
        recorded(file_of(published, "maml"), keys["bob"])

    assert not list((tmp_path / "elsewhere").iterdir())


def test_without_ssh_keygen_nothing_counts(
    published: Path, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorded(file_of(published, "maml"), keys["bob"])
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "reproduced" not in notes(published)["maml"]
    (finding,) = findings(published)
    assert (finding.serious, "signature not checked" in finding.what) == (False, True)


def test_cells_that_run_anew_with_later_plugins_are_the_same_cells() -> None:
    registry = load()
    compared = 0
    for path in sorted((ROOT / "results").glob("*-v*/*/*-s0-*.json")):
        with suppress(RequestError):  # a setting that no later version of its plugin has
            old, cell = read_installed(path, registry)
            assert same_cell(old.cell, cell), path
            assert not same_cell(replace(old.cell, seed=1), cell)
            assert not same_cell(replace(old.cell, dataset=Spec("other")), cell)
            compared += 1
    assert compared


def test_records_are_no_results(published: Path, keys: dict[str, Path]) -> None:
    recorded(file_of(published, "maml"), keys["bob"])

    assert len(verify([published]).files) == 2
    assert not Results.read([published]).problems
