"""The referee asks who provides each component that a row runs: the tested data set and metrics too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from helpers.submissions import honest_result, made_cell
from metabench.publishing.referee import Rules, judge
from metabench.records import Spec


def test_tested_data_set_and_further_metrics_must_be_of_the_list_too(tmp_path: Path) -> None:
    cell = made_cell()
    evaluation = replace(cell.evaluation, metrics=(Spec("ece", {"bins": 5}), Spec("made-metric")))
    cell = replace(cell, dataset=Spec("glyphs"), test_dataset=Spec("sinusoid"), evaluation=evaluation)
    (base := tmp_path / "base").mkdir()
    folder = tmp_path / "head" / "results" / cell.suite_folder / "made-machine-2-cores"
    folder.mkdir(parents=True)
    (folder / f"{cell.id}.json").write_text(json.dumps(honest_result(cell).to_json()))

    reasons = " ".join(judge(base, tmp_path / "head", Rules(["other"])).reasons)

    assert "the dataset 'glyphs' is of metabench, which is not on the list" in reasons
    assert "the dataset 'sinusoid' is of metabench, which is not on the list" in reasons
    assert "the metric 'ece' is of metabench, which is not on the list" in reasons
    assert "no installed plugin provides the metric 'made-metric'" in reasons
