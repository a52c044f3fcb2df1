"""`metabench compare`: a gate that opens for equals, shuts for regressions, and says which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.results import made_cell, made_result, store
from metabench import Result, Spec
from metabench.cli import main, metabench
from metabench.errors import RequestError
from metabench.records import Cell
from metabench.records.cell import Status
from metabench.report.comparison import Comparison, compare
from metabench.results.table import Results
from metabench.worker import paired as pairing


def results(
    accuracy: float = 0.7, seconds: float = 0.02, seeds: int = 3, plugin: str = "p 1"
) -> list[Result]:
    return [
        made_result(made_cell(seed=s, plugin=plugin), accuracy, step_seconds=seconds) for s in range(seeds)
    ]


def compared(base: Sequence[Result], new: Sequence[Result]) -> Comparison:
    return compare(Results.of(base), Results.of(new))


def verdicts(comparison: Comparison) -> list[tuple[str, str]]:
    return [(line["verdict"], line["time_verdict"]) for line in comparison.section.records]


def test_equals_pass() -> None:
    comparison = compared(results(), results())

    assert verdicts(comparison) == [("no difference shown", "no difference shown")]
    assert not comparison.regressed


def test_a_worse_score_is_a_regression_and_a_better_one_is_not() -> None:
    assert verdicts(compared(results(0.72), results(0.70)))[0][0] == "worse"
    assert compared(results(0.72), results(0.70)).regressed
    assert verdicts(compared(results(0.70), results(0.72)))[0][0] == "better"
    assert not compared(results(0.70), results(0.72)).regressed


def test_a_lower_error_is_better() -> None:
    def as_errors(scored: Sequence[Result]) -> list[Result]:
        return [
            replace(r, scores=replace(r.scores, metric="mse", unit="", higher_is_better=False))
            for r in scored
            if r.scores is not None
        ]

    assert verdicts(compared(as_errors(results(0.72)), as_errors(results(0.70))))[0][0] == "better"
    assert compared(as_errors(results(0.70)), as_errors(results(0.72))).regressed


def test_a_drop_below_the_threshold_is_shown_but_no_regression() -> None:
    comparison = compared(results(0.703), results(0.700))

    assert verdicts(comparison)[0][0] == "worse"
    assert not comparison.regressed


def test_cells_are_paired_across_versions_of_their_plugin() -> None:
    comparison = compared(results(plugin="p 1"), results(0.6, plugin="p 2"))

    assert len(comparison.section.records) == 1
    assert comparison.regressed


def test_a_slowdown_beyond_what_runs_differ_by_is_a_regression() -> None:
    assert verdicts(compared(results(seconds=0.02), results(seconds=0.03)))[0][1] == "slower"
    assert compared(results(seconds=0.02), results(seconds=0.03)).regressed
    assert verdicts(compared(results(seconds=0.02), results(seconds=0.024)))[0][1] == "no difference shown"


def test_times_of_different_machines_are_not_compared() -> None:
    elsewhere = [replace(r, environment={**r.environment, "machine": "other"}) for r in results(seconds=0.08)]

    comparison = compared(results(), elsewhere)

    assert verdicts(comparison) == [("no difference shown", "other machine")]
    assert not comparison.regressed


def test_of_several_machines_the_one_that_both_sides_have_is_compared_and_the_rest_is_named() -> None:
    def elsewhere(accuracy: float, seconds: float) -> list[Result]:
        return [replace(r, environment={**r.environment, "machine": "other"}, started="2026-02-01T00:00:00")
                for r in results(accuracy, seconds)]  # fmt: skip

    here = results(0.70, 0.02)
    base = Results.of([*here, *elsewhere(0.60, 0.08)], ["here"] * 3 + ["there0", "there1", "there2"])

    comparison = compare(base, Results.of(results(0.70, 0.02), ["new"] * 3))

    assert verdicts(comparison) == [("no difference shown", "no difference shown")]
    assert comparison.section.records[0]["difference"] == 0
    assert any("there0, there1, there2" in note for note in comparison.section.notes)


def test_where_no_difference_is_shown_the_table_says_what_could_have_been() -> None:
    def shown(comparison: Comparison) -> list[str]:
        columns, lines, notes = comparison.section.shown()
        at = [column.header for column in columns].index("detectable")
        assert any("Detectable" in note for note in notes)
        return [line[at] for line in lines]

    cells = [made_result(made_cell(f"m{i}", s), 0.7) for i in range(4) for s in range(3)]
    moved = [
        made_result(made_cell(f"m{i}", s), 0.7 + 0.1 * (i == 0), exact=True)
        for i in range(4)
        for s in range(3)
    ]

    detectable = shown(compare(Results.of(cells), Results.of(moved)))
    assert detectable[0] == "–"
    assert all(0 < float(text.removesuffix(" points")) < 3 for text in detectable[1:])


def test_several_cells_show_what_one_alone_could_not() -> None:
    base = [made_result(made_cell(f"m{i}", s), 0.700) for i in range(8) for s in range(3)]
    new = [made_result(made_cell(f"m{i}", s), 0.685, exact=True) for i in range(8) for s in range(3)]

    together = verdicts(compare(Results.of(base), Results.of(new)))
    alone = verdicts(compare(Results.of(base[:3]), Results.of(new[:3])))

    assert [score for score, _ in together].count("worse") >= 6
    assert alone[0][0] == "no difference shown"


def test_a_lost_seed_and_a_new_failure_are_regressions() -> None:
    failed = replace(results()[2], status=Status.FAILED, reason="boom", scores=None, training=None)

    assert "failed in the new results" in compared(results(), [*results()[:2], failed]).regressed[0]
    assert "absent in the new results" in compared(results(), results()[:2]).regressed[0]


def test_a_cell_that_base_lacks_is_no_regression() -> None:
    comparison = compared(results()[:1], [*results()[:1], made_result(made_cell("reptile"))])

    assert ("only in new", "") in verdicts(comparison)
    assert not comparison.regressed


def test_other_test_tasks_are_never_compared() -> None:
    other = [replace(r, scores=replace(r.scores, manifest="f" * 64)) for r in results(0.1) if r.scores]

    assert verdicts(compared(results(), other))[0][0] == "other test tasks"


def test_versions_of_a_suite_are_an_error_of_the_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = results()
    new = [made_result(made_cell(seed=s, version=2)) for s in range(3)]
    store(tmp_path / "old", old)
    store(tmp_path / "new", new)

    with pytest.raises(SystemExit) as ended:
        main(["compare", str(tmp_path / "old"), str(tmp_path / "new")])

    assert ended.value.code == 2
    assert "made is version 1 in the base results, 2 in the new ones" in capsys.readouterr().err
    assert not compared(results(plugin="metabench 0.1.0"), [*results(), *new]).regressed


def test_many_equal_cells_rarely_shut_the_gate() -> None:
    # 20 pairs of equals: without a correction two in three such sets would show some difference
    def cells(offset: int) -> list[Result]:
        return [made_result(made_cell(f"m{i}", offset + s), 0.7) for i in range(20) for s in range(3)]

    base = cells(0)
    new = [replace(r, cell=b.cell) for r, b in zip(cells(100), base, strict=True)]

    assert {verdict for verdict, _ in verdicts(compared(base, new))} == {"no difference shown"}


def run(*arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(metabench, ["compare", *arguments], standalone_mode=False)
    if outcome.exception is not None:
        raise outcome.exception
    return int(outcome.return_value), outcome.output


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    store(tmp_path / "base", results(0.72))
    store(tmp_path / "new", results(0.70))
    return str(tmp_path / "base"), str(tmp_path / "new")


def test_the_command_is_a_gate_with_a_markdown_comment(folders: tuple[str, str], tmp_path: Path) -> None:
    base, new = folders
    comment = tmp_path / "comment.md"

    assert run(base, base)[0] == 0
    code, text = run(base, new, "--markdown", str(comment))
    assert code == 1
    assert "regression: maml-" in text
    assert "| worse" in comment.read_text()
    assert run(base, new, "--drop", "5")[0] == 0


def sine_cell(steps: int) -> Cell:
    """A real cell whose training step grows with the adaptation steps."""
    cell = made_cell(settings={"steps": steps, "inner_rate": 0.001}, ways=1, shots=10)
    evaluation = replace(cell.evaluation, metric="mse")
    return replace(cell, network=Spec("mlp", {}), dataset=Spec("sinusoid", {}), evaluation=evaluation)


def test_alternating_two_results_is_a_gate_whose_ratio_stands_in_the_comment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "pair", partial(pairing.pair, pairs=8, block_seconds=0.02))
    (fast,) = store(tmp_path / "one", [made_result(sine_cell(1), exact=True)])
    (slow,) = store(tmp_path / "slow", [made_result(sine_cell(30), exact=True)])
    comment = tmp_path / "comment.md"

    code, text = run(str(fast), str(slow), "--alternate", "--drop", "50", "--markdown", str(comment))

    assert code == 1
    assert "regression: maml-" in text
    assert "slower: " in text
    for shown in (text, comment.read_text()):
        assert "8 pairs of blocks that one process ran in turns" in shown
        assert "slower" in shown
    assert run(str(slow), str(fast), "--alternate", "--drop", "50")[0] == 0
    with pytest.raises(RequestError, match="a single result file on either side"):
        run(str(tmp_path), str(fast), "--alternate")


def test_untrusted_text_cannot_move_the_terminal(tmp_path: Path) -> None:
    store(tmp_path / "base", [made_result()])
    lost = replace(made_result(), status=Status.FAILED, reason="x\x1b[2J", scores=None, training=None)
    store(tmp_path / "new", [lost])

    code, text = run(str(tmp_path / "base"), str(tmp_path / "new"))

    assert code == 1
    assert "\x1b" not in text


def test_an_empty_folder_is_a_mistake_in_the_request(folders: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(RequestError, match="no results in it"):
        run(folders[0], str(tmp_path / "empty"))


def test_two_single_results_are_paired_whatever_they_are() -> None:
    comparison = compared(
        [made_result(made_cell("maml", 0), 0.7)], [made_result(made_cell("reptile", 5), 0.6)]
    )

    assert [line["verdict"] for line in comparison.section.records] == ["worse"]
