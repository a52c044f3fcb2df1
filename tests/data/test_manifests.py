"""Manifests: written, read back, and turned into the same tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metabench import DataError, Protocol, Spec, Split
from metabench.data import ClassIndex, TensorSource
from metabench.data.manifests import Manifest, make_manifest, read_manifest, task_classes
from metabench.data.shapes import shape_of
from metabench.device import Device
from metabench.records.protocol import VariedProtocol
from metabench_plugins.datasets.blobs import Blobs
from metabench_plugins.datasets.sinusoid import Sinusoid

PROTOCOL = Protocol(3, 1, 4)
PROTOCOL_OF_TWO = Protocol(2, 1, 2)
SPEC = Spec("blobs", {"shape": [4]})


def manifest() -> Manifest:
    source = Blobs(shape=(4,), classes=6, held_out=5).load(Device())
    return make_manifest(SPEC, source, "test", PROTOCOL, range(10), 2026)


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    stored = manifest()
    stored.write(tmp_path / "tasks.npz")
    back = read_manifest(tmp_path / "tasks.npz")
    assert len(back) == 10
    assert stored.difference(back) is None
    assert (back.dataset, back.split, back.protocol, back.seed) == (SPEC, "test", PROTOCOL, 2026)


def test_others_can_find_the_images_by_class_and_number(tmp_path: Path) -> None:
    manifest().write(tmp_path / "tasks.npz")
    back = read_manifest(tmp_path / "tasks.npz")
    for task in range(10):
        for place, image in enumerate(back.arrays["query"][task]):
            stored = back.classes[back.arrays["classes"][task, place % 3]]
            assert 0 <= image - stored["first"] < stored["count"]


def test_tasks_of_a_file_are_the_tasks_that_were_drawn(tmp_path: Path) -> None:
    source = Blobs(shape=(4,), classes=6, held_out=5).load(Device())
    manifest().write(tmp_path / "tasks.npz")
    replayed = read_manifest(tmp_path / "tasks.npz").episodes(source, range(2, 7))
    drawn = source.episodes("test", PROTOCOL, range(2, 7), 2026)
    assert torch.equal(replayed.support.x, drawn.support.x)
    assert torch.equal(replayed.query.x, drawn.query.x)
    assert torch.equal(replayed.query.y, drawn.query.y)
    assert torch.equal(replayed.index, drawn.index)


@pytest.mark.parametrize("sampling", ["uniform", "uneven", "meta-dataset"])
def test_tasks_of_different_shapes_are_those_that_were_drawn(sampling: str, tmp_path: Path) -> None:
    source = Blobs(shape=(4,), classes=6, held_out=5, images=20).load(Device())
    varied = VariedProtocol(5, 4, 3, least_ways=2, least_shots=1, least_queries=2, sampling=sampling)
    stored = make_manifest(SPEC, source, "test", varied, range(12), 2026)
    stored.write(tmp_path / "tasks.npz")

    back = read_manifest(tmp_path / "tasks.npz")

    assert stored.difference(back) is None
    for task in range(12):
        shape = shape_of(source, "test", varied, task, 2026)
        drawn = source.episodes("test", shape, [task], 2026)
        replayed = back.episodes(source, range(task, task + 1))
        for part, other in ((drawn.support, replayed.support), (drawn.query, replayed.query)):
            assert torch.equal(part.x, other.x)
            assert torch.equal(part.y, other.y)
    with pytest.raises(DataError, match="differ in shape"):
        back.episodes(source)


def test_another_data_set_is_refused() -> None:
    other = Blobs(shape=(4,), classes=6, held_out=7).load(Device())
    with pytest.raises(DataError, match="are not the manifest's"):
        manifest().episodes(other)


def test_other_tasks_are_told() -> None:
    original = manifest()
    arrays = {**original.arrays, "query": np.roll(original.arrays["query"], 1)}
    other = Manifest(
        original.dataset, original.split, original.protocol, original.seed, original.classes, arrays
    )
    assert original.difference(other) == "the array 'query' differs"


def test_regression_tasks_are_told_by_their_numbers(tmp_path: Path) -> None:
    protocol = Protocol(1, 5, 5)
    stored = make_manifest(Spec("sinusoid"), Sinusoid().load(Device()), "test", protocol, range(4), 1)
    stored.write(tmp_path / "waves.npz")
    assert stored.difference(read_manifest(tmp_path / "waves.npz")) is None
    with pytest.raises(DataError, match="draw its tasks by number"):
        stored.episodes(Sinusoid().load(Device()))


DIGESTS = """
from metabench import Evaluation, Protocol
from metabench.device import Device
from metabench.worker.cell_run import manifest_digest
from metabench_plugins.datasets.blobs import Blobs
from metabench_plugins.datasets.glyphs import Glyphs
from metabench_plugins.datasets.harmonics import Harmonics
from metabench_plugins.datasets.sinusoid import Sinusoid
for dataset, ways in ((Blobs(), 5), (Glyphs(), 5), (Harmonics(), 1), (Sinusoid(), 1)):
    source = dataset.load(Device())
    print(dataset.name, manifest_digest(source, "test", Protocol(ways, 3, 7), Evaluation(500, seed=2026)))
"""


def test_manifests_do_not_depend_on_the_instructions_of_the_processor() -> None:
    vectors = np.show_config("dicts")["SIMD Extensions"].get("found", [])  # type: ignore[call-overload]  # numpy types no mode
    lowered = {
        "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE",
        "OMP_NUM_THREADS": "2", "NPY_DISABLE_CPU_FEATURES": " ".join(vectors),
    }  # fmt: skip
    here, there = (
        subprocess.run(
            [sys.executable, "-c", DIGESTS], check=True, capture_output=True, text=True, env=os.environ | more
        ).stdout
        for more in ({}, lowered)
    )

    assert len(here.splitlines()) == 4
    assert here == there


def lettered(groups: tuple[str, ...] = ()) -> TensorSource:
    """Six classes of four images in each split, every one in four turns."""
    splits: dict[Split, ClassIndex] = {}
    for number, split in enumerate(("train", "test")):
        names = [f"{split}{letter}" for letter in "abcdef"]
        index = ClassIndex.of_counts(names, [4] * 6, 24 * number)
        splits[split] = replace(index, groups=groups).rotated()  # type: ignore[index]  # a tuple of literals
    return TensorSource("lettered", np.zeros((48, 1, 2, 2), dtype=np.uint8), splits, Device())


def test_turns_of_one_drawing_are_one_class_to_redraw_and_have_its_group() -> None:
    source = lettered(groups=("x", "x", "y", "y", "z", "z"))
    drawn = source.manifest("test", PROTOCOL_OF_TWO, range(30), 2026)["classes"]

    recorded = task_classes(source, "test", PROTOCOL_OF_TWO, 30, 2026)

    assert recorded is not None
    assert recorded.tasks(30) == (drawn % 6).tolist()  # the 24 classes are 6 drawings, turn by turn
    assert recorded.groups_of_units(6) == [0, 0, 1, 1, 2, 2]
    ungrouped = task_classes(lettered(), "test", PROTOCOL_OF_TWO, 30, 2026)
    assert ungrouped is not None
    assert ungrouped.groups == ""


def test_classes_of_tasks_of_many_shapes_are_in_the_order_of_the_tasks() -> None:
    varied = VariedProtocol(4, 2, 1, least_ways=2)

    recorded = task_classes(lettered(), "test", varied, 20, 2026)

    assert recorded is not None
    for index, units in enumerate(recorded.tasks(20)):
        shape = shape_of(lettered(), "test", varied, index, 2026)
        drawn = lettered().manifest("test", shape, [index], 2026)["classes"][0]
        assert units == (drawn % 6).tolist()


def test_tasks_of_regression_have_no_classes_to_redraw() -> None:
    source = Sinusoid().load(Device())

    assert task_classes(source, "test", Protocol(1, 3, 4), 10, 2026) is None


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    (tmp_path / "text.npz").write_text("no zip")
    for name in ("other.npz", "text.npz", "absent.npz"):
        with pytest.raises(DataError, match=f"{name} is not a manifest"):
            read_manifest(tmp_path / name)
