"""Lake's 20 one-shot runs: official tasks, an archive that is checked, crossing with the background."""

from pathlib import Path

import pytest
import torch

from helpers.archives import drawing, write_zip
from metabench import DataError, Invalid, Protocol
from metabench.data.checks import verify
from metabench.device import Device
from metabench.records.crossing import crossing_problem
from metabench_plugins.datasets._lake_list import runs
from metabench_plugins.datasets.lake import Lake
from metabench_plugins.datasets.omniglot import Omniglot
from metabench_plugins.datasets.omniglot_small import OmniglotSmall

RUN = Protocol(20, 1, 1)


@pytest.fixture
def lake(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("METABENCH_DATA", str(real_data))
    if Lake().missing():
        pytest.skip("no archive of Lake's runs in METABENCH_DATA")
    return Lake()


def test_a_run_pairs_the_drawings_that_the_archive_labels(lake: Lake) -> None:
    """The drawings of a class are those of one character in the archive of evaluation alphabets."""
    omniglot = Omniglot(split="lake", rotations=False)
    if omniglot.missing():
        pytest.skip("no archives of Omniglot in METABENCH_DATA")
    source = omniglot.load(Device())
    index = source.splits["test"]  # type: ignore[attr-defined]
    episodes = lake.load(Device()).episodes("test", RUN, range(20), 0)
    for task, (_, names) in enumerate(runs()):
        rows = [int(index.first[index.names.index(name)]) for name in names]
        characters = torch.stack([source.examples[row : row + 20] for row in rows])  # type: ignore[attr-defined]
        for part in (episodes.support, episodes.query):
            drawings = (part.x[task] * 255).round().to(torch.uint8)
            same = (characters == drawings[:, None]).flatten(2).all(2).any(1)
            assert bool(same.all())


def test_all_runs_are_verified_and_no_more(lake: Lake) -> None:
    findings = [
        finding.text for finding in verify(lake) if finding.level == "FAULT" or "tasks were" in finding.text
    ]
    assert "test: 20 tasks were drawn and hold finite numbers" in findings
    assert len(findings) == 1


def test_what_is_no_run_is_refused(lake: Lake) -> None:
    source = lake.load(Device())
    with pytest.raises(Invalid, match="must be 20-way 1-shot tasks"):
        source.episodes("test", Protocol(5, 1, 2), [0], 0)
    with pytest.raises(Invalid, match="lake has 20 runs, 0 to 19, got number 20"):
        source.episodes("test", RUN, [20], 0)


def test_background_may_train_for_the_runs_and_vinyals_split_may_not() -> None:
    runs_of_lake = Lake().describe()
    assert crossing_problem(OmniglotSmall().describe(), runs_of_lake, ("train", "validation")) is None
    background = Omniglot(split="lake").describe()
    assert crossing_problem(background, runs_of_lake, ("train", "validation")) is None
    problem = crossing_problem(Omniglot().describe(), runs_of_lake, ("train",))
    assert problem is not None
    assert "script:Atlantean" in problem


def test_an_absent_drawing_is_named_by_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    write_zip(tmp_path / "omniglot" / "lake_all_runs.zip", {"run01/training/class01.png": drawing(1)})
    with pytest.raises(DataError, match="must hold both drawings of all 20 classes of run01"):
        Lake().load(Device())


def test_the_runs_say_of_which_alphabets_their_characters_are(lake: Lake) -> None:
    units = lake.load(Device()).class_units("test")
    assert units is not None
    assert len(set(units.units)) == 200
    assert len(set(units.groups)) == 10
