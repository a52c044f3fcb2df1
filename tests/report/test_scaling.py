"""Scaling: speed-up of equal work, told where it is fair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.reports import content_of, table_of
from helpers.results import made_board, made_cell, made_result
from metabench import Result, Spec


def test_speed_up_is_told_where_scores_agree() -> None:
    lines = {line["ranks"]: line for line in table_of(made_board(), "scaling").records}

    assert lines[1]["parity"] == "baseline"
    assert lines[2]["parity"] == "agrees"
    assert lines[2]["speedup"] == pytest.approx(0.02 / 0.012, rel=0.03)
    assert lines[2]["efficiency"] == pytest.approx(lines[2]["speedup"] / 2)


def test_speed_up_is_withheld_where_scores_do_not_agree() -> None:
    one_rank = made_result(made_cell("reptile", backend="cpu-ranks", group="scaling-strong"), 0.66)
    two_ranks = made_result(
        made_cell("reptile", backend="cpu-ranks", ranks=2, group="scaling-strong"), 0.60, step_seconds=0.01
    )

    section = table_of([one_rank, two_ranks], "scaling")

    assert section.records[1]["speedup"] is None
    assert "1.99" not in str(section.shown()[1])
    assert section.records[1]["parity"] == "not shown"


def test_scaling_across_machines_is_no_series() -> None:
    results = [r for r in made_board() if r.cell.algorithm.name == "reptile"]
    elsewhere = replace(results[1], environment={**results[1].environment, "machine": "other"})

    assert not table_of([results[0], elsewhere], "scaling")


def on_gpu(result: Result) -> Result:
    return replace(result, environment={**result.environment, "device": "cuda:0"})


def test_a_change_of_device_tells_a_speed_up_where_scores_agree() -> None:
    base = made_result(made_cell("maml"), 0.7, exact=True)
    gpu = on_gpu(made_result(made_cell("maml", backend="cuda"), 0.7, step_seconds=0.002, exact=True))
    other = made_result(made_cell("anil"), 0.7)
    worse = on_gpu(made_result(made_cell("anil", backend="cuda"), 0.5, step_seconds=0.002))

    lines = table_of([gpu, base, other, worse], "devices").records

    by_device = {(line["method"], line["device"]): line for line in lines}
    assert by_device["maml", "cpu"]["parity"] == "baseline"
    assert by_device["maml", "cuda"]["speedup"] == pytest.approx(10, rel=0.03)
    assert by_device["anil", "cuda"]["speedup"] is None
    assert not table_of([base, other], "devices")


def test_weak_scaling_tells_throughput_only() -> None:
    cells = [
        made_cell("maml", backend="cpu-ranks", ranks=n, tasks=8 * n, group="scaling-weak") for n in (1, 2)
    ]
    table = content_of([made_result(cell, step_seconds=0.02) for cell in cells])

    assert not table_of(table, "scaling")
    lines = table_of(table, "weak-scaling").records
    assert [line["tasks_per_rank"] for line in lines] == [8, 8]
    assert lines[1]["ratio"] == pytest.approx(2, rel=0.02)
    assert "speed-up" not in [column.header for column in table_of(table, "weak-scaling").columns]


def ranked(ranks: int, seconds: float, **settings: object) -> Result:
    cell = made_cell("reptile", backend="cpu-ranks", ranks=ranks, group="scaling-strong", test_tasks=60)
    cell = replace(cell, backend=Spec("cpu-ranks", {**cell.backend.settings, **settings}))
    result = made_result(cell, 0.66, step_seconds=seconds)
    scored = made_result(made_cell("reptile", backend="cpu-ranks", test_tasks=60), 0.66, exact=True)
    return replace(result, scores=scored.scores)


def test_a_speed_up_has_an_interval_from_the_blocks() -> None:
    lines = table_of([ranked(1, 0.02), ranked(2, 0.012)], "scaling").records

    assert lines[1]["speedup_low"] < lines[1]["speedup"] < lines[1]["speedup_high"]
    assert lines[1]["speedup_high"] / lines[1]["speedup_low"] == pytest.approx(1.013, abs=0.008)
    text = str(table_of([ranked(1, 0.02), ranked(2, 0.012)], "scaling").shown()[1])
    assert "20.0 ± " in text
    assert "× (1.6" in text


def test_numbers_formats_are_no_scaling_series() -> None:
    table = content_of([ranked(1, 0.02, precision="float32"), ranked(2, 0.006, precision="bf16")])

    assert not table_of(table, "scaling")


def test_ranks_that_share_gpus_or_cores_have_no_speed_up_and_say_why() -> None:
    shared = table_of([ranked(1, 0.02), ranked(2, 0.012, share=True)], "scaling")
    crowded = table_of([ranked(1, 0.02), ranked(4, 0.012, oversubscribe=True)], "scaling")

    assert shared.records[1]["speedup"] is None
    assert "ranks share GPUs and talk over gloo: no speed-up" in str(shared.shown())
    assert crowded.records[1]["speedup"] is None
    assert "4 ranks on 2 cores: no speed-up" in str(crowded.shown())


def test_scaling_tables_say_what_disturbed_the_times() -> None:
    noted = replace(ranked(2, 0.012), notes=("the machine slowed by 14 % during the cell",))

    assert "the machine slowed by 14 %" in str(table_of([ranked(1, 0.02), noted], "scaling").shown())
