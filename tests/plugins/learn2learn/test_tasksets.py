"""learn2learn's task sets as data sets: repeatable by seed, free of leaks, and what is wrong in the library.

The tests named `test_library_…` hold what the page on learn2learn says of the library itself; one that fails
after an upgrade means that the page, and what the plugin does about it, must be looked at again.
"""

import pickle
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from metabench import Batches, DataError, Facts, Invalid, Protocol, Split
from metabench.device import Device
from metabench.settings import make, setting
from metabench_plugins.learn2learn.importing import FromLibrary, learn2learn
from metabench_plugins.learn2learn.rng import global_seed
from metabench_plugins.learn2learn.tasksets import TasksetDataset, class_tasks

pytestmark = pytest.mark.skipif(
    FromLibrary.unavailable() is not None, reason=FromLibrary.unavailable() or "learn2learn is installed"
)
PROTOCOL = Protocol(ways=3, shots=1, queries=2)
SPLITS: dict[Split, range] = {"train": range(10), "validation": range(10, 14), "test": range(14, 20)}
EACH = 6


@cache
def images() -> Any:
    """20 classes of 6 images; each image holds its number in every corner but one, where there is -1."""
    numbers = torch.arange(20.0 * EACH)
    x = numbers[:, None, None, None].repeat(1, 1, 2, 2)
    x[:, :, 0, 0] = -1
    labels = (numbers // EACH).long()
    return learn2learn().data.MetaDataset(TensorDataset(x, labels))


@cache
def part(split: Split) -> Any:
    return learn2learn().data.FilteredMetaDataset(images(), list(SPLITS[split]))


@dataclass(frozen=True, kw_only=True)
class Numbers(TasksetDataset):
    """Numbered images, drawn by learn2learn."""

    name: ClassVar[str] = "numbers"
    rotate: bool = setting(False, "turn each class")
    overlap: bool = setting(False, "every split has all classes")
    leak: bool = setting(False, "draw from another data set than the split's own, as the library does")

    def describe(self) -> Facts:
        """The facts."""
        counts = {split: len(labels) for split, labels in SPLITS.items()}
        return Facts("classification", (1, 2, 2), classes=counts, images=dict.fromkeys(counts, EACH))

    def taskset(self, split: Split, ways: int, samples: int) -> Any:
        """The library's tasks."""
        if self.overlap:
            return class_tasks(images(), ways, samples)
        tasks = class_tasks(part(split), ways, samples, self.rotate)
        if self.leak:
            tasks.task_transforms = class_tasks(images(), ways, samples).task_transforms
        return tasks


def source(**settings: bool) -> Any:
    return make(Numbers, settings).load(Device())


def test_tasks_are_a_function_of_seed_and_number() -> None:
    tasks = source(rotate=True)
    whole = tasks.episodes("train", PROTOCOL, range(6), seed=1)
    random.seed(5)
    tasks.episodes("test", PROTOCOL, range(3), seed=1)
    later = source(rotate=True).episodes("train", PROTOCOL, [5, 3], seed=1)
    assert torch.equal(later.support.x, whole.support.x[[5, 3]])
    assert torch.equal(later.query.x, whole.query.x[[5, 3]])
    other = tasks.episodes("train", PROTOCOL, range(6), seed=2)
    assert not torch.equal(other.query.x, whole.query.x)
    assert len({tuple(task.flatten().tolist()) for task in whole.query.x}) == 6


def test_global_generators_are_left_as_they_were() -> None:
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    source(rotate=True).episodes("train", PROTOCOL, range(3), seed=1)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_states_are_put_back_after_an_error() -> None:
    before = random.getstate()
    with pytest.raises(KeyError), global_seed(3):
        {}[random.random()]
    assert random.getstate() == before


@pytest.mark.parametrize("split", list(SPLITS))
def test_tasks_are_what_manifest_and_labels_say(split: Split) -> None:
    tasks = source()
    drawn = tasks.episodes(split, PROTOCOL, range(20), seed=0)
    manifest = tasks.manifest(split, PROTOCOL, range(20), seed=0)
    assert torch.equal(drawn.support.y, torch.arange(3).expand(20, -1))
    assert torch.equal(drawn.query.y, torch.arange(3).repeat(2).expand(20, -1))
    for name, examples in (("support", drawn.support), ("query", drawn.query)):
        numbers = examples.x[:, :, 0, 1, 1].long()
        labels = numbers // EACH
        assert torch.equal(labels, torch.as_tensor(SPLITS[split].start) + drawn.classes.gather(1, examples.y))
        assert np.array_equal(manifest[name] + SPLITS[split].start * EACH, numbers.numpy())
    assert np.array_equal(manifest["classes"], drawn.classes.numpy())
    both = np.concatenate([manifest["support"], manifest["query"]], 1)
    assert all(len(set(task)) == 9 for task in both)


def test_batches_are_shuffles_of_meta_train() -> None:
    micro = Batches(size=12, micro=12)
    batch = source().batch(micro, range(5), seed=0)
    numbers = batch.x[:, :, 0, 1, 1].long()
    assert sorted(numbers.flatten().tolist()) == list(range(60))
    assert torch.equal(batch.y, numbers // EACH)
    again = source().batch(micro, [3], seed=0)
    assert torch.equal(again.x[0], batch.x[3])


def test_splits_that_share_a_class_are_refused() -> None:
    with pytest.raises(DataError, match=r"class 0 is in 'train' and in 'validation'"):
        source(overlap=True)


def test_a_task_of_another_splits_class_is_refused() -> None:
    tasks = source(leak=True)
    with pytest.raises(DataError, match="is not in that split"):
        tasks.episodes("test", PROTOCOL, range(20), seed=0)


def test_labels_that_are_texts_are_refused() -> None:
    named = learn2learn().data.MetaDataset(
        TensorDataset(torch.zeros(4, 1), torch.zeros(4)), labels_to_indices={"a": [0, 1], "b": [2, 3]}
    )

    @dataclass(frozen=True, kw_only=True)
    class Named(Numbers):
        """Classes with names."""

        name: ClassVar[str] = "named"

        def taskset(self, split: Split, ways: int, samples: int) -> Any:
            """The library's tasks."""
            return class_tasks(named, ways, samples)

    with pytest.raises(DataError, match="number the classes"):
        make(Named).load(Device())


def test_tasks_of_another_size_than_asked_for_are_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Fixed(Numbers):
        """Two ways, whatever is asked."""

        name: ClassVar[str] = "fixed"

        def taskset(self, split: Split, ways: int, samples: int) -> Any:
            """The library's tasks."""
            return class_tasks(part(split), 2, samples)

    with pytest.raises(Invalid, match="3 classes of 3"):
        make(Fixed).load(Device()).episodes("train", PROTOCOL, range(1), seed=0)


def test_each_class_is_turned_by_its_own_angle() -> None:
    drawn = source(rotate=True).episodes("train", PROTOCOL, range(60), seed=0).query
    corner = (drawn.x[:, :, 0] == -1).flatten(2).long().argmax(2)  # [T, q] which corner is empty
    for way in range(3):
        assert all(len(set(task.tolist())) == 1 for task in corner[:, way::3])
    assert set(corner.flatten().tolist()) == {0, 1, 2, 3}
    assert any(len(set(task.tolist())) == 3 for task in corner)


class TinyOmniglot(TorchDataset[Any]):
    """In place of the library's Omniglot, which it would download: 1,623 classes of 2 images."""

    def __init__(self, root: str, transform: Any, download: bool) -> None:
        self.root = root

    def __len__(self) -> int:
        return 1623 * 2

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        if number >= len(self):
            raise IndexError(number)
        return torch.full((1, 1, 1), float(number // 2)), number // 2


def benchmark(monkeypatch: pytest.MonkeyPatch, seed: int, **settings: Any) -> Any:
    """The library's own Omniglot benchmark over the stand-in."""
    library = learn2learn()
    monkeypatch.setattr(library.vision.datasets, "FullOmniglot", TinyOmniglot)
    with global_seed(seed):
        return library.vision.benchmarks.get_tasksets(
            "omniglot", train_ways=5, train_samples=1, test_ways=5, test_samples=1, root=".", **settings
        )


def test_library_draws_training_tasks_from_test_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = benchmark(monkeypatch, seed=0)
    with global_seed(1):
        seen = {int(x) for _ in range(60) for x in tasks.train.sample()[0].flatten()}
    assert len(seen & set(tasks.test.dataset.labels)) > 30


@dataclass(frozen=True, kw_only=True)
class Benchmark(TasksetDataset):
    """The library's Omniglot benchmark, as the page on learn2learn shows it."""

    name: ClassVar[str] = "benchmark"
    fixed: bool = setting(True, "transforms over the split's own classes")

    def describe(self) -> Facts:
        """The facts."""
        counts = {"train": 1100, "validation": 100, "test": 423}
        return Facts("classification", (1, 1, 1), classes=counts, images=dict.fromkeys(counts, 2))

    def taskset(self, split: Split, ways: int, samples: int) -> Any:
        """The library's tasks."""
        get = learn2learn().vision.benchmarks.get_tasksets
        tasks = getattr(get("omniglot", ways, samples, ways, samples, root="."), split)
        return class_tasks(tasks.dataset, ways, samples, rotate=True) if self.fixed else tasks


def test_a_benchmark_becomes_a_data_set_without_its_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn2learn().vision.datasets, "FullOmniglot", TinyOmniglot)
    protocol = Protocol(ways=5, shots=1, queries=1)
    seen: dict[str, set[int]] = {}
    for split in SPLITS:
        random.seed(len(seen))  # whatever the state outside, the classes are cut alike
        tasks = make(Benchmark).load(Device()).episodes(split, protocol, range(30), seed=0)
        seen[split] = set(tasks.support.x.flatten().long().tolist())
        assert torch.equal(tasks.support.x.flatten(), tasks.query.x.flatten())
    assert len(seen["train"]) > 100
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]
    with pytest.raises(DataError, match="class_tasks"):
        make(Benchmark, {"fixed": False}).load(Device()).episodes("train", protocol, range(30), seed=0)


def test_library_cuts_omniglot_by_the_global_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = [frozenset(benchmark(monkeypatch, seed).test.dataset.labels) for seed in (0, 0, 1)]
    assert cuts[0] == cuts[1] != cuts[2]


def test_library_ignores_the_device_of_omniglot(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = benchmark(monkeypatch, seed=0, device=torch.device("meta"))
    with global_seed(1):
        assert tasks.train.sample()[0].device == torch.device("cpu")


def test_library_turns_all_classes_of_a_task_alike() -> None:
    tasks = class_tasks(part("train"), 5, 1)
    rotation = learn2learn().vision.transforms.RandomClassRotation(part("train"), [0.0, 90.0, 180.0, 270.0])
    tasks.task_transforms = [*tasks.task_transforms, rotation]
    with global_seed(0):
        corners = [(tasks.sample()[0] == -1).flatten(1).long().argmax(1).tolist() for _ in range(20)]
    assert all(len(set(task)) == 1 for task in corners)
    assert len({task[0] for task in corners}) > 1


def test_library_shares_running_statistics_between_clones() -> None:
    norm = torch.nn.BatchNorm1d(2)
    learn2learn().algorithms.MAML(norm, lr=0.1).clone()(torch.ones(4, 2))
    assert norm.running_mean is not None
    assert norm.running_mean.abs().max() > 0


def test_library_hides_why_adapting_failed(capfd: pytest.CaptureFixture[str]) -> None:
    clone = learn2learn().algorithms.MAML(torch.nn.Linear(2, 1), lr=0.1).clone()
    with pytest.raises(UnboundLocalError):
        clone.adapt(torch.zeros(1, requires_grad=True).sum())
    assert "Traceback" in capfd.readouterr().err


def test_library_fits_its_support_vector_machine_in_float32_only() -> None:
    with pytest.raises(RuntimeError):
        learn2learn().nn.SVClassifier().fit_(torch.randn(5, 3, dtype=torch.float64), torch.arange(5))


def test_library_draws_weights_of_omniglot_fc_from_numpy() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        weights.append(learn2learn().vision.models.OmniglotFC(4, 2).classifier.weight)
    assert not torch.equal(*weights)


def test_library_forgets_the_count_of_its_drop_block_in_clones() -> None:
    model = learn2learn().vision.models.ResNet12(5)
    clone = learn2learn().algorithms.MAML(model, lr=0.1).clone()
    with torch.no_grad():
        clone.module.features.layer1(torch.zeros(1, 3, 16, 16))
    assert clone.module.features.layer1[0].num_batches_tracked == 1
    assert model.features.layer1[0].num_batches_tracked == 0


def test_library_reads_the_labels_of_an_older_data_set(tmp_path: Path) -> None:
    def labelled(classes: int) -> Any:
        data = TensorDataset(torch.zeros(6, 1), torch.arange(6) % classes)
        data._bookkeeping_path = str(tmp_path / "bookkeeping.pkl")  # type: ignore[attr-defined]  # as its own sets do
        return learn2learn().data.MetaDataset(data)

    assert labelled(3).labels == [0, 1, 2]
    assert labelled(2).labels == [0, 1, 2]  # the second set has two classes


def test_library_inverts_training_images_of_mini_imagenet(tmp_path: Path) -> None:
    """Its `lee2019` augmentation gives floats of 0 … 255 to ToPILImage, which multiplies them by 255."""
    black, white = (torch.full((1, 84, 84, 3), value, dtype=torch.uint8).numpy() for value in (1, 255))
    kept = {"image_data": np.concatenate([black, white]), "class_dict": {"black": [0], "white": [1]}}
    for mode in ("train", "validation", "test"):
        with (tmp_path / f"mini-imagenet-cache-{mode}.pkl").open("wb") as file:
            pickle.dump(kept, file)
    tasks = learn2learn().vision.benchmarks.get_tasksets(
        "mini-imagenet", 2, 1, 2, 1, root=str(tmp_path), data_augmentation="lee2019"
    )
    mean, spread = 120.39586422 / 255, 70.68188272 / 255  # what the augmentation normalises red by
    with global_seed(0):
        seen = [
            [float(split.dataset[number][0][0, 42, 42]) * spread + mean for number in (0, 1)]
            for split in (tasks.train, tasks.test)
        ]
    assert seen[0][0] > 0.5 > 0.01 > seen[0][1]  # in training, black is white and white is black
    assert seen[1] == pytest.approx([1, 255])  # in the test they are as they were, but not divided by 255
