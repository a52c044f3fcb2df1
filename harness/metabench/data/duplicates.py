"""Find images of two splits that are equal or nearly so: by a perceptual hash, confirmed on the pixels.

The hash is Zauner's ("Implementation and benchmarking of perceptual image hash functions", 2010): an image
is made grey and 32×32, and each of its 8×8 lowest cosine coefficients gives one bit, whether it is above
their median. Hashes at most three bits apart are candidates; a pair counts where the small images correlate
by 0.99 or more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metabench.data.classes import ClassIndex
from metabench.records.cell import Split

SIDE, LOW = 32, 8
BANDS = 4  # of 16 bits: hashes at most three bits apart share a band
ALIKE = 0.99
BLOCK = 2048


class Pair(NamedTuple):
    """Two images of different splits that look alike, by split, class and number."""

    one: tuple[Split, str, int]
    other: tuple[Split, str, int]
    likeness: float


def near_duplicates(images: NDArray[np.uint8], splits: Mapping[Split, ClassIndex]) -> list[Pair]:
    """Return pairs of images in different splits that look alike, the most alike first.

    images: [N, channels, height, width]. Rotated copies and crops are not found.
    """
    rows = {split: _rows(index) for split, index in splits.items()}
    hashes = {split: _hashes(images, numbers) for split, (numbers, _) in rows.items()}
    pairs = []
    for a, b in combinations(splits, 2):
        for left, right in _candidates(hashes[a], hashes[b]):
            rows_a, rows_b = rows[a][0][left], rows[b][0][right]
            alike = _correlation(_small(images[rows_a]), _small(images[rows_b]))
            for place in np.flatnonzero(alike >= ALIKE):
                names = splits[a].names[rows[a][1][left[place]]], splits[b].names[rows[b][1][right[place]]]
                pairs.append(
                    Pair(
                        (a, names[0], int(rows_a[place])),
                        (b, names[1], int(rows_b[place])),
                        float(alike[place]),
                    )
                )
    return sorted(set(pairs), key=lambda pair: (-pair.likeness, pair.one[2], pair.other[2]))


def perceptual_hashes(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return one 64-bit hash of each image [n, channels, height, width]."""
    from scipy import fft

    low = fft.dctn(_small(images), axes=(1, 2))[:, :LOW, :LOW].reshape(len(images), -1)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]


def _rows(index: ClassIndex) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return every image of a split once, and its class; turned classes share images."""
    numbers = np.concatenate([np.arange(f, f + n) for f, n in zip(index.first, index.count, strict=True)])
    classes = np.repeat(np.arange(len(index)), index.count)
    unique, first = np.unique(numbers, return_index=True)
    return unique, classes[first]


def _hashes(images: NDArray[np.uint8], numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    parts = [
        perceptual_hashes(images[numbers[first : first + BLOCK]]) for first in range(0, len(numbers), BLOCK)
    ]
    return np.concatenate(parts)


def _candidates(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> Iterator[tuple[Any, Any]]:
    """Yield places in a and b of hashes at most three bits apart, in blocks; a pair may come repeatedly."""
    for band in range(BANDS):
        key_a, key_b = (((hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)) for hashes in (a, b))
        order = np.argsort(key_a, kind="stable")
        ordered = key_a[order]
        for first in range(0, len(b), BLOCK):
            keys = key_b[first : first + BLOCK]
            low, high = np.searchsorted(ordered, keys, "left"), np.searchsorted(ordered, keys, "right")
            right = np.repeat(np.arange(len(keys)), high - low)
            ends = np.cumsum(high - low)
            left = np.arange(len(right)) - np.repeat(ends - (high - low), high - low) + low[right]
            left, right = order[left], right + first
            near = _bits(a[left] ^ b[right]) < BANDS
            left, right = left[near], right[near]
            for start in range(0, len(left), BLOCK):
                yield left[start : start + BLOCK], right[start : start + BLOCK]


def _bits(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    ones: NDArray[np.int64] = np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(
        1, dtype=np.int64
    )
    return ones


def _small(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return grey images 32×32, means of the pixels under each cell: [n, 32, 32]."""
    import torch
    from torch.nn import functional as F

    grey = torch.from_numpy(np.ascontiguousarray(images)).float().mean(1, keepdim=True)
    small: NDArray[np.float32] = F.adaptive_avg_pool2d(grey, SIDE)[:, 0].numpy()
    return small


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the correlations [n]; 1 also for two images of one even colour."""
    a, b = (x.reshape(len(x), -1) - x.reshape(len(x), -1).mean(1, keepdims=True) for x in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    flat = (np.abs(a).max(1, initial=0) < 1) & (np.abs(b).max(1, initial=0) < 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        alike: NDArray[np.float32] = np.where(flat, 1.0, (a * b).sum(1) / norms)
    return np.nan_to_num(alike)
