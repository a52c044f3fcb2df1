"""`metabench verify`: what is wrong with a submission is named, file by file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.json_values import spoiled
from helpers.results import store
from helpers.submissions import edited, errors, forged, honest, honest_result, made_cell, made_suite, run
from metabench import Result, Spec
from metabench.errors import RequestError
from metabench.publishing import verify
from metabench.publishing.seal import seal_holds
from metabench.records.cell import Status
from metabench.records.identity import digest_of


def test_an_honest_set_passes(stored_results: list[Path]) -> None:
    verification = verify([stored_results[0].parent])

    assert len(verification.files) == 6
    assert not verification.findings


def test_a_hand_edited_score_is_named(stored_results: list[Path]) -> None:
    def change(document: dict[str, Any]) -> None:
        document["scores"]["per_task"][7] = 1.0

    edited(stored_results[0], change)

    findings = errors(stored_results[0].parent)
    assert {finding.file for finding in findings} == {str(stored_results[0])}
    assert {finding.check for finding in findings} == {"seal", "scores"}


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

    findings = errors(stored_results[0].parent)

    assert any(finding.check == check and says in finding.what for finding in findings), findings
    assert "seal" not in {finding.check for finding in findings}


@pytest.mark.parametrize(
    ("settings", "defaults", "says"),
    [
        ({"inner_rate": 0.4}, ["inner_rate"], None),
        ({"inner_rate": 0.5}, [], None),
        ({"inner_rate": 0.5}, ["inner_rate"], "setting 'inner_rate' of algorithm 'maml' is no default"),
        ({"inner_rate": 0.4}, [], "setting 'inner_rate' of algorithm 'maml' is a default, unmarked"),
        ({"inner_rate": 0.5}, ["rate"], "setting 'rate' of algorithm 'maml' is no default"),
    ],
)
def test_a_setting_that_is_said_to_be_a_default_must_be_the_installed_one(
    tmp_path: Path, settings: dict[str, float], defaults: list[str], says: str | None
) -> None:
    (path,) = store(tmp_path, [honest_result(made_cell(settings=settings))])

    forged(path, lambda t: t["cell"]["algorithm"].update(defaults=defaults))

    messages = [finding.what for finding in errors(tmp_path) if finding.check == "cell digest"]
    assert len(messages) == (says is not None), messages
    assert says is None or messages[0].startswith(says)


@pytest.mark.parametrize(("method", "lacks"), [("nearest-neighbour", False), ("cnp", True)])
def test_a_deterministic_method_lacks_no_seed(tmp_path: Path, method: str, lacks: bool) -> None:
    store(tmp_path, [*honest(methods=["maml"]), honest_result(made_cell(method))])

    messages = [finding.what for finding in errors(tmp_path) if finding.check == "complete"]

    assert [method in what and "lacks seed 1, 2" in what for what in messages] == [True] * lacks


@pytest.mark.parametrize("wrong", [None, -7, "x", [], {"a": [1]}, float("nan")], ids=repr)
def test_whatever_a_file_holds_verify_names_it(tmp_path: Path, wrong: Any) -> None:
    document = honest_result(made_cell(test_tasks=20)).to_json()
    copies = spoiled(document, wrong, depth=3)
    files = [copy for copy in copies if json.dumps(copy) != json.dumps(document)]
    for number, copy in enumerate(files):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / f"{made_cell(test_tasks=20).id}.json").write_text(json.dumps(copy))

    verification = verify([tmp_path])

    named = {Path(finding.file).parent.name for finding in verification.errors}
    assert named >= {str(number) for number in range(len(files))}


def test_a_truncated_and_a_foreign_file_are_named(stored_results: list[Path]) -> None:
    stored_results[0].write_bytes(stored_results[0].read_bytes()[:1000])
    foreign = stored_results[0].parent / "foreign.json"
    foreign.write_text('{"a": 1}')

    named = {finding.file for finding in errors(foreign.parent) if finding.check == "schema"}
    assert named == {str(stored_results[0]), str(foreign)}


def test_a_missing_seed_is_found(stored_results: list[Path]) -> None:
    stored_results[4].unlink()

    (finding,) = errors(stored_results[0].parent)
    assert finding.check == "complete"
    assert "protonet" in finding.what
    assert "seed 1" in finding.what


def test_a_missing_cell_is_found_where_the_suite_is_known(stored_results: list[Path]) -> None:
    (error,) = verify([stored_results[0].parent], made_suite(made_cell("cnp")), complete=True).errors

    assert "1 of 7 cells lack a result: cnp-" in error.what
    assert not verify([stored_results[0].parent], made_suite(), complete=True).findings


def test_a_seed_that_every_cell_lacks_is_found_and_one_more_is_welcome(tmp_path: Path) -> None:
    store(tmp_path / "two", honest([0, 1]))
    store(tmp_path / "four", honest([0, 1, 2, 3]))
    store(tmp_path / "chosen", [*honest(), *honest([3], ["maml"])])

    (error,) = verify([tmp_path / "two"], made_suite(), complete=True).errors
    (uneven,) = verify([tmp_path / "chosen"], made_suite(), complete=True).errors

    assert "2 of 6 cells lack a result" in error.what
    assert not errors(tmp_path / "two")
    assert not verify([tmp_path / "four"], made_suite(), complete=True).errors
    assert "seed 3 beyond the suite's" in uneven.what


def test_a_tuned_setting_under_the_name_of_the_suite_is_found(tmp_path: Path) -> None:
    tuned = [honest_result(made_cell("maml", s, settings={"inner_rate": 0.1}), 0.8) for s in (0, 1, 2)]
    paths = store(tmp_path, [*honest(), *tuned])

    findings = verify([tmp_path], made_suite(), complete=True).errors

    assert {finding.file for finding in findings} == {str(path) for path in paths[6:]}
    assert all("of no cell of made-v1" in finding.what for finding in findings)


def test_other_versions_and_one_other_backend_are_complete_but_not_a_mixture(tmp_path: Path) -> None:
    def moved(result: Result, backend: str) -> Result:
        plugins = {**result.cell.plugins, "algorithm": "metabench 9"}
        return replace(result, cell=replace(result.cell, backend=Spec(backend, {}), plugins=plugins))

    store(tmp_path / "all", [moved(r, "cuda") for r in honest()])
    store(tmp_path / "some", [moved(r, "cuda") if r.cell.seed else r for r in honest()])

    assert not verify([tmp_path / "all"], made_suite(), complete=True).errors
    assert verify([tmp_path / "some"], made_suite(), complete=True).errors


def test_another_text_of_the_suite_is_found_and_an_absent_suite_is_noticed(
    stored_results: list[Path],
) -> None:
    folder = stored_results[0].parent
    other = {"made-v1": replace(made_suite()["made-v1"], digest="c" * 64)}

    earlier = {"made-v1": replace(other["made-v1"], earlier=(made_suite()["made-v1"].digest,))}

    (changed,) = verify([folder], other, complete=True).findings
    (absent,) = verify([folder], {}, complete=True).findings

    assert "another text of made-v1" in changed.what
    assert changed.serious
    assert "not installed" in absent.what
    assert not absent.serious
    assert not verify([folder], earlier, complete=True).findings


def test_versions_that_the_installed_suite_replaced_are_no_errors_and_those_after_it_are(
    tmp_path: Path,
) -> None:
    for version in (1, 99):
        store(tmp_path / f"{version}", [honest_result(made_cell(suite="sine", version=version))])

    (older,) = [f for f in verify([tmp_path / "1"], complete=True).findings if "not installed" in f.what]
    (later,) = [f for f in verify([tmp_path / "99"], complete=True).findings if "not installed" in f.what]

    assert not older.serious
    assert "sine-v99 is not installed" in later.what
    assert later.serious


def test_a_diverged_run_and_a_skip_are_rows_with_a_notice(tmp_path: Path) -> None:
    (ran,) = honest([0], ["maml"])
    for status in ("diverged", "skipped"):
        store(
            tmp_path / status,
            [replace(ran, status=Status(status), reason="so it is", scores=None, training=None)],
        )
        (finding,) = verify([tmp_path / status]).findings
        assert finding.check == "outcome"
        assert "so it is" in finding.what
        assert not finding.serious


def test_a_disturbed_machine_and_shared_hardware_are_noticed(tmp_path: Path) -> None:
    cell = made_cell(backend="cpu-ranks", ranks=2)
    crowded = replace(cell, backend=Spec("cpu-ranks", {**cell.backend.settings, "oversubscribe": True}))
    shared = replace(cell, backend=Spec("cuda-ranks", {**cell.backend.settings, "share": True}))
    store(tmp_path / "disturbed", [honest_result(notes=("clocks throttled: heat",))])
    store(tmp_path / "crowded", [honest_result(crowded)])
    store(tmp_path / "shared", [honest_result(shared)])

    messages = {}
    for name in ("disturbed", "crowded", "shared"):
        (finding,) = verify([tmp_path / name]).findings
        assert not finding.serious
        messages[name] = finding.what

    assert "disturbed: clocks throttled: heat" in messages["disturbed"]
    assert "speed-up is not for a published table" in messages["crowded"]
    assert "share a GPU" in messages["shared"]


@pytest.mark.parametrize("status", ["failed", "timed-out", "out-of-memory", "invalid"])
def test_a_failed_run_is_found_unless_the_suite_expects_it(tmp_path: Path, status: str) -> None:
    (ran,) = honest([0], ["maml"])
    lost = replace(ran, status=Status(status), reason="no memory left", scores=None, training=None)
    expected = replace(lost, cell=replace(made_cell("big"), expect=(status,)))
    store(tmp_path / "a", [lost])
    store(tmp_path / "b", [expected])

    assert [finding.check for finding in errors(tmp_path / "a")] == ["outcome"]
    assert not errors(tmp_path / "b")


def test_one_seed_passed_off_as_another_is_found(tmp_path: Path) -> None:
    first, second = honest([0, 1], ["maml"])
    store(tmp_path, [first, replace(first, cell=second.cell)])

    findings = errors(tmp_path)
    assert "seeds" in {finding.check for finding in findings}
    assert any("scores and losses are those of seed 0" in finding.what for finding in findings)


def test_two_results_of_one_cell_are_found(tmp_path: Path) -> None:
    store(tmp_path / "one", honest([0], ["maml"]))
    store(tmp_path / "two", honest([0], ["maml"]))

    (finding,) = errors(tmp_path)
    assert "a second result of the cell" in finding.what


def test_backends_that_do_not_agree_are_found(tmp_path: Path) -> None:
    cells = [made_cell("maml", backend="cpu-ranks", ranks=n) for n in (1, 2)]
    store(tmp_path / "same", [honest_result(cell, 0.7, exact=True) for cell in cells])
    store(tmp_path / "apart", [honest_result(cell, a) for cell, a in zip(cells, (0.7, 0.6), strict=True)])

    assert not errors(tmp_path / "same")
    assert [finding.check for finding in errors(tmp_path / "apart")] == ["parity"]


def test_backends_that_are_neither_shown_equal_nor_different_are_noticed(tmp_path: Path) -> None:
    cells = [made_cell("maml", backend="cpu-ranks", ranks=n, test_tasks=20) for n in (1, 2)]
    restless = ((0.2, 0.8) * 10, (0.8, 0.2) * 10)  # no difference on average, but wide apart in each task
    results = [honest_result(cell) for cell in cells]
    store(tmp_path, [replace(r, scores=replace(r.scores, per_task=per_task))
                     for r, per_task in zip(results, restless, strict=True) if r.scores])  # fmt: skip

    (finding,) = verify([tmp_path]).findings

    assert finding.check == "parity"
    assert "neither equality nor a difference is shown" in finding.what
    assert not finding.serious


def test_short_training_is_a_notice(tmp_path: Path) -> None:
    store(tmp_path, [honest_result(made_cell(), rising=True)])

    verification = verify([tmp_path])
    assert not verification.errors
    assert [finding.check for finding in verification.findings] == ["trained enough"]


def test_the_command_names_the_edited_file_and_fails(stored_results: list[Path]) -> None:
    folder = str(stored_results[0].parent)
    assert run("verify", folder)[0] == 0

    edited(stored_results[2], lambda document: document.update(mean=0.9))
    code, text = run("verify", folder)

    assert code == 1
    assert f"error: {stored_results[2]}: seal" in text


def test_an_empty_folder_is_a_mistake_in_the_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no results in it"):
        run("verify", str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["scores"]["per_task"].__setitem__(0, -0.0),
        lambda document: document["scores"].update(metric="\0per_task"),
        lambda document: document["scores"].update(per_task=[0, 1, 1.0]),
        lambda document: document.update(scores=None),
        lambda document: document.update(scores={"per_task": [1e999]}),
    ],
)
def test_a_seal_holds_where_it_was_made_of_all_else_and_nowhere_else(change: Callable[..., object]) -> None:
    document = honest()[0].to_json()
    document["scores"]["per_task"][0] = 0.5
    change(document)
    document["seal"] = digest_of({name: value for name, value in document.items() if name != "seal"})

    assert seal_holds(document)
    assert not seal_holds({**document, "reason": "edited"})
    assert not seal_holds({**document, "seal": ""})
