"""Results as tables: what is grouped, ranked, labelled, withheld and told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from made_results import made_board, made_cell, made_result, made_scores, store, untrained
from metabench import Result, Spec
from metabench.errors import RequestError
from metabench.result import Validation
from metabench.table import Table, render


def cell_of(table: Table, method: str) -> dict[str, object]:
    (found,) = [cell for cell in table.cells if cell["method"] == method]
    return found


def test_one_row_per_result_with_its_axes_and_figures() -> None:
    frame = Table.of(made_board()).frame

    assert len(frame) == 12
    assert set(frame["status"]) == {"ok", "out-of-memory"}
    row = frame[frame["method"] == "protonet"].iloc[0]
    assert (row["ways"], row["shots"], row["seed"], row["step_tasks"]) == (5, 1, 0, 16)
    assert row["mean"] == pytest.approx(0.76, abs=0.02)
    assert 0.005 < row["half_width"] < 0.012
    assert row["tasks_per_second"] == pytest.approx(800, rel=0.02)
    assert row["adapt_seconds"] == pytest.approx(0.1 / 32)  # the cold first batch does not count


def test_seeds_of_a_cell_are_one_line_with_a_wider_interval() -> None:
    table = Table.of(made_board())

    line = cell_of(table, "protonet")
    singles = [row["half_width"] for row in table.rows if row["method"] == "protonet"]
    assert (line["seeds"], line["tasks"]) == (3, 600)
    assert line["half_width"] is not None
    assert line["half_width"] > min(singles) / np.sqrt(3)
    assert line["mean"] == pytest.approx(
        np.mean([r["mean"] for r in table.rows if r["method"] == "protonet"])
    )


def test_methods_that_cannot_be_told_apart_share_a_tier() -> None:
    table = Table.of(made_board())

    assert cell_of(table, "maml")["rank"] == cell_of(table, "protonet")["rank"] == 1
    assert cell_of(table, "nearest-neighbour")["rank"] == 3


def test_a_clear_winner_stands_alone() -> None:
    results = [made_result(made_cell(n, s), a) for n, a in (("a", 0.8), ("b", 0.6)) for s in range(3)]
    table = Table.of(results)

    assert (cell_of(table, "a")["rank"], cell_of(table, "b")["rank"]) == (1, 2)


def test_settings_name_methods_only_where_they_differ() -> None:
    rates = [made_result(made_cell("maml", settings={"inner_rate": r, "steps": 1})) for r in (0.1, 0.4)]
    table = Table.of([*rates, made_result(made_cell("reptile"))])

    assert set(table.frame["method"]) == {"maml (inner_rate=0.1)", "maml (inner_rate=0.4)", "reptile"}


def test_speed_up_is_told_where_scores_agree() -> None:
    lines = {line["ranks"]: line for line in Table.of(made_board()).scaling().records}

    assert lines[1]["parity"] == "baseline"
    assert lines[2]["parity"] == "agrees"
    assert lines[2]["speedup"] == pytest.approx(0.02 / 0.012, rel=0.03)
    assert lines[2]["efficiency"] == pytest.approx(lines[2]["speedup"] / 2)


def test_speed_up_is_withheld_where_scores_do_not_agree() -> None:
    one = made_result(made_cell("reptile", backend="cpu-ranks", group="scaling-strong"), 0.66)
    two = made_result(
        made_cell("reptile", backend="cpu-ranks", ranks=2, group="scaling-strong"), 0.60, step_seconds=0.01
    )

    section = Table.of([one, two]).scaling()

    assert section.records[1]["speedup"] is None
    assert "1.99" not in str(section.shown()[1])
    assert section.records[1]["parity"] == "not shown"


def test_scaling_across_machines_is_no_series() -> None:
    results = [r for r in made_board() if r.cell.algorithm.name == "reptile"]
    elsewhere = replace(results[1], environment={**results[1].environment, "machine": "other"})

    assert not Table.of([results[0], elsewhere]).scaling()


def on_gpu(result: Result) -> Result:
    return replace(result, environment={**result.environment, "device": "cuda:0"})


def test_a_change_of_device_tells_a_speed_up_where_scores_agree() -> None:
    base = made_result(made_cell("maml"), 0.7, exact=True)
    gpu = on_gpu(made_result(made_cell("maml", backend="cuda"), 0.7, step_seconds=0.002, exact=True))
    other = made_result(made_cell("anil"), 0.7)
    worse = on_gpu(made_result(made_cell("anil", backend="cuda"), 0.5, step_seconds=0.002))

    lines = Table.of([gpu, base, other, worse]).devices().records

    told = {(line["method"], line["device"]): line for line in lines}
    assert told["maml", "cpu"]["parity"] == "baseline"
    assert told["maml", "cuda"]["speedup"] == pytest.approx(10, rel=0.03)
    assert told["anil", "cuda"]["speedup"] is None
    assert not Table.of([base, other]).devices()


def test_weak_scaling_tells_throughput_only() -> None:
    cells = [
        made_cell("maml", backend="cpu-ranks", ranks=n, tasks=8 * n, group="scaling-weak") for n in (1, 2)
    ]
    table = Table.of([made_result(cell, step_seconds=0.02) for cell in cells])

    assert not table.scaling()
    lines = table.weak_scaling().records
    assert [line["tasks_per_rank"] for line in lines] == [8, 8]
    assert lines[1]["ratio"] == pytest.approx(2, rel=0.02)
    assert "speed-up" not in [column.header for column in table.weak_scaling().columns]


def test_a_rising_curve_is_labelled_budget_limited() -> None:
    table = Table.of([made_result(made_cell("a"), rising=True), made_result(made_cell("b"))])

    assert cell_of(table, "a")["budget_limited"]
    assert not cell_of(table, "b")["budget_limited"]
    assert "budget-limited" in render(table)


def test_an_unwatched_training_is_labelled_budget_limited_and_no_training_is_not() -> None:
    result = made_result(made_cell("a"))
    assert result.training is not None
    unwatched = replace(result, training=replace(result.training, validations=()))
    table = Table.of([unwatched, untrained(made_cell("floor", steps=0), 0.4)])

    assert cell_of(table, "a")["limited_why"] == "no validation curve"
    assert not cell_of(table, "floor")["budget_limited"]


def test_a_result_below_its_published_reference_is_labelled_and_told() -> None:
    table = Table.of([made_result(made_cell("maml", dataset="omniglot"), 0.90)])

    assert cell_of(table, "maml")["limited_why"] == "below every published reference"
    text = render(table)
    assert "98.7 ± 0.4 % (paper: MAML (quoted by Betty and FSL-Mate)): differs by -8" in text


def test_a_result_within_the_tolerance_agrees_with_its_reference() -> None:
    result = made_result(made_cell("protonet", dataset="mini-imagenet", shots=5), 0.68)

    assert "68.2 ± 0.7 % (paper: Prototypical Networks (quoted)): agrees" in render(Table.of([result]))


def test_no_reference_for_another_split_or_network_or_without_training() -> None:
    cells = [
        made_cell("maml", dataset="omniglot", network="mlp-64"),
        made_cell("maml", dataset="glyphs"),
        made_cell("maml", dataset="omniglot", steps=0),
        replace(made_cell("maml"), dataset=Spec("omniglot", {"split": "lake"})),
    ]

    assert not any(cell["references"] for cell in Table.of(map(made_result, cells)).cells)


def test_unstable_times_are_labelled() -> None:
    table = Table.of([made_result(made_cell("a"), unsteady=True), made_result(made_cell("b"))])

    assert cell_of(table, "a")["unstable"]
    assert not cell_of(table, "b")["unstable"]


def test_failures_are_rows_with_their_last_words() -> None:
    section = Table.of(made_board()).failures()

    text = section.shown()[1]
    assert len(text) == 1
    assert "out-of-memory" in text[0]
    assert "the host has no memory left" in text[0]
    assert "Killed" in str(section.shown())


def test_two_results_of_one_cell_that_disagree_are_named(tmp_path: Path) -> None:
    cell = made_cell()
    old, new = made_result(cell, 0.70), made_result(cell, 0.72, started="2026-03-01T00:00:00+00:00")
    (first,) = store(tmp_path / "one", [old])
    store(tmp_path / "two", [new])

    table = Table.read([tmp_path], tmp_path / "cache")

    assert len(table) == 1
    assert table.rows[0]["mean"] == pytest.approx(np.mean(made_scores(cell, 0.72)))
    assert str(first) in str(table.problems[0])
    assert "disagrees" in render(table)


def test_copies_of_one_result_count_once_without_a_word(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store(tmp_path / name, [made_result()])

    table = Table.read([tmp_path], tmp_path / "cache")

    assert len(table) == 1
    assert not table.problems


def test_machines_never_share_a_line_or_a_time_column_unnoticed() -> None:
    cells = [made_cell(seed=seed) for seed in range(2)]
    here = [made_result(cell, machine="here") for cell in cells]
    there = [made_result(cell, machine="there") for cell in cells]

    table = Table.of([*here, *there])

    assert [cell["machine"] for cell in table.cells] == ["here", "there"]
    headers = [column.header for column in table.wall_time().shown()[0]]
    assert "machine" in headers
    assert any("Several machines" in note for note in table.wall_time().notes)


def test_suites_and_versions_are_kept_apart_and_told() -> None:
    table = Table.of([made_result(made_cell(version=v, suite=s)) for s, v in (("a", 1), ("a", 2), ("b", 1))])

    columns, lines, _ = table.accuracy().shown()
    assert columns[0].header == "suite"
    assert [line[0] for line in lines] == ["a v1", "a v2", "b v1"]
    assert all(cell["rank"] == 1 for cell in table.cells)


@pytest.mark.parametrize(
    ("only", "skip", "count"),
    [(["algorithm=maml"], [], 3), (["algorithm=maml,protonet", "seed=0"], [], 2), ([], ["status=ok"], 1)],
)
def test_rows_are_chosen_by_any_axis(only: list[str], skip: list[str], count: int) -> None:
    assert len(Table.of(made_board()).where(only, skip)) == count


def test_an_unknown_axis_or_value_names_the_known_ones() -> None:
    table = Table.of(made_board())

    with pytest.raises(RequestError, match="did you mean 'algorithm'"):
        table.where(["algoritm=maml"])
    with pytest.raises(RequestError, match="did you mean 'protonet'"):
        table.where(["algorithm=protnet"])
    with pytest.raises(RequestError, match="no axis to pivot by"):
        table.pivot("method", "sead")
    with pytest.raises(RequestError, match="no table is called"):
        table.chosen(["acuracy"])
    with pytest.raises(RequestError, match="no table has the column"):
        table.chosen(sort="colour")


def test_sections_are_sorted_by_a_figure() -> None:
    (section,) = Table.of(made_board()).chosen(["wall-time"], "-training_seconds")

    seconds = [record["training_seconds"] for record in section.records]
    assert seconds[:4] == sorted(seconds[:4], reverse=True)
    assert seconds[-1] is None


def test_a_pivot_has_one_axis_down_and_one_across() -> None:
    results = [made_result(made_cell(n, shots=s), 0.6) for n in ("maml", "reptile") for s in (1, 5)]

    columns, lines, _ = Table.of(results).pivot("method", "shots").shown()

    assert [column.header for column in columns] == ["method", "shots 1", "shots 5"]
    assert [line[0] for line in lines] == ["maml", "reptile"]
    assert all("±" in cell for line in lines for cell in line[1:])


def test_time_to_target_is_told_from_three_seeds_on() -> None:
    few = [made_result(made_cell("a", s, target=0.7), 0.75) for s in range(2)]
    enough = [made_result(made_cell("b", s, target=0.7), 0.75) for s in range(3)]

    lines = {line["method"]: line for line in Table.of([*few, *enough]).time_to_target().records}

    assert lines["a"]["seconds"] is None
    assert lines["b"]["seconds"] == pytest.approx(100 * 0.02, rel=0.05)


def test_nothing_at_all_is_said_plainly() -> None:
    assert render(Table.of([])) == "no results"


def test_long_tables_are_cut_on_a_terminal_and_say_so() -> None:
    table = Table.of([made_result(made_cell(f"m{i}", test_tasks=20)) for i in range(6)])

    text = render(table, [table.accuracy()], lines=4)

    assert "2 more lines" in text
    assert text.count("± ") >= 4


def test_validation_within_its_interval_counts_as_flat() -> None:
    result = made_result(made_cell("a"), 0.7)
    assert result.training is not None
    drifting = tuple(
        Validation(step, step * 0.02, 0.7 + 0.00008 * step * move, 0.02)
        for step in range(50, 401, 50)
        for move in (1,)
    )
    for scale, flat in ((1.0, True), (5.0, False)):
        moved = tuple(replace(v, mean=0.7 + (v.mean - 0.7) * scale) for v in drifting)
        table = Table.of([replace(result, training=replace(result.training, validations=moved))])
        assert table.rows[0]["flat"] is flat
