"""What holds for every data set that is installed, and that describing one loads neither torch nor data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metabench import Batches, Dataset, Protocol
from metabench.data import TensorSource
from metabench.device import Device
from metabench.plugins import load
from metabench.records import SPLITS
from metabench.settings import describe_settings, make
from metabench_plugins.datasets.blobs import Blobs
from metabench_plugins.datasets.harmonics import Harmonics
from metabench_plugins.datasets.sinusoid import Sinusoid

DATASETS = {
    name: entry.cls
    for name, entry in load().entries("dataset").items()
    if entry.source.startswith("metabench ")
}
MADE = [Sinusoid(), Sinusoid(noise=0.2), Harmonics(), Blobs(), Blobs(shape=(3, 8, 8))]


def test_every_module_of_the_folder_is_registered() -> None:
    folder = Path(__file__).parents[3] / "plugins" / "metabench_plugins" / "datasets"
    modules = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert modules == {cls.__module__.rpartition(".")[2] for cls in DATASETS.values()}


@pytest.mark.parametrize("name", DATASETS)
def test_help_begins_with_a_sentence_and_each_setting_has_one(name: str) -> None:
    assert (DATASETS[name].__doc__ or "").splitlines()[0].endswith(".")
    assert all(setting.help for setting in describe_settings(DATASETS[name]))


def test_facts_and_absence_are_told_without_torch(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from metabench.settings import make\n"
        "from metabench_plugins.datasets import metabench_datasets\n"
        "for cls in metabench_datasets():\n"
        "    made = make(cls, {'path': 'absent'} if 'path' in cls.__dataclass_fields__ else {})\n"
        "    print(cls.name, made.describe().kind, made.missing())\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {"METABENCH_DATA": str(tmp_path), "METABENCH_CACHE": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(lines) == set(DATASETS)
    ready = {name for name, line in lines.items() if line.endswith("None")}
    assert ready == {"sinusoid", "harmonics", "blobs", "glyphs", "table-prior"}
    assert all(str(tmp_path) in line for name, line in lines.items() if name not in ready)


@pytest.mark.parametrize("dataset", MADE, ids=str)
@pytest.mark.parametrize("split", SPLITS)
def test_tasks_follow_the_facts_and_their_numbers(dataset: Dataset, split: str) -> None:
    facts, source = dataset.describe(), dataset.load(Device())
    protocol = Protocol(1 if facts.kind == "regression" else 4, 2, 3)
    whole = source.episodes(split, protocol, range(6), 5)  # type: ignore[arg-type]
    part = source.episodes(split, protocol, [4, 2], 5)  # type: ignore[arg-type]
    assert tuple(whole.support.x.shape[2:]) == facts.input_shape
    assert whole.support.x.shape[:2] == (6, 2 * protocol.ways)
    if facts.kind == "regression":
        assert tuple(whole.query.y.shape[2:]) == (facts.outputs,)
    else:
        assert whole.query.y.tolist() == [[0, 1, 2, 3] * 3] * 6
    for expected, drawn in ((whole.support, part.support), (whole.query, part.query)):
        assert torch.equal(expected.x[[4, 2]], drawn.x)
        assert torch.equal(expected.y[[4, 2]], drawn.y)
    assert part.index.tolist() == [4, 2]


@pytest.mark.parametrize("dataset", MADE, ids=str)
def test_splits_and_seeds_draw_other_tasks(dataset: Dataset) -> None:
    source, protocol = (
        dataset.load(Device()),
        Protocol(1 if dataset.describe().kind == "regression" else 4, 2, 3),
    )
    drawn = [source.episodes(split, protocol, [0], seed).query.x for split in SPLITS for seed in (0, 1)]  # type: ignore[arg-type]
    assert len({tuple(x.ravel().tolist()) for x in drawn}) == 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dataset", MADE, ids=str)
def test_a_gpu_draws_the_tasks_of_the_cpu(dataset: Dataset) -> None:
    protocol = Protocol(1 if dataset.describe().kind == "regression" else 4, 2, 3)
    here, there = (dataset.load(Device(place, torch.float64)) for place in ("cpu", "cuda"))
    expected, drawn = (source.episodes("test", protocol, range(5), 1) for source in (here, there))
    assert drawn.query.x.device.type == "cuda"
    assert torch.allclose(expected.query.x, drawn.query.x.cpu(), rtol=0, atol=1e-12)
    assert torch.equal(expected.classes, drawn.classes.cpu())
    if isinstance(there, TensorSource):
        assert there.examples.device.type == "cuda"
        batches = [source.batch(Batches(32), range(2), 0) for source in (here, there)]
        assert torch.equal(batches[0].y, batches[1].y.cpu())
        assert torch.allclose(batches[0].x, batches[1].x.cpu(), rtol=0, atol=1e-12)


def test_a_data_set_without_its_settings_is_told() -> None:
    from metabench import SettingError

    with pytest.raises(SettingError, match="'imagefolder' needs the setting 'path'"):
        make(DATASETS["imagefolder"])
