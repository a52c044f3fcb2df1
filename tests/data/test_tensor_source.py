"""A data set as one tensor: tasks by number, their order, labelled batches, leaks."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metabench import Batches, DataError, Episodes, Invalid, Protocol
from metabench.data import Augment, ClassIndex, TensorSource, cached, check_disjoint
from metabench.data import tensor_source as table
from metabench.data.cache import digest
from metabench.device import Device

COUNTS = [20, 7, 30, 20, 12, 25, 20, 9]


def random_images(count: int, size: int = 6) -> NDArray[np.uint8]:
    """Images whose first pixels tell their number."""
    out = np.random.default_rng(0).integers(0, 256, (count, 1, size, size), dtype=np.uint8)
    out[:, 0, 0, 0], out[:, 0, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
    return out


def numbers(x: torch.Tensor) -> torch.Tensor:
    """The numbers of such images, from inputs in 0..1."""
    return torch.round(x[..., 0, 0, 0] * 255).long() * 256 + torch.round(x[..., 0, 0, 1] * 255).long()


def source(device: Device | None = None, **options: object) -> TensorSource:
    train = ClassIndex.of_counts([f"a{n}" for n in range(len(COUNTS))], COUNTS)
    test = ClassIndex.of_counts(["t0", "t1"], [5, 5], sum(COUNTS))
    images = random_images(sum(COUNTS) + 10)
    return TensorSource("demo", images, {"train": train, "test": test}, device or Device(), **options)  # type: ignore[arg-type]


def same(a: Episodes, b: Episodes) -> bool:
    return all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))


def flat(e: Episodes) -> list[torch.Tensor]:
    return [*e.support, *e.query, e.classes, e.index]


def test_labels_count_the_ways_over_and_over() -> None:
    drawn = source().episodes("train", Protocol(3, 2, 4), range(5), 0)
    assert drawn.support.x.shape == (5, 6, 1, 6, 6)
    assert drawn.query.x.shape == (5, 12, 1, 6, 6)
    assert drawn.support.y.tolist() == [[0, 1, 2] * 2] * 5
    assert drawn.query.y.tolist() == [[0, 1, 2] * 4] * 5
    assert drawn.index.tolist() == [0, 1, 2, 3, 4]


def test_images_are_of_the_class_that_their_label_says() -> None:
    loaded, first = source(), np.cumsum([0, *COUNTS])
    drawn = loaded.episodes("train", Protocol(4, 2, 3), range(50), 3)
    for part in drawn.support, drawn.query:
        owner = torch.from_numpy(np.searchsorted(first, numbers(part.x).numpy(), side="right") - 1)
        assert torch.equal(owner, drawn.classes.gather(1, part.y))


def test_no_image_is_in_support_and_query() -> None:
    drawn = source().episodes("train", Protocol(3, 3, 4), range(100), 0)
    both = torch.cat([numbers(drawn.support.x), numbers(drawn.query.x)], 1)
    assert (both.sort(1).values.diff(dim=1) > 0).all()


def test_any_slices_give_the_tasks_of_the_whole() -> None:
    loaded, protocol = source(), Protocol(5, 1, 5)
    whole = loaded.episodes("train", protocol, range(32), 7)
    parts = [loaded.episodes("train", protocol, range(n, n + 8), 7) for n in range(0, 32, 8)]
    assert all(
        torch.equal(x, torch.cat(ys))
        for x, ys in zip(flat(whole), zip(*map(flat, parts), strict=True), strict=True)
    )


def test_tasks_drawn_ahead_are_those_drawn_one_by_one() -> None:
    protocol, seam = Protocol(5, 1, 5), 2 * table.AHEAD
    manifest = source().manifest("train", protocol, range(seam - 3, seam + 5), 7)
    for place, number in enumerate(range(seam - 3, seam + 5)):
        alone = source().manifest("train", protocol, [number], 7)
        assert all((manifest[name][place] == alone[name][0]).all() for name in manifest)


def test_changing_a_manifest_changes_no_later_task() -> None:
    loaded, protocol = source(), Protocol(2, 1, 2)
    first = loaded.manifest("train", protocol, range(4), 0)["support"]
    kept = first.copy()
    first[:] = 0
    assert (loaded.manifest("train", protocol, range(4), 0)["support"] == kept).all()


def test_tasks_hang_on_split_protocol_and_seed() -> None:
    loaded, protocol = source(), Protocol(2, 1, 2)
    base = loaded.manifest("train", protocol, range(20), 0)["support"]
    assert (base != loaded.manifest("train", protocol, range(20), 1)["support"]).any()
    assert (base != loaded.manifest("train", Protocol(2, 1, 3), range(20), 0)["support"]).any()
    assert (base != loaded.manifest("test", protocol, range(20), 0)["support"]).any()


def test_the_tasks_of_a_data_set_never_change() -> None:
    drawn = source().manifest("train", Protocol(5, 1, 5), range(600), 2026)
    manifest = np.concatenate([drawn[name].ravel() for name in ("classes", "support", "query")])
    assert (
        digest(manifest.astype("<i8")) == "7aa51751be9cd58536f10b3f2a309fb2613c115d0577b32f2750fa99d908ca3a"
    )


def test_a_manifest_is_what_the_tensors_hold() -> None:
    loaded, protocol = source(), Protocol(3, 2, 2)
    drawn, manifest = (
        loaded.episodes("train", protocol, range(9), 1),
        loaded.manifest("train", protocol, range(9), 1),
    )
    assert (numbers(drawn.support.x).numpy() == manifest["support"]).all()
    assert (numbers(drawn.query.x).numpy() == manifest["query"]).all()
    assert (drawn.classes.numpy() == manifest["classes"]).all()


def test_turned_classes_are_turned_images() -> None:
    index = ClassIndex.of_counts(["a", "b"], [20, 20]).rotated()
    assert index.names[2] == "a/rot090"
    images = random_images(40)
    turned = TensorSource("demo", images, {"train": index}, Device(dtype=torch.float64))
    drawn, manifest = (
        turned.episodes("train", Protocol(4, 2, 2), range(30), 0),
        turned.manifest("train", Protocol(4, 2, 2), range(30), 0),
    )
    seen = set()
    for task in range(30):
        for place in range(8):
            turn = int(drawn.classes[task, place % 4]) // 2
            whole = torch.from_numpy(images[manifest["query"][task, place]]).double() / 255
            upright = torch.rot90(whole, turn, (-2, -1))
            assert torch.allclose(drawn.query.x[task, place], upright, rtol=0, atol=1e-15)
            seen.add(turn)
    assert seen == {0, 1, 2, 3}


def test_inputs_are_normalised_per_channel_in_the_device_s_type() -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), dtype=np.uint8)
    index = ClassIndex.of_counts(["a", "b"], [10, 10])
    device = Device(dtype=torch.float64)
    loaded = TensorSource("demo", values, {"train": index}, device, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    x = loaded.episodes("train", Protocol(2, 1, 1), [0], 0).support.x
    manifest = loaded.manifest("train", Protocol(2, 1, 1), [0], 0)["support"]
    mean, std = np.array([0.1, 0.2, 0.3])[:, None, None], np.array([0.5, 1.0, 2.0])[:, None, None]
    assert x.dtype == torch.float64
    assert np.allclose(x[0].numpy(), (values[manifest[0]] / 255 - mean) / std, atol=1e-12)


def test_batches_go_through_meta_train_by_shuffles() -> None:
    loaded, total = source(), sum(COUNTS)
    every = loaded.batch(Batches(size=total, micro=1), range(2 * total), 5)
    first, second = numbers(every.x[:total]).ravel(), numbers(every.x[total:]).ravel()
    assert first.sort().values.tolist() == list(range(total))
    assert second.sort().values.tolist() == list(range(total))
    assert first.tolist() != second.tolist()


def test_batches_are_labelled_by_class_and_sliced_at_will() -> None:
    loaded, batches = source(), Batches(size=64, micro=16)
    whole = loaded.batch(batches, range(4), 5)
    assert whole.x.shape == (4, 16, 1, 6, 6)
    owner = np.searchsorted(np.cumsum(COUNTS), numbers(whole.x).numpy(), side="right")
    assert (owner == whole.y.numpy()).all()
    assert torch.equal(loaded.batch(batches, [2, 3], 5).x, whole.x[2:])


def test_too_many_ways_and_too_few_images_are_told() -> None:
    with pytest.raises(Invalid, match="ways must be at most 2, the classes of the split, got 3"):
        source().episodes("test", Protocol(3, 1, 1), [0], 0)
    with pytest.raises(Invalid, match=r"at most 7, the images of the class 'a1', got 8"):
        source().episodes("train", Protocol(2, 3, 5), [0], 0)
    with pytest.raises(DataError, match="no split 'validation'"):
        source().episodes("validation", Protocol(2, 1, 1), [0], 0)


def test_a_class_in_two_splits_is_refused() -> None:
    train, test = ClassIndex.of_counts(["a", "b"], [5, 5]), ClassIndex.of_counts(["b", "c"], [5, 5], 10)
    with pytest.raises(DataError, match="train and test share 1 classes, such as 'b'"):
        TensorSource("demo", random_images(20), {"train": train, "test": test}, Device())


def test_an_image_in_two_splits_is_refused() -> None:
    train, validation = ClassIndex.of_counts(["a", "b"], [5, 5]), ClassIndex.of_counts(["c", "d"], [5, 5], 9)
    with pytest.raises(DataError, match="share 1 images, such as 9"):
        check_disjoint({"train": train, "validation": validation})


def test_a_class_twice_or_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="must be unique, got 'a' twice"):
        ClassIndex.of_counts(["a", "a"], [5, 5])
    with pytest.raises(DataError, match="'b' has no images"):
        ClassIndex.of_counts(["a", "b"], [5, 0])


def test_augmentation_changes_training_images_alone_and_the_same_way_in_slices() -> None:
    double = Device(dtype=torch.float64)
    plain = source(double)
    augment = Augment(flip=True, shift=1, rotation=20.0, colour=0.3, resized_crop=0.5)
    changed = source(double, augment=augment)
    protocol = Protocol(2, 1, 2)
    assert same(
        plain.episodes("test", protocol, range(4), 0), changed.episodes("test", protocol, range(4), 0)
    )
    whole = changed.episodes("train", protocol, range(8), 0)
    assert not torch.allclose(whole.support.x, plain.episodes("train", protocol, range(8), 0).support.x)
    half = changed.episodes("train", protocol, range(4, 8), 0)
    assert torch.allclose(half.support.x, whole.support.x[4:], rtol=0, atol=1e-14)
    assert torch.allclose(half.query.x, whole.query.x[4:], rtol=0, atol=1e-14)


def test_flips_and_shifts_are_exact() -> None:
    x = torch.arange(1.0, 17.0).view(1, 1, 4, 4).repeat(200, 1, 1, 1)
    noise = np.arange(200, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    flipped = Augment(flip=True)(x, noise)
    mirrored = (flipped == x.flip(-1)).all(-1).all(-1).ravel()
    assert ((flipped == x).all(-1).all(-1).ravel() | mirrored).all()
    assert 60 < int(mirrored.sum()) < 140
    padded = torch.nn.functional.pad(x[:1], (1, 1, 1, 1))[0, 0]
    crops = {tuple(padded[r : r + 4, c : c + 4].ravel().tolist()) for r in range(3) for c in range(3)}
    assert {tuple(crop.ravel().tolist()) for crop in Augment(shift=1)(x, noise)} == crops


def test_a_quarter_turn_of_rotation_keeps_its_angle() -> None:
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 7] = 1.0  # right of the middle
    for stream in range(40):
        turned = Augment(rotation=45.0)(x, np.array([stream], np.uint64))[0, 0]
        row, column = np.unravel_index(int(turned.argmax()), (9, 9))
        assert 2.0 <= np.hypot(row - 4, column - 4) <= 4.0
        assert column > 4


def test_colours_change_by_factors_of_pixels_before_they_were_normalised() -> None:
    pixels = torch.linspace(0.2, 0.5, 3 * 16, dtype=torch.float64).view(1, 3, 4, 4).repeat(100, 1, 1, 1)
    noise = np.arange(100, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    centre, scale = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (mean, std))

    changed = Augment(colour=0.4)((pixels - centre) / scale, noise, mean, std) * scale + centre

    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)
    grey, grey_before = (weights * changed).sum(1), (weights * pixels).sum(1)
    brightness = grey.mean((1, 2)) / grey_before.mean((1, 2))
    assert 0.6 <= float(brightness.min()) < 0.65
    assert 1.35 < float(brightness.max()) <= 1.4
    contrast = grey.std((1, 2)) / grey_before.std((1, 2)) / brightness
    assert 0.6 - 1e-9 <= float(contrast.min()) < float(contrast.max()) <= 1.4 + 1e-9
    black = Augment(colour=0.4)(torch.zeros(100, 1, 4, 4), noise)
    assert float(black.abs().max()) == 0


def test_a_random_crop_is_a_part_of_the_image_at_its_size() -> None:
    row, column = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    x = torch.stack([row, column])[None].repeat(300, 1, 1, 1)
    noise = np.arange(300, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)

    crops = Augment(resized_crop=0.25)(x, noise)[:, :, 1:-1, 1:-1]  # corners mix with the padding

    high, wide = (crops[:, 0, -1, 0] - crops[:, 0, 0, 0]) / 29, (crops[:, 1, 0, -1] - crops[:, 1, 0, 0]) / 29
    assert 0.24 < float((high * wide).min()) < 0.35
    assert 0.8 < float((high * wide).max()) <= 1.0
    assert 0.74 < float((high / wide).min()) < float((high / wide).max()) < 1.35
    assert torch.allclose(crops[:, 0, :, 0], crops[:, 0, :, -1])  # neither turned nor bent
    assert len(set(crops[:, 1, 0, 0].tolist())) > 250


def test_a_map_that_does_not_fit_stays_a_map_with_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path))
    images = random_images(sum(COUNTS))
    mapped = cached("demo", images.shape, lambda out: np.copyto(out, images))
    index = {"train": ClassIndex.of_counts([f"a{n}" for n in range(len(COUNTS))], COUNTS)}
    resident = TensorSource("demo", mapped, index, Device())  # type: ignore[arg-type]
    monkeypatch.setattr(table, "MEMORY_FRACTION", 0.0)
    with caplog.at_level(logging.WARNING, "metabench.data"):
        left = TensorSource("demo", mapped, index, Device())  # type: ignore[arg-type]
    assert "does not fit in memory" in caplog.text
    protocol = Protocol(5, 1, 5)
    assert same(
        left.episodes("train", protocol, range(9), 0), resident.episodes("train", protocol, range(9), 0)
    )


def test_an_array_in_memory_is_not_copied() -> None:
    images = random_images(sum(COUNTS))
    index = ClassIndex.of_counts([f"a{n}" for n in range(len(COUNTS))], COUNTS)
    assert TensorSource("demo", images, {"train": index}, Device()).examples.data_ptr() == images.ctypes.data
