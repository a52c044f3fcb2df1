"""`metabench verify` and `publish`: what is wrong with a submission is named, file by file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from conftest import ROOT
from made_results import made_cell, made_result, store
from metabench import Result, Spec, verification
from metabench.cli import metabench
from metabench.completeness import Standard
from metabench.errors import RequestError
from metabench.publishing import publish, readme, stale, write_readme
from metabench.records import Cell, digest_of
from metabench.result import SCHEMA
from metabench.schema import schema, stored
from metabench.store import read_result
from metabench.table import Table
from metabench.upgrade import upgrade
from metabench.verification import Finding, verify, verify_whole
from test_index import spoiled


def honest(seeds: Sequence[int] = (0, 1, 2), methods: Sequence[str] = ("maml", "protonet")) -> list[Result]:
    return [made_result(made_cell(m, s), 0.7) for m in methods for s in seeds]


@pytest.fixture
def stored_results(tmp_path: Path) -> list[Path]:
    return store(tmp_path / "results", honest())


def errors(path: Path) -> list[Finding]:
    return verify([path]).errors


def edited(path: Path, change: Callable[[dict[str, Any]], None], seal: bool = False) -> None:
    """Changes a stored file as a person with an editor would; seal: and forges the seal."""
    told = json.loads(path.read_text())
    change(told)
    if seal:
        told["seal"] = digest_of({k: v for k, v in told.items() if k != "seal"})
    path.write_text(json.dumps(told))


def test_an_honest_set_passes(stored_results: list[Path]) -> None:
    found = verify([stored_results[0].parent])

    assert len(found.files) == 6
    assert not found.findings


def test_a_hand_edited_score_is_named(stored_results: list[Path]) -> None:
    def change(told: dict[str, Any]) -> None:
        told["scores"]["per_task"][7] = 1.0

    edited(stored_results[0], change)

    found = errors(stored_results[0].parent)
    assert {one.file for one in found} == {str(stored_results[0])}
    assert {one.check for one in found} == {"seal", "scores"}


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        (lambda t: t["scores"]["per_task"].__setitem__(7, 0.987), "scores", "no number of right answers"),
        (lambda t: t["scores"].update(per_task=t["scores"]["per_task"][:599]), "scores", "599 tasks"),
        (lambda t: t.update(mean=0.99), "scores", "does not follow"),
        (lambda t: t["cell"]["algorithm"]["settings"].update(inner_rate=9), "cell digest", "edited"),
        (lambda t: t["environment"].pop("processor"), "environment", "processor"),
        (lambda t: t["training"].update(seconds=0.01), "clock", "blocks take"),
        (lambda t: t.update(wall_seconds=2.0), "clock", "its parts take"),
        (lambda t: t["training"].update(steps=4000), "clock", "steps"),
        (lambda t: t["setup"].update(data=-1.0), "clock", "negative"),
        (lambda t: t.update(started="2199-01-01T00:00:00+00:00"), "clock", "2199"),
        (lambda t: t["scores"].update(manifest="none"), "manifest", "no SHA-256"),
        (lambda t: t["scores"].update(manifest="a" * 64), "manifest", "differs from that of"),
        (lambda t: t["environment"].update(suite_digest="b" * 64), "suite digest", "differs"),
        (lambda t: t["scores"].update(transductive=False), "transduction", "does not claim"),
        (lambda t: t.update(parameters="many"), "schema", "parameters is 'many'"),
        (lambda t: t.update(status="splendid"), "schema", "splendid"),
    ],
)  # fmt: skip
def test_each_kind_of_tampering_is_found(
    stored_results: list[Path], change: Callable[[dict[str, Any]], None], check: str, says: str
) -> None:
    edited(stored_results[0], change, seal=True)

    found = errors(stored_results[0].parent)

    assert any(one.check == check and says in one.what for one in found), found
    assert "seal" not in {one.check for one in found}


@pytest.mark.parametrize("wrong", [None, -7, "x", [], {"a": [1]}, float("nan")], ids=repr)
def test_whatever_a_file_holds_verify_names_it(tmp_path: Path, wrong: Any) -> None:
    told = made_result(made_cell(test_tasks=20)).to_json()
    files = [one for one in spoiled(told, wrong, depth=3) if json.dumps(one) != json.dumps(told)]
    for number, one in enumerate(files):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / f"{made_cell(test_tasks=20).id}.json").write_text(json.dumps(one))

    found = verify([tmp_path])

    named = {Path(one.file).parent.name for one in found.errors}
    assert named >= {str(number) for number in range(len(files))}


def test_a_truncated_and_a_foreign_file_are_named(stored_results: list[Path]) -> None:
    stored_results[0].write_bytes(stored_results[0].read_bytes()[:1000])
    foreign = stored_results[0].parent / "foreign.json"
    foreign.write_text('{"a": 1}')

    named = {one.file for one in errors(foreign.parent) if one.check == "schema"}
    assert named == {str(stored_results[0]), str(foreign)}


def test_a_missing_seed_is_found(stored_results: list[Path]) -> None:
    stored_results[4].unlink()

    (found,) = errors(stored_results[0].parent)
    assert found.check == "complete"
    assert "protonet" in found.what
    assert "seed 1" in found.what


def made_standard(*more: Cell) -> dict[str, Standard]:
    cells = [result.cell for result in honest()]
    digest = str(honest()[0].environment["suite_digest"])
    return {"made-v1": Standard([*cells, *more], digest)}


def test_a_missing_cell_is_found_where_the_suite_is_known(stored_results: list[Path]) -> None:
    (found,) = verify([stored_results[0].parent], made_standard(made_cell("cnp"))).errors

    assert "1 of 7 cells lack a result: cnp-" in found.what
    assert not verify([stored_results[0].parent], made_standard()).findings


def test_a_seed_that_every_cell_lacks_is_found_and_one_more_is_welcome(tmp_path: Path) -> None:
    store(tmp_path / "two", honest([0, 1]))
    store(tmp_path / "four", honest([0, 1, 2, 3]))
    store(tmp_path / "chosen", [*honest(), *honest([3], ["maml"])])

    (found,) = verify([tmp_path / "two"], made_standard()).errors
    (uneven,) = verify([tmp_path / "chosen"], made_standard()).errors

    assert "2 of 6 cells lack a result" in found.what
    assert not errors(tmp_path / "two")
    assert not verify([tmp_path / "four"], made_standard()).errors
    assert "seed 3 beyond the suite's" in uneven.what


def test_a_tuned_setting_under_the_name_of_the_suite_is_found(tmp_path: Path) -> None:
    tuned = [made_result(made_cell("maml", s, settings={"inner_rate": 0.1}), 0.8) for s in (0, 1, 2)]
    paths = store(tmp_path, [*honest(), *tuned])

    found = verify([tmp_path], made_standard()).errors

    assert {one.file for one in found} == {str(path) for path in paths[6:]}
    assert all("of no cell of made-v1" in one.what for one in found)


def test_other_versions_and_one_other_backend_are_complete_but_not_a_mixture(tmp_path: Path) -> None:
    def moved(result: Result, backend: str) -> Result:
        plugins = {**result.cell.plugins, "algorithm": "metabench 9"}
        return replace(result, cell=replace(result.cell, backend=Spec(backend, {}), plugins=plugins))

    store(tmp_path / "all", [moved(r, "cuda") for r in honest()])
    store(tmp_path / "some", [moved(r, "cuda") if r.cell.seed else r for r in honest()])

    assert not verify([tmp_path / "all"], made_standard()).errors
    assert verify([tmp_path / "some"], made_standard()).errors


def test_another_text_of_the_suite_and_an_absent_suite_are_noticed(stored_results: list[Path]) -> None:
    folder = stored_results[0].parent
    other = {"made-v1": replace(made_standard()["made-v1"], digest="c" * 64)}

    (changed,) = verify([folder], other).findings
    (absent,) = verify([folder], {}).findings

    assert "another text of made-v1" in changed.what
    assert "not installed" in absent.what
    assert not changed.serious
    assert not absent.serious


def test_a_diverged_run_and_a_skip_are_rows_with_a_notice(tmp_path: Path) -> None:
    (ran,) = honest([0], ["maml"])
    for status in ("diverged", "skipped"):
        store(tmp_path / status, [replace(ran, status=status, reason="so it is", scores=None, training=None)])
        (found,) = verify([tmp_path / status]).findings
        assert found.check == "outcome"
        assert "so it is" in found.what
        assert not found.serious


def test_a_disturbed_machine_and_shared_hardware_are_noticed(tmp_path: Path) -> None:
    cell = made_cell(backend="cpu-ranks", ranks=2)
    crowded = replace(cell, backend=Spec("cpu-ranks", {**cell.backend.settings, "oversubscribe": True}))
    shared = replace(cell, backend=Spec("cuda-ranks", {**cell.backend.settings, "share": True}))
    store(tmp_path / "disturbed", [made_result(notes=("clocks throttled: heat",))])
    store(tmp_path / "crowded", [made_result(crowded)])
    store(tmp_path / "shared", [made_result(shared)])

    said = {}
    for name in ("disturbed", "crowded", "shared"):
        (found,) = verify([tmp_path / name]).findings
        assert not found.serious
        said[name] = found.what

    assert "disturbed: clocks throttled: heat" in said["disturbed"]
    assert "speed-up is not for a published table" in said["crowded"]
    assert "share a GPU" in said["shared"]


@pytest.mark.parametrize("status", ["failed", "timed-out", "out-of-memory", "invalid"])
def test_a_failed_run_is_found_unless_the_suite_expects_it(tmp_path: Path, status: str) -> None:
    (ran,) = honest([0], ["maml"])
    lost = replace(ran, status=status, reason="no memory left", scores=None, training=None)
    expected = replace(lost, cell=replace(made_cell("big"), expect=(status,)))
    store(tmp_path / "a", [lost])
    store(tmp_path / "b", [expected])

    assert [one.check for one in errors(tmp_path / "a")] == ["outcome"]
    assert not errors(tmp_path / "b")


def test_one_seed_passed_off_as_another_is_found(tmp_path: Path) -> None:
    first, second = honest([0, 1], ["maml"])
    store(tmp_path, [first, replace(first, cell=second.cell)])

    (found,) = errors(tmp_path)
    assert found.check == "seeds"
    assert "those of seed 0" in found.what


def test_two_results_of_one_cell_are_found(tmp_path: Path) -> None:
    store(tmp_path / "one", honest([0], ["maml"]))
    store(tmp_path / "two", honest([0], ["maml"]))

    (found,) = errors(tmp_path)
    assert "a second result of the cell" in found.what


def test_backends_that_do_not_agree_are_found(tmp_path: Path) -> None:
    cells = [made_cell("maml", backend="cpu-ranks", ranks=n) for n in (1, 2)]
    store(tmp_path / "same", [made_result(cell, 0.7, exact=True) for cell in cells])
    store(tmp_path / "apart", [made_result(cell, a) for cell, a in zip(cells, (0.7, 0.6), strict=True)])

    assert not errors(tmp_path / "same")
    assert [one.check for one in errors(tmp_path / "apart")] == ["parity"]


def test_backends_that_are_neither_shown_equal_nor_different_are_noticed(tmp_path: Path) -> None:
    cells = [made_cell("maml", backend="cpu-ranks", ranks=n, test_tasks=20) for n in (1, 2)]
    restless = ((0.2, 0.8) * 10, (0.8, 0.2) * 10)  # no difference on average, but wide apart in each task
    made = [made_result(cell) for cell in cells]
    store(tmp_path, [replace(r, scores=replace(r.scores, per_task=each))
                     for r, each in zip(made, restless, strict=True) if r.scores])  # fmt: skip

    (found,) = verify([tmp_path]).findings

    assert found.check == "parity"
    assert "neither equality nor a difference is shown" in found.what
    assert not found.serious


def test_short_training_is_a_notice(tmp_path: Path) -> None:
    store(tmp_path, [made_result(made_cell(), rising=True)])

    found = verify([tmp_path])
    assert not found.errors
    assert [one.check for one in found.findings] == ["trained enough"]


def run(command: str, *arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(metabench, [command, *arguments], standalone_mode=False)
    if found.exception is not None:
        raise found.exception
    return int(found.return_value), found.output


def test_the_command_names_the_edited_file_and_fails(stored_results: list[Path]) -> None:
    folder = str(stored_results[0].parent)
    assert run("verify", folder)[0] == 0

    edited(stored_results[2], lambda told: told.update(mean=0.9))
    code, text = run("verify", folder)

    assert code == 1
    assert f"error: {stored_results[2]}: seal" in text


def test_an_empty_folder_is_a_mistake_in_the_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no results in it"):
        run("verify", str(tmp_path))


def test_what_is_published_lies_by_suite_and_machine_and_stays(
    stored_results: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "published"
    made = publish(verify([stored_results[0].parent]), target)

    assert {path.parent for path in made} == {target / "made-v1" / "made-machine-2-cores"}
    assert {path.name for path in made} == {path.name for path in stored_results}
    assert publish(verify([stored_results[0].parent]), target) == []  # again: nothing new
    made[0].write_text("{}")
    with pytest.raises(RequestError, match="published results stay"):
        publish(verify([stored_results[0].parent]), target)


def test_publishing_refuses_what_verify_refuses(stored_results: list[Path], tmp_path: Path) -> None:
    edited(stored_results[0], lambda told: told.update(mean=0.9))

    code, _ = run("publish", str(stored_results[0].parent), "--to", str(tmp_path / "published"))

    assert code == 1
    assert not (tmp_path / "published").exists()


def test_a_machine_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    store(tmp_path, [made_result(machine="../../elsewhere")])

    with pytest.raises(RequestError, match="cannot be the name of a folder"):
        publish(verify([tmp_path]), tmp_path / "published")


def test_a_part_of_a_suite_is_published_on_request_and_labelled(
    stored_results: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(verification, "standards", lambda names: made_standard(made_cell("cnp")))
    source, target = str(stored_results[0].parent), tmp_path / "published"

    code, text = run("publish", source, "--to", str(target))
    assert code == 1
    assert "1 of 7 cells lack a result" in text
    assert not target.exists()

    assert run("publish", source, "--to", str(target), "--partial")[0] == 0
    assert "Partial (made-machine-2-cores): 1 of 7 cells lack a result" in (target / "README.md").read_text()
    assert not verify([target], made_standard(made_cell("cnp"))).errors

    store(tmp_path / "results", [made_result(made_cell("cnp"))])
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


def test_every_table_that_has_a_line_stands_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    targets = [made_result(made_cell("maml", s, target=0.6)) for s in range(3)]
    publish(verify([store(tmp_path / "results", targets)[0].parent]), tmp_path / "published")

    page = readme(tmp_path / "published")

    titles = [section.title for section in Table.read([tmp_path / "published"]).sections()]
    assert {"Accuracy", "Wall time", "Time to target", "Cost"} <= set(titles)
    assert all(f"## {title}\n" in page for title in titles)
    assert "No published counterpart" in page


def test_the_page_of_published_results_is_stale_until_made_anew(
    stored_results: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
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

    assert not verify_whole(folders).errors


def test_the_shipped_schema_is_that_of_the_records() -> None:
    assert stored() == schema(), "run: python -m metabench.schema"


def test_the_schema_accepts_results_and_refuses_others() -> None:
    validator = jsonschema.Draft202012Validator(stored())
    jsonschema.Draft202012Validator.check_schema(stored())
    told = honest([0], ["maml"])[0].to_json()

    assert validator.is_valid(told)
    assert not validator.is_valid({**told, "started": 7})
    assert not validator.is_valid({k: v for k, v in told.items() if k != "cell"})


def test_older_results_are_upgraded_step_by_step() -> None:
    def second(told: dict[str, Any]) -> dict[str, Any]:
        return {**told, "notes": [told["note"]]}

    def third(told: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in told.items() if k != "note"}

    steps = {1: second, 2: third}
    assert upgrade({"schema": 1, "note": "a"}, 3, steps) == {"schema": 3, "notes": ["a"]}
    with pytest.raises(ValueError, match="schema 9; this metabench reads up to 3; upgrade metabench"):
        upgrade({"schema": 9}, 3, steps)
    with pytest.raises(ValueError, match="schema None"):
        upgrade({}, 3, steps)


def test_a_result_of_schema_1_is_read_and_its_seal_holds() -> None:
    (path,) = (ROOT / "tests" / "golden" / "schema-1").glob("*.json")

    training = read_result(path).training

    assert errors(path) == []
    assert len(Table.read([path]).cells) == 1
    assert training is not None
    assert training.tasks == 4 * 32  # labelled examples; schema 1 counted the 8 micro-batches
    assert training.energy == training.target_energy == {}


def test_a_stored_result_of_this_schema_reads_back_as_it_was(tmp_path: Path) -> None:
    (result,) = honest([0], ["maml"])
    (path,) = store(tmp_path, [result])

    assert json.loads(path.read_text())["schema"] == SCHEMA
    assert read_result(path) == result
