"""The published results in the repository: sound, complete, and every trained learner above its floors."""

import math
import tomllib
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev

import pytest

from helpers.reports import content_in
from helpers.shell import ROOT
from metabench.records.files import read_result
from metabench.records.result import Result

FLOORS = {"nearest-neighbour", "scratch"}
BOARDS = ("sine", "glyphs-board", "omniglot-small", "head-to-head")
"""Suites whose results are the project's own boards, with three seeds each."""
COMPARISONS = {"head-to-head"}
"""Boards that compare two libraries and hold no floors."""
PUBLISHED = sorted(p for p in (ROOT / "results").glob("*-v*/*") if p.is_dir())


def interval(results: list[Result]) -> tuple[float, float]:
    """Lower and upper end of the 95 % interval of one method: over its tasks, each the mean over seeds."""
    scores = [r.scores.per_task for r in results if r.scores is not None]
    per_task = [fmean(seeds) for seeds in zip(*scores, strict=True)]
    half = 1.96 * stdev(per_task) / math.sqrt(len(per_task))
    return fmean(per_task) - half, fmean(per_task) + half


@pytest.mark.parametrize("suite", BOARDS)
def test_every_board_is_published_with_three_seeds_in_every_cell(suite: str, tmp_path: Path) -> None:
    files = sorted((ROOT / "results").glob(f"{suite}-v*/*/*.json"))
    assert files, f"{suite} is not published"

    cells = content_in(files, tmp_path).summaries
    assert cells
    assert all(len(cell["seed_list"]) >= 3 for cell in cells)


def test_boards_are_suites_that_exist_with_three_seeds() -> None:
    for suite in BOARDS:
        document = tomllib.loads((ROOT / "suites" / f"{suite}.toml").read_text(encoding="utf-8"))
        assert len(document["defaults"]["seeds"]) >= 3, suite


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda p: p.parent.name)
def test_every_trained_learner_beats_the_floors_by_more_than_both_intervals(folder: Path) -> None:
    groups: dict[str, dict[tuple[str, str], list[Result]]] = defaultdict(lambda: defaultdict(list))
    higher: dict[str, bool] = {}
    for path in folder.glob("*.json"):
        result = read_result(path)
        if result.scores is None or result.cell.group != "accuracy":
            continue
        cell = result.cell
        name = "floor" if cell.algorithm.name in FLOORS or cell.budget.steps == 0 else cell.algorithm.name
        groups[cell.dataset.name][name, str(sorted(cell.algorithm.settings.items()))].append(result)
        higher[cell.dataset.name] = result.scores.higher_is_better
    if not groups or folder.parent.name.rpartition("-v")[0] in COMPARISONS:
        pytest.skip("no board of accuracies with floors")
    for dataset, methods in groups.items():
        floors = [interval(results) for (name, _), results in methods.items() if name == "floor"]
        assert floors, f"{dataset} has no floor"
        for (name, settings), results in methods.items():
            low, high = interval(results)
            if name != "floor" and higher[dataset]:
                assert low > max(top for _, top in floors), f"{name} on {dataset}: {settings}"
            elif name != "floor":
                assert high < min(bottom for bottom, _ in floors), f"{name} on {dataset}: {settings}"


def test_maml_and_protonet_reach_what_references_reach_on_handwriting(tmp_path: Path) -> None:
    """learn2learn's MAML was seen at 85.2 ± 0.8 % and a ProtoNet at 92.9 ± 0.6 % after 2,000 steps."""
    [folder] = (ROOT / "results").glob("omniglot-small-v2/*")
    cells = content_in([folder], tmp_path).summaries
    best = {name: max(c["mean"] for c in cells if c["algorithm"] == name) for name in ("maml", "protonet")}

    assert best["maml"] >= 0.84
    assert best["protonet"] >= 0.91


@pytest.mark.parametrize("order", [False, True], ids=["second", "first"])
def test_error_on_sine_waves_falls_with_each_step_of_adaptation(order: bool) -> None:
    trained = [
        result
        for result in map(read_result, (ROOT / "results").glob("sine-v2/*/maml-*.json"))
        if result.cell.budget.steps and result.cell.algorithm.settings["first_order"] is order
    ]

    assert len(trained) == 3
    for result in trained:
        assert result.scores is not None
        curve = [fmean(result.scores.curve[str(steps)]) for steps in (0, 1, 2, 5, 10)]
        assert curve == sorted(curve, reverse=True), curve
