"""Scores in two directions: one cell in a place, and what tells lines apart beside them."""

from __future__ import annotations

import re

from helpers.reports import content_of, table_of
from helpers.results import made_cell, made_result, untrained
from metabench_plugins.reports.latex import _scores


def test_a_pivot_has_one_axis_down_and_one_across() -> None:
    results = [made_result(made_cell(n, shots=s), 0.6) for n in ("maml", "reptile") for s in (1, 5)]

    columns, lines, _ = content_of(results).pivot("method", "shots").shown()

    assert [column.header for column in columns] == ["method", "shots 1", "shots 5"]
    assert [line[0] for line in lines] == ["maml", "reptile"]
    assert all("±" in cell for line in lines for cell in line[1:])


def test_a_pivot_tells_suite_seeds_tasks_metric_machine_and_labels() -> None:
    table = content_of([made_result(made_cell("maml", seed, test_tasks=60), rising=True) for seed in (0, 1)])

    section = table.pivot("method", "dataset")

    text = " ".join(section.shown()[2])
    for words in ("suite: made v1", "seeds: 2", "test tasks: 60", "metric: accuracy",
                  "machine: made-machine-2-cores", "b: budget-limited"):  # fmt: skip
        assert words in text
    assert section.records[0]["at glyphs"].endswith("% [tb]")


def test_scores_that_would_meet_stand_on_lines_that_say_why() -> None:
    results = [
        made_result(made_cell("maml", suite=suite, version=version, shots=shots, test_tasks=60))
        for suite, version, shots in (("a", 1, 1), ("a", 2, 1), ("b", 1, 1), ("b", 1, 5))
    ]

    columns, lines, _ = content_of(results).pivot("method", "dataset").shown()

    assert [column.header for column in columns] == [
        "suite",
        "task",
        "meta-train",
        "method",
        "dataset glyphs",
    ]
    assert [line[:2] for line in lines] == [
        ["a v1", "5-way 1-shot"],
        ["a v2", "5-way 1-shot"],
        ["b v1", "5-way 1-shot"],
        ["b v1", "5-way 5-shot"],
    ]
    assert not any(";" in cell for line in lines for cell in line)


def test_suites_along_an_axis_keep_their_versions_apart() -> None:
    results = [made_result(made_cell(suite=s, version=v, test_tasks=60)) for s, v in (("a", 1), ("a", 2))]

    columns, lines, _ = content_of(results).pivot("method", "suite").shown()

    assert [column.header for column in columns] == ["version", "method", "suite a"]
    assert [line[0] for line in lines] == ["1", "2"]


def test_latex_keeps_suites_machines_and_seeds_apart_and_says_what_differs() -> None:
    runs = [("a", "x", (0,), 400), ("b", "x", (0,), 400), ("a", "y", (0, 1), 400)]
    results = [
        made_result(made_cell("maml", seed, suite=suite, steps=steps, test_tasks=60), machine=machine)
        for suite, machine, seeds, steps in runs
        for seed in seeds
    ]
    results.append(untrained(made_cell("floor", suite="a", steps=0, test_tasks=60), 0.4))
    results.append(made_result(made_cell("maml", suite="a", dataset="omniglot", test_tasks=60), 0.98))

    text = _scores(table_of(results, "scores"))

    (head,) = re.findall(r"toprule\n(.*?) \\\\", text)
    assert head.split(" & ")[:4] == ["suite", "seeds", "machine", "method"]
    assert not re.search(r"\\%[^&]*;", text.split(r"\bottomrule")[0])
    assert "steps: 400 for maml (conv4)" in text
    assert "published: 98.7" in text
    assert "agrees" in text


def test_a_pivot_over_data_sets_has_the_mean_rank_of_rows_that_have_all_of_them() -> None:
    scores = {"maml": (0.7, 0.5, 0.6), "protonet": (0.8, 0.6, 0.7), "reptile": (0.6, 0.7, 0.5), "cnp": (0.9,)}
    results = [
        made_result(made_cell(name, dataset=dataset), score)
        for name, of_name in scores.items()
        for dataset, score in zip(("glyphs", "lake", "cub"), of_name, strict=False)
    ]

    columns, lines, notes = content_of(results).pivot("method", "dataset").shown()

    assert columns[-1].header == "mean rank"
    ranks = {
        line[columns.index(next(c for c in columns if c.header == "method"))]: line[-1] for line in lines
    }
    assert ranks["protonet"] == "1.33 ± 1.43"  # ranks 1, 2, 1: deviation 0.577, t 4.303, over √3
    assert ranks["maml"].startswith("2.33")
    assert ranks["cnp"] in ("", "–")
    assert any("Mean rank" in note for note in notes)
