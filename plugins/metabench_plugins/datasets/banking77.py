"""BANKING77: questions of a bank's customers, of 77 intents (Casanueva et al. 2020)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from metabench import DataError, Facts, Split
from metabench.data import RemoteFile
from metabench_plugins.datasets._sentences import SentencesDataset
from metabench_plugins.datasets._split_lists import read_list

FEWEST: Mapping[Split, int] = {"train": 81, "validation": 122, "test": 75}
"""Sentences of the smallest intent of each split."""
DIGESTS = {
    "train": "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
    "test": "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
}


@dataclass(frozen=True, kw_only=True)
class Banking77(SentencesDataset):
    """77 fine intents of one domain: 25 of meta-train, 25 of validation and 27 of meta-test.

    I. Casanueva et al.: Efficient Intent Detection with Dual Sentence Encoders, NLP for Conversational AI
    2020 (CC BY 4.0). The sizes are those of few-shot papers, which draw the intents at random; here they are
    fixed, in the order of the SHA-256 of their names. Upstream's two parts are joined, 13,083 sentences.
    """

    name: ClassVar[str] = "banking77"

    def files(self) -> Sequence[RemoteFile]:
        """Return upstream's two parts."""
        place = "PolyAI-LDN/task-specific-datasets"
        return tuple(
            RemoteFile(
                f"text/banking77_{part}.csv",
                (
                    f"https://raw.githubusercontent.com/{place}/master/banking_data/{part}.csv",
                    f"https://github.com/{place}/raw/master/banking_data/{part}.csv",
                ),
                sha256=digest,
                most=1 << 22,
            )
            for part, digest in DIGESTS.items()
        )

    def describe(self) -> Facts:
        """Return constants of the package's list of intents."""
        domain = ("domain:banking", "domain:credit_cards")  # as clinc150 calls them
        splits = self.names()
        return Facts(
            "classification", (self.width,), None,
            {split: len(classes) for split, classes in splits.items()},
            {split: FEWEST[split] for split in splits},
            groups=dict.fromkeys(splits, domain),
        )  # fmt: skip

    def names(self) -> Mapping[Split, Mapping[str, str]]:
        """Return the intents of each split."""
        return {split: dict.fromkeys(read_list("banking77.json")[split], "") for split in FEWEST}

    def sentences(self) -> Mapping[str, Sequence[str]]:
        """Return the sentences of each intent, upstream's two parts one after the other."""
        by_class: dict[str, list[str]] = {}
        for file in self.files():
            try:
                with file.place.open(encoding="utf-8", newline="") as lines:
                    for row in csv.DictReader(lines):
                        by_class.setdefault(row["category"], []).append(row["text"])
            except (OSError, ValueError, KeyError, csv.Error) as error:
                raise DataError(f"{file.place} cannot be read ({error}); fetch it again") from error
        return by_class
