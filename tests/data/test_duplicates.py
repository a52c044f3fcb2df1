"""Like images in two splits are found, and unlike ones are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metabench.data import ClassIndex
from metabench.data.duplicates import near_duplicates, perceptual_hashes


def random_images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random colour images of 48×48."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 3, 6, 6))
    return np.kron(coarse, np.ones((8, 8))).astype(np.uint8)


def splits() -> dict[str, ClassIndex]:
    return {
        "train": ClassIndex.of_counts(["a", "b"], [50, 50]),
        "test": ClassIndex.of_counts(["c"], [50], 100),
    }


def test_a_copy_in_another_split_is_found() -> None:
    images = random_images(150)
    images[120] = images[60]
    assert [(pair.one, pair.other) for pair in near_duplicates(images, splits())] == [  # type: ignore[arg-type]
        (("train", "b", 60), ("test", "c", 120))
    ]


def test_a_brighter_and_noisy_copy_is_found() -> None:
    images = random_images(150)
    noise = np.random.default_rng(1).normal(5, 3, images[0].shape)
    images[149] = np.clip(images[0] * 0.95 + noise, 0, 255).astype(np.uint8)
    assert [(pair.one[2], pair.other[2]) for pair in near_duplicates(images, splits())] == [(0, 149)]  # type: ignore[arg-type]


def test_copies_inside_a_split_are_no_leak() -> None:
    images = random_images(150)
    images[1], images[110] = images[0], images[111]
    assert near_duplicates(images, splits()) == []  # type: ignore[arg-type]


def test_empty_images_are_alike() -> None:
    images = random_images(150)
    images[3], images[130] = 0, 0
    assert [(pair.one[2], pair.other[2]) for pair in near_duplicates(images, splits())] == [(3, 130)]  # type: ignore[arg-type]


def test_hashes_of_like_images_are_near_and_of_others_far() -> None:
    images = random_images(40)
    changed = np.clip(images + np.random.default_rng(2).normal(0, 4, images.shape), 0, 255).astype(np.uint8)
    bits = np.unpackbits(
        (perceptual_hashes(images) ^ perceptual_hashes(changed)).view(np.uint8).reshape(-1, 8), axis=1
    )
    other = np.unpackbits(
        (perceptual_hashes(images) ^ perceptual_hashes(random_images(40, 9))).view(np.uint8).reshape(-1, 8),
        axis=1,
    )
    assert bits.sum(1).mean() < 3
    assert 25 < other.sum(1).mean() < 39
