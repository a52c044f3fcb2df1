"""Results as tables: what is grouped, ranked, labelled, withheld and told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.reports import content_in, content_of, shown, summary_of, table_of
from helpers.results import made_board, made_cell, made_result, made_scores, store, untrained
from metabench import Batches, Spec
from metabench.errors import RequestError
from metabench.records.cell import Status
from metabench.report.output import render
from metabench.results.table import Results


@pytest.mark.parametrize(
    ("steps", "ended_by", "text"),
    [
        ((400, 400), "steps", "400"),
        ((150, 150), "seconds", "150 of 400, ended by time"),
        ((150, 300), "patience", "150–300 of 400, ended by patience"),
        ((400, 300), "target", "300–400 of 400, ended by target"),
        ((200, 200), "images", "200 of 400, ended by images"),
    ],
)
def test_tables_show_the_steps_that_were_taken_and_what_ended_them(
    steps: tuple[int, int], ended_by: str, text: str
) -> None:
    results = []
    for seed, taken in enumerate(steps):
        result = made_result(made_cell("maml", seed, steps=400))
        assert result.training is not None
        training = replace(result.training, steps=taken, ended_by=ended_by)
        results.append(replace(result, training=training))

    (section,) = content_of(results).sections(["scores"])

    shown = {column.header: column.show(section.records[0]) for column in section.columns}
    assert shown["steps"] == text


def test_one_row_per_result_with_its_axes_and_figures() -> None:
    frame = content_of(made_board()).frame

    assert len(frame) == 12
    assert set(frame["status"]) == {"ok", "out-of-memory"}
    row = frame[frame["method"] == "protonet"].iloc[0]
    assert (row["ways"], row["shots"], row["seed"], row["step_tasks"]) == (5, 1, 0, 16)
    assert row["mean"] == pytest.approx(0.76, abs=0.02)
    assert 0.005 < row["half_width"] < 0.012
    assert row["tasks_per_second"] == pytest.approx(800, rel=0.02)
    assert row["adapt_seconds"] == pytest.approx(0.1 / 32)  # the cold first batch does not count


def test_stored_results_come_in_the_order_of_task_method_and_hardware_by_size(tmp_path: Path) -> None:
    cells = [
        made_cell("maml", shots=1, settings={"steps": 5}),
        made_cell("maml", shots=1, settings={"steps": 10}),
        made_cell("protonet", shots=1),
        made_cell("maml", shots=5, backend="cpu-ranks", ranks=2),
        made_cell("maml", shots=5, backend="cpu-ranks", ranks=8),
        made_cell("maml", shots=5, backend="cpu-ranks", ranks=16),
        made_cell("maml", shots=10),
        made_cell("maml", ways=20),
    ]
    store(tmp_path, [made_result(cell) for cell in reversed(cells)])

    table = content_in([tmp_path], tmp_path / "cache")

    assert [row["digest"] for row in table.rows] == [cell.digest for cell in cells]
    assert [len(scores) for scores in table.results.scores] == [600] * len(cells)


def test_the_time_to_a_target_is_told_quickest_first_and_never_last() -> None:
    slow, quick, never = (
        [made_result(made_cell(name, s, target=0.6), step_seconds=seconds) for s in range(3)]
        for name, seconds in (("slow", 0.06), ("quick", 0.02), ("never", 0.02))
    )
    missed = [
        replace(r, training=replace(r.training, target_step=None, target_seconds=None))
        for r in never
        if r.training is not None
    ]

    (section,) = content_of([*missed, *slow, *quick]).sections(["time-to-target"])

    assert [line["method"] for line in section.records] == ["quick", "slow", "never"]


def test_seeds_of_a_cell_are_one_line_with_a_wider_interval() -> None:
    table = content_of(made_board())

    line = summary_of(table, "protonet")
    singles = [row["half_width"] for row in table.rows if row["method"] == "protonet"]
    assert (line["seeds"], line["tasks"]) == (3, 600)
    assert line["half_width"] is not None
    assert line["half_width"] > min(singles) / np.sqrt(3)
    assert line["mean"] == pytest.approx(
        np.mean([r["mean"] for r in table.rows if r["method"] == "protonet"])
    )


def test_methods_that_cannot_be_told_apart_share_a_tier() -> None:
    means = {"protonet": 0.76, "r2d2": 0.761, "matchingnet": 0.6}
    table = content_of(
        [made_result(made_cell(name, s), mean) for name, mean in means.items() for s in range(3)]
    )

    assert summary_of(table, "protonet")["rank"] == summary_of(table, "r2d2")["rank"] == 1
    assert summary_of(table, "matchingnet")["rank"] == 3


def test_a_clear_winner_stands_alone() -> None:
    results = [made_result(made_cell(n, s), a) for n, a in (("a", 0.8), ("b", 0.6)) for s in range(3)]
    table = content_of(results)

    assert (summary_of(table, "a")["rank"], summary_of(table, "b")["rank"]) == (1, 2)


def test_settings_name_methods_only_where_they_differ() -> None:
    rates = [made_result(made_cell("maml", settings={"inner_rate": r, "steps": 1})) for r in (0.1, 0.4)]
    table = content_of([*rates, made_result(made_cell("reptile"))])

    assert set(table.frame["method"]) == {"maml (inner_rate=0.1)", "maml (inner_rate=0.4)", "reptile"}


def test_no_reference_for_another_split_or_network_or_without_training() -> None:
    cells = [
        made_cell("maml", dataset="omniglot", network="mlp-64"),
        made_cell("maml", dataset="glyphs"),
        made_cell("maml", dataset="omniglot", steps=0),
        replace(made_cell("maml"), dataset=Spec("omniglot", {"split": "lake"})),
    ]

    assert not any(cell["references"] for cell in content_of(map(made_result, cells)).summaries)


def test_the_name_of_a_gpu_is_part_of_the_hardware() -> None:
    result = made_result()
    gpu = replace(result, environment={**result.environment, "device": "cuda:0", "gpu": "NVIDIA H100"})

    assert content_of([gpu]).rows[0]["hardware"] == "NVIDIA H100, Made Processor, 2 cores"


def test_supervised_training_counts_examples_and_what_trains_nothing_has_no_steps() -> None:
    batches = replace(made_cell("a", tasks=64, test_tasks=20), train=Batches(64))
    table = content_of([made_result(batches), made_result(made_cell("b", test_tasks=20)), untrained(
        made_cell("c", test_tasks=20), 0.4)])  # fmt: skip

    columns, lines, _ = table_of(table, "wall-time").shown()
    speed = [column.header for column in columns].index("tasks/s")
    assert [line[speed].endswith("examples/s") for line in lines] == [True, False, False]
    columns, lines, _ = table_of(table, "scores").shown()
    steps = [column.header for column in columns].index("steps")
    method = [column.header for column in columns].index("method")
    assert {line[method]: line[steps] for line in lines} == {"a": "400", "b": "400", "c": "–"}


def test_one_seed_and_several_are_told_apart_in_the_notes() -> None:
    results = [made_result(made_cell("a", s)) for s in (0, 1)]

    both = " ".join(table_of([*results, made_result(made_cell("b"))], "scores").notes)
    assert "where there are several seeds, over crossed seeds and tasks" in both
    assert "where there is one, over the tasks" in both
    assert "crossed" not in " ".join(table_of(results[:1], "scores").notes)


def test_failures_are_rows_with_their_last_words() -> None:
    section = table_of(made_board(), "failures")

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

    table = content_in([tmp_path], tmp_path / "cache")

    assert len(table.rows) == 1
    assert table.rows[0]["mean"] == pytest.approx(np.mean(made_scores(cell, 0.72)))
    assert str(first) in str(table.problems[0])
    assert "disagrees" in shown(table)


def test_copies_of_one_result_count_once_without_a_word(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store(tmp_path / name, [made_result()])

    table = content_in([tmp_path], tmp_path / "cache")

    assert len(table.rows) == 1
    assert not table.problems


def test_machines_never_share_a_line_or_a_time_column_unnoticed() -> None:
    cells = [made_cell(seed=seed) for seed in range(2)]
    here = [made_result(cell, machine="here") for cell in cells]
    there = [made_result(cell, machine="there") for cell in cells]

    table = content_of([*here, *there])

    assert [cell["machine"] for cell in table.summaries] == ["here", "there"]
    headers = [column.header for column in table_of(table, "wall-time").shown()[0]]
    assert "machine" in headers
    assert any("Several machines" in note for note in table_of(table, "wall-time").notes)


def test_suites_and_versions_are_kept_apart_and_told() -> None:
    table = content_of(
        [made_result(made_cell(version=v, suite=s)) for s, v in (("a", 1), ("a", 2), ("b", 1))]
    )

    columns, lines, _ = table_of(table, "scores").shown()
    assert columns[0].header == "suite"
    assert [line[0] for line in lines] == ["a v1", "a v2", "b v1"]
    assert all(cell["rank"] == 1 for cell in table.summaries)


@pytest.mark.parametrize(
    ("only", "skip", "count"),
    [(["algorithm=maml"], [], 3), (["algorithm=maml,protonet", "seed=0"], [], 2), ([], ["status=ok"], 1)],
)
def test_rows_are_chosen_by_any_axis(only: list[str], skip: list[str], count: int) -> None:
    assert len(Results.of(made_board()).where(only, skip)) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("method=maml (inner_rate=0.4, steps=5)", 1),
        ("method=maml (inner_rate=0.4, steps=5),reptile", 2),
        ("method=maml", 2),  # both variants
        ("network=conv4,mlp", 3),
        ("network=conv4", 2),
    ],
)
def test_names_are_chosen_whole_or_without_their_settings(text: str, count: int) -> None:
    variants = [{"inner_rate": 0.1, "steps": 1}, {"inner_rate": 0.4, "steps": 5}]
    cells = [made_cell("maml", settings=settings, test_tasks=20) for settings in variants]
    cells[0] = replace(cells[0], network=Spec("conv4", {"filters": 32}))
    table = Results.of(map(made_result, [*cells, made_cell("reptile", network="mlp", test_tasks=20)]))

    assert {row["network"] for row in table.rows} == {"conv4 (filters=32)", "conv4 (filters=64)", "mlp"}
    assert len(table.where([text])) == count
    assert len(table.where(skip=[text])) == 3 - count


def test_skip_names_a_value_that_no_result_has() -> None:
    with pytest.raises(RequestError, match="did you mean 'protonet'"):
        Results.of(made_board(test_tasks=20)).where(skip=["method=protonett"])


def test_an_unknown_axis_or_value_names_the_known_ones() -> None:
    table = content_of(made_board())

    with pytest.raises(RequestError, match="did you mean 'algorithm'"):
        table.results.where(["algoritm=maml"])
    with pytest.raises(RequestError, match="did you mean 'protonet'"):
        table.results.where(["algorithm=protnet"])
    with pytest.raises(RequestError, match="not an axis to pivot by"):
        table.pivot("method", "sead")
    with pytest.raises(RequestError, match="no table is called"):
        table.sections(["scored"])
    with pytest.raises(RequestError, match="no table has the column"):
        table.sections(sort="colour")


@pytest.mark.parametrize("by", ["training_seconds", "training s"])
def test_sections_are_sorted_by_a_figure_or_its_header(by: str) -> None:
    (section,) = content_of(made_board()).sections(["wall-time"], f"-{by}")

    seconds = [record["training_seconds"] for record in section.records]
    assert seconds[:4] == sorted(seconds[:4], reverse=True)
    assert seconds[-1] is None


def test_time_to_target_is_told_from_three_seeds_on() -> None:
    few = [made_result(made_cell("a", s, target=0.7), 0.75) for s in range(2)]
    enough = [made_result(made_cell("b", s, target=0.7), 0.75) for s in range(3)]

    lines = {line["method"]: line for line in table_of([*few, *enough], "time-to-target").records}

    assert lines["a"]["seconds"] is None
    assert lines["b"]["seconds"] == pytest.approx(100 * 0.02, rel=0.05)
    assert 0 < lines["b"]["seconds_spread"] < 0.1


@pytest.mark.parametrize("status", ["failed", "out-of-memory", "diverged", "timed-out"])
def test_a_seed_that_ended_badly_never_reached_the_target(status: str) -> None:
    reached = [made_result(made_cell("a", s, target=0.7), 0.75) for s in range(3)]
    lost = made_result(made_cell("a", 3, target=0.7), status=Status(status), scores=None, training=None)
    skipped = made_result(made_cell("a", 4, target=0.7), status=Status.SKIPPED, scores=None, training=None)

    (line,) = table_of([*reached, lost, skipped], "time-to-target").records

    assert (line["reached"], line["seeds"], line["seconds"]) == (3, 4, None)
    assert "1 of 4 seeds never reached it" in line["rule"]


def test_a_table_that_is_asked_for_and_empty_says_so() -> None:
    table = content_of([made_result()])

    assert "None of these results belongs in this table." in render(table.sections(["time-to-target"]))
    assert "Time to target" not in shown(table)


def test_nothing_at_all_is_said_plainly() -> None:
    assert shown(content_of([])) == "no results"


def test_long_tables_are_cut_on_a_terminal_and_say_so() -> None:
    table = content_of([made_result(made_cell(f"m{i}", test_tasks=20)) for i in range(6)])

    text = render([table_of(table, "scores")], lines=4)

    assert "2 more lines" in text
    assert text.count("± ") >= 4
