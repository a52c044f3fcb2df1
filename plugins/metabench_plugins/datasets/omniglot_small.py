"""A small part of Omniglot, made of the repository's own two small archives of 3 MB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from metabench import Facts, Source, Split, setting
from metabench.data import ImageDataset, RemoteFile
from metabench_plugins.datasets.omniglot import archive, character_facts, load_characters, vinyals

if TYPE_CHECKING:
    from metabench.device import Device

ALPHABETS: dict[Split, tuple[str, ...]] = {
    "train": ("Balinese", "Greek", "Korean", "Latin"),
    "validation": ("Early_Aramaic",),
    "test": ("Japanese_(katakana)", "Sanskrit", "Tagalog"),
}


@dataclass(frozen=True, kw_only=True)
class OmniglotSmall(ImageDataset):
    """Omniglot's small archives: 114 + 22 + 106 handwritten characters, no alphabet in two splits.

    Meta-train is Balinese, Greek, Korean and Latin, validation Early Aramaic, meta-test Japanese,
    Sanskrit and Tagalog. 20 drawings of each character, white on black.
    """

    name: ClassVar[str] = "omniglot-small"
    rotations: bool = setting(False, "four classes of each character, one per quarter turn")
    size: int = setting(28, "pixels of a side", at_least=1, at_most=105)

    def files(self) -> Sequence[RemoteFile]:
        """Return the archives "background small 1" and "background small 2"."""
        return (
            archive(
                "images_background_small1.zip",
                "4b6cf4ede34764fdd5d634752b30a41a3d520e06b36b7903ed810069a4961564",
                sha256="f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
            ),
            archive(
                "images_background_small2.zip",
                "a502e42ec39eaa5e1f0fb0635aaf2a6903981300f63294cd6d5680119331a355",
                sha256="3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
            ),
        )

    def describe(self) -> Facts:
        """Return constants of the package."""
        turns = 4 if self.rotations else 1
        return character_facts(characters(), self.size, turns)

    def load(self, device: Device) -> Source:
        """Read the archives, or the cache of an earlier reading; raises DataError if a class is absent."""
        return load_characters(self, characters(), "omniglot-small", device)


@cache
def characters() -> Mapping[Split, Sequence[str]]:
    """Return the characters of each split, as "alphabet/characterNN"."""
    every = sorted(name for names in vinyals().values() for name in names)
    return {
        split: [name for name in every if name.split("/")[0] in alphabets]
        for split, alphabets in ALPHABETS.items()
    }
