"""Draws by counter: the n-th draw of task i is a function of (key, i, n), on every machine and version.

The numbers come from SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014). With `mix` its finaliser and G = 0x9E3779B97F4A7C15, all modulo 2**64:

    stream(key, i)   = mix(key + G·(i + 1))           the stream of task i
    word(stream, n)  = mix(stream + G·(n + 1))        its n-th word, n = 0, 1, …

No generator object is advanced, so `range(0, 32)` and any slices of it give the same tasks, and every
function is vectorised over streams. The tests keep a golden digest of each function.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Numbers = NDArray[np.int64]

_G = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32, _11 = (np.uint64(n) for n in (30, 27, 31, 32, 11))
_ROUNDS = 1000  # of redraws; each succeeds with probability ≥ 1/3, so this many never happen


@lru_cache(maxsize=4096)
def key(*parts: str | int) -> int:
    """Return a 64-bit key of these names and numbers: the first 8 bytes (big-endian) of a SHA-256.

    The hash is of the UTF-8 text of each part, preceded by its length in bytes and a colon.
    """
    texts = [str(part).encode() for part in parts]
    content = b"".join(b"%d:%b" % (len(text), text) for text in texts)
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def streams(key: int, numbers: Sequence[int] | Numbers, parts: int = 1) -> Words:
    """Return one stream for each number, [n]; with `parts` > 1 that many independent streams, [n, parts].

    Part p of number i is the stream of word p of i's own stream.
    """
    if isinstance(numbers, range):
        index = np.arange(numbers.start, numbers.stop, numbers.step).astype(np.uint64)
    else:
        index = np.asarray(numbers, dtype=np.uint64).reshape(-1)
    base = _mix((index + np.uint64(1)) * _G + np.uint64(key))
    return base if parts == 1 else words(base, parts)


def words(streams: Words, count: int, first: int = 0) -> Words:
    """Return words number `first` to `first + count - 1` of each stream: [*streams, count]."""
    return _mix(streams[..., None] + _steps(count, first))


@lru_cache(maxsize=256)
def _steps(count: int, first: int) -> Words:
    steps = np.arange(first + 1, first + count + 1, dtype=np.uint64) * _G
    steps.flags.writeable = False
    return steps


def uniform(streams: Words, count: int, low: float = 0.0, high: float = 1.0, first: int = 0) -> Any:
    """Return float64 in [low, high) with 53 random bits: [*streams, count]."""
    return (words(streams, count, first) >> _11).astype(np.float64) * (2.0**-53 * (high - low)) + low


def normal(streams: Words, count: int, first: int = 0) -> Any:
    """Return standard normal float64 (Box and Muller 1958, the cosine half): [*streams, count].

    Draw n uses words 2n and 2n + 1. Logarithm and cosine may differ in their last bit between machines.
    """
    pair = uniform(streams, 2 * count, first=2 * first)
    return np.sqrt(-2.0 * np.log1p(-pair[..., 0::2])) * np.cos(2.0 * np.pi * pair[..., 1::2])


def below(words: Words, bound: Any) -> Numbers:
    """Return integers in [0, bound), the high half of (upper 32 bits × bound); bias under bound / 2**32."""
    return (((words >> _32) * np.asarray(bound, dtype=np.uint64)) >> _32).astype(np.int64)


def distinct(streams: Words, count: int, bound: int) -> Numbers:
    """Return `count` different integers in [0, bound) in random order, per stream: [*streams, count]."""
    bounds = np.full(streams.shape, bound, dtype=np.int64)
    return distinct_within(streams, count, bounds, bound, bound)


def distinct_within(streams: Words, count: int, bounds: Numbers, least: int, most: int) -> Numbers:
    """Return `distinct` with a bound for each stream; least, most: the extremes over all possible bounds.

    Where count·(count - 1) ≤ 2·least, a row is drawn and redrawn until it holds no number twice (each try
    succeeds with a third or more); else the row is the order of one random word per candidate. The rule
    depends on `least` and not on the bounds given, so that any slice of tasks is drawn the same way.
    """
    if count > least:
        raise ValueError(f"count must be at most {least}, got {count}")
    if count * (count - 1) > 2 * least:
        return _ordered(streams, count, bounds, most)
    flat, limits = streams.reshape(-1), bounds.reshape(-1, 1)
    drawn = below(words(flat, count), limits)
    repeated = np.flatnonzero(_repeats(drawn))
    for turn in range(1, _ROUNDS):
        if repeated.size == 0:
            return drawn.reshape(*streams.shape, count)
        again = below(words(flat[repeated], count, turn * count), limits[repeated])
        drawn[repeated] = again
        repeated = repeated[_repeats(again)]
    raise AssertionError("redrawing did not end; streams must be SplitMix64 words")


def _repeats(drawn: Numbers) -> NDArray[np.bool_]:
    """Return which rows hold a number twice."""
    if drawn.shape[1] == 2:
        return drawn[:, 0] == drawn[:, 1]  # type: ignore[no-any-return]
    ordered = np.sort(drawn, axis=1)
    return (ordered[:, 1:] == ordered[:, :-1]).any(1)  # type: ignore[no-any-return]


def permuted(key: int, positions: Numbers, size: int) -> Numbers:
    """Return the numbers at these places of an endless series of new shuffles of range(size).

    A shuffle is a Feistel network of 6 rounds over the next power of four, followed again while the
    number is too large (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002), so any
    place is reached without computing the places before it.
    """
    positions = np.asarray(positions, dtype=np.int64)
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    epoch = streams(key, positions.reshape(-1) // size)
    value = (positions.reshape(-1) % size).astype(np.uint64)
    pending = np.ones(value.shape, dtype=bool)
    while pending.any():
        left, right, seed = value[pending] >> half, value[pending] & mask, epoch[pending]
        for turn in range(6):
            tag = np.uint64(turn) << np.uint64(58)
            left, right = right, left ^ (_mix(seed + _G * (right + np.uint64(1)) ^ tag) & mask)
        value[pending] = (left << half) | right
        pending = value >= np.uint64(size)
    return value.astype(np.int64).reshape(positions.shape)


def _ordered(streams: Words, count: int, bounds: Numbers, most: int) -> Numbers:
    drawn = words(streams, most)
    absent = np.arange(most) >= bounds[..., None]
    if absent.any():
        drawn[absent] = np.uint64(2**64 - 1)
    return np.argsort(drawn, axis=-1, kind="stable")[..., :count].astype(np.int64)


def _mix(z: Words) -> Words:
    z = z ^ (z >> _30)  # a new array, which the rest changes in place
    z *= _M1
    z ^= z >> _27
    z *= _M2
    z ^= z >> _31
    return z
