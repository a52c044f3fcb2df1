"""What data sets of sentences share: hashed n-grams as features, and a source of tasks of them."""

from __future__ import annotations

import re
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from metabench import DataError, Source, Split, setting
from metabench.data import ClassIndex, FilesDataset, cached, fingerprint_of

if TYPE_CHECKING:
    from metabench.device import Device

CHARACTERS = (3, 4, 5)
"""Lengths of the n-grams of characters within a word, whose ends are marked."""
RULE = "1"
"""Changes with whatever changes the features of a sentence."""


@dataclass(frozen=True, kw_only=True)
class SentencesDataset(FilesDataset):
    """Sentences in files, each a bag of hashed n-grams; write the four abstract methods."""

    width: int = setting(1024, "buckets that n-grams are hashed to: the length of an input", at_least=16)

    @abstractmethod
    def names(self) -> Mapping[Split, Mapping[str, str]]:
        """Return the classes of each split, and what each comes from ("" where nothing is known of it)."""

    @abstractmethod
    def sentences(self) -> Mapping[str, Sequence[str]]:
        """Return the sentences of each class; raises DataError where the files cannot be read."""

    def load(self, device: Device) -> Source:
        """Hash the sentences, or read the cache of an earlier call; raises DataError if a class is absent."""
        from metabench.data import TensorSource

        by_class, names = self.sentences(), self.names()
        splits: dict[Split, ClassIndex] = {}
        rows: list[str] = []
        for split, groups in names.items():
            absent = [name for name in groups if not by_class.get(name)]
            if absent:
                raise DataError(f"{self.name}: {len(absent)} classes are absent, such as {absent[0]!r}")
            counts = [len(by_class[name]) for name in groups]
            index = ClassIndex.of_counts(list(groups), counts, len(rows))
            splits[split] = replace(index, groups=tuple(groups.values()) if any(groups.values()) else ())
            rows += [sentence for name in groups for sentence in by_class[name]]
        features = cached(
            f"{self.name}-{fingerprint_of(self.files(), RULE, self.width, list(names.values()))}",
            (len(rows), self.width),
            lambda out: hash_all(rows, out),
            dtype=np.float32,
        )
        return TensorSource(self.name, features, splits, device)


def hash_all(sentences: Sequence[str], out: np.ndarray[Any, Any]) -> None:
    """Write the features of sentences into [sentences, width]: signed counts of norm √width.

    K. Weinberger et al.: Feature Hashing for Large Scale Multitask Learning, ICML 2009: an n-gram's CRC-32
    gives its bucket and the sign it counts with. A mean square of 1 is what networks expect of an input.
    """
    width = out.shape[1]
    for row, sentence in zip(out, sentences, strict=True):
        hashes = np.fromiter((zlib.crc32(gram.encode()) for gram in n_grams(sentence)), np.uint32)
        signs = 1.0 - 2.0 * (hashes >> 31)
        row[:] = np.bincount((hashes & 0x7FFFFFFF) % width, signs, width)
        row *= np.sqrt(width) / max(float(np.linalg.norm(row)), 1e-12)


def n_grams(sentence: str) -> Iterator[str]:
    """Yield a sentence's words, its pairs of neighbouring words, and pieces of its words, in lower case."""
    words = re.findall(r"\w+(?:'\w+)?|[^\w\s]", sentence.lower())
    yield from words
    yield from map(" ".join, pairwise(words))
    for word in words:
        marked = f"<{word}>"
        for size in CHARACTERS:
            yield from (f"#{marked[at : at + size]}" for at in range(len(marked) - size + 1))
