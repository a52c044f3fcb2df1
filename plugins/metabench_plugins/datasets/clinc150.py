"""CLINC150: sentences to an assistant, of 150 intents in ten domains (Larson et al. 2019)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from metabench import DataError, Facts, Split, setting
from metabench.data import RemoteFile
from metabench_plugins.datasets._sentences import SentencesDataset
from metabench_plugins.datasets._split_lists import read_list

PARTS: Mapping[Split, str] = {"train": "train", "validation": "val", "test": "test"}
"""What upstream calls its parts."""
SENTENCES = 150  # of an intent, over all parts
OUT_OF_SCOPE: Mapping[Split, int] = {"train": 100, "validation": 100, "test": 1000}
"""Sentences of no intent in each part."""


@dataclass(frozen=True, kw_only=True)
class Clinc150(SentencesDataset):
    """150 intents of 150 sentences each, no domain in two splits: 75 intents, 30 and 45.

    S. Larson et al.: An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction, EMNLP 2019
    (CC BY 3.0). Meta-train is car, kitchen, meta, small talk and work; validation home and utility; meta-test
    banking, credit cards and travel. That split is metabench's own: upstream splits the sentences of each
    intent, and its three parts are joined here. Four sentences have two intents, as upstream has them.
    """

    name: ClassVar[str] = "clinc150"
    out_of_scope: bool = setting(False, "one more class in each split: that part's sentences of no intent")

    def files(self) -> Sequence[RemoteFile]:
        """Return the file of all sentences, as upstream's repository has it."""
        place = "clinc/oos-eval"
        return (
            RemoteFile(
                "text/clinc150_data_full.json",
                (
                    f"https://raw.githubusercontent.com/{place}/master/data/data_full.json",
                    f"https://github.com/{place}/raw/master/data/data_full.json",
                ),
                sha256="36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
                size=2495390,
            ),
        )

    def describe(self) -> Facts:
        """Return constants of the package's list of intents."""
        names = self.names()
        most = OUT_OF_SCOPE if self.out_of_scope else dict.fromkeys(OUT_OF_SCOPE, SENTENCES)
        return Facts(
            "classification", (self.width,), None,
            {split: len(classes) for split, classes in names.items()},
            {split: min(SENTENCES, most[split]) for split in names},
            groups={split: _domains(split) for split in names},
        )  # fmt: skip

    def names(self) -> Mapping[Split, Mapping[str, str]]:
        """Return the intents of each split and their domains."""
        names: dict[Split, dict[str, str]] = {}
        for split in PARTS:
            domains = read_list("clinc150.json")[split]
            names[split] = {intent: domain for domain, intents in domains.items() for intent in intents}
            if self.out_of_scope:
                names[split][_no_intent(split)] = "none"
        return names

    def sentences(self) -> Mapping[str, Sequence[str]]:
        """Return the sentences of each intent, upstream's parts one after the other."""
        path = self.files()[0].place
        by_class: dict[str, list[str]] = {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            for split, part in PARTS.items():
                for sentence, intent in content[part]:
                    by_class.setdefault(intent, []).append(sentence)
                by_class[_no_intent(split)] = [sentence for sentence, _ in content[f"oos_{part}"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
        return by_class


def _domains(split: Split) -> tuple[str, ...]:
    return tuple(f"domain:{domain}" for domain in sorted(read_list("clinc150.json")[split]))


def _no_intent(split: Split) -> str:
    """Return the name of a split's class of sentences without an intent; no two splits share a class."""
    return f"out-of-scope-{split}"
