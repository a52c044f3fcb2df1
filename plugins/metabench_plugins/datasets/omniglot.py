"""Omniglot: 1,623 handwritten characters of 50 alphabets (Lake, Salakhutdinov and Tenenbaum 2015)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from metabench import DataError, Facts, Source, Split, setting
from metabench.data import (
    ClassIndex,
    ImageDataset,
    RemoteFile,
    Shape,
    arrange,
    cached,
    decode,
    decode_all,
    members,
)
from metabench_plugins.datasets._split_lists import read_list

if TYPE_CHECKING:
    import numpy as np

    from metabench.device import Device

DRAWERS = 20
SIDE = 105  # pixels of a drawing
UPSTREAM = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
MIRROR = "https://github.com/brendenlake/omniglot/raw/master/python"
SEVERAL_ALPHABETS = ("Georgian", "Cyrillic", "Canadian_Aboriginal_Syllabics")
"""Scripts that alphabets name in parentheses."""
HELD_OUT = ("Braille", "Futurama", "Gujarati", "Japanese_(hiragana)", "Syriac_(Estrangelo)")
"""Background alphabets that are validation in Lake's split, which itself has no validation part."""


def archive(name: str, content: str, sha256: str = "", md5: str = "") -> RemoteFile:
    """Return an archive of the repository's folder python/; content: see `drawings_digest`."""
    return RemoteFile(
        f"omniglot/{name}", (f"{UPSTREAM}/{name}", f"{MIRROR}/{name}"), sha256, md5, most=1 << 28,
        content=content, content_digest=drawings_digest,
    )  # fmt: skip


def drawings_digest(path: Path) -> str:
    """Return the SHA-256 of an archive's drawings, however they are packed.

    Hashed is, in the order of the names ALPHABET/characterNN/XXXX_YY.png, each name, a zero byte and the
    105×105 grey values of the drawing.
    """
    drawings = {"/".join(parts): content for parts, content in _drawings(path)}
    sha = hashlib.sha256()
    for name in sorted(drawings):
        sha.update(name.encode() + b"\0")
        sha.update(decode(drawings[name], Shape(SIDE, colour=False), f"{path.name}:{name}").tobytes())
    return sha.hexdigest()


def _drawings(path: Path) -> Iterator[tuple[tuple[str, str, str], bytes]]:
    """Yield (alphabet, character, file) and content of each drawing, in whatever folder of the archive."""
    for name, content in members(path, lambda name: name.endswith(".png"), max_member_bytes=1 << 20):
        parts = tuple(name.split("/")[-3:])
        if len(parts) == 3 and not any(part.startswith((".", "__")) for part in name.split("/")):
            yield parts, content


@dataclass(frozen=True, kw_only=True)
class Omniglot(ImageDataset):
    """Handwritten characters, 20 drawings of each, white on black; Vinyals' or Lake's split.

    vinyals: 1,028 + 172 + 423 characters (Vinyals et al. 2016); lake: the background and evaluation
    alphabets of Lake et al. 2015, five background alphabets held out for validation. With rotations,
    turns by 0, 90, 180 and 270 degrees are classes of their own, four of each character.
    """

    name: ClassVar[str] = "omniglot"
    split: str = setting("vinyals", "which characters are in which split", choices=("vinyals", "lake"))
    rotations: bool = setting(True, "four classes of each character, one per quarter turn")
    size: int = setting(28, "pixels of a side", at_least=1, at_most=SIDE)

    def files(self) -> Sequence[RemoteFile]:
        """Return the background and evaluation archives."""
        return (
            archive(
                "images_background.zip",
                "e27f661c2b4c58dc3ba63be439eca7f1f319a9fd5ebaf04d643de8e9a71d2f36",
                md5="68d2efa1b9178cc56df9314c21c6e718",
            ),
            archive(
                "images_evaluation.zip",
                "9fd1ac22895c570282d2eed114b32e8d67a3ed327000a8c990558775c33c4292",
                md5="6b91aef0f799c5bb55b94e3f2daec811",
            ),
        )

    def describe(self) -> Facts:
        """Return constants of the package's split lists."""
        turns = 4 if self.rotations else 1
        return character_facts(self.characters(), self.size, turns)

    def characters(self) -> Mapping[Split, Sequence[str]]:
        """Return the characters of each split, as "alphabet/characterNN"."""
        return vinyals() if self.split == "vinyals" else lake()

    def load(self, device: Device) -> Source:
        """Read the archives, or the cache of an earlier reading; raises DataError if a class is absent."""
        return load_characters(self, self.characters(), f"omniglot-{self.split}", device)


def character_facts(characters: Mapping[Split, Sequence[str]], size: int, turns: int) -> Facts:
    """Return the facts of a split of characters; turns: classes of each. Scripts are its groups."""
    classes: dict[str, int] = {split: turns * len(names) for split, names in characters.items()}
    groups: dict[str, tuple[str, ...]] = {
        split: tuple(sorted({f"script:{_script(name.partition('/')[0])}" for name in names}))
        for split, names in characters.items()
    }
    images = dict.fromkeys(classes, DRAWERS)
    return Facts("classification", (1, size, size), None, classes, images, groups=groups)


def _script(alphabet: str) -> str:
    """Return the script of an alphabet: "Georgian" of "Asomtavruli_(Georgian)"."""
    script = alphabet.partition("(")[2].rstrip(")")
    return script if script in SEVERAL_ALPHABETS else alphabet


def load_characters(
    dataset: Any, characters: Mapping[Split, Sequence[str]], identity: str, device: Device
) -> Source:
    """Return characters of Omniglot's archives as a source; dataset: has files, size, rotations, source."""
    every = sorted(name for names in characters.values() for name in names)
    alphabets = tuple(name.partition("/")[0] for name in every)
    index = replace(ClassIndex.of_counts(every, [DRAWERS] * len(every)), groups=alphabets)
    shape = Shape(dataset.size, colour=False, invert=True)
    images = cached(
        dataset.cache_name("1", shape, every),
        (len(every) * DRAWERS, *shape.input_shape),
        lambda out: _read([file.place for file in dataset.files()], index, shape, out),
    )
    splits: dict[Split, ClassIndex] = {split: index.only(names) for split, names in characters.items()}
    if dataset.rotations:
        splits = {split: index.rotated() for split, index in splits.items()}
        identity += "-rotations"
    source: Source = dataset.source(identity, images, splits, device)
    return source


@cache
def vinyals() -> Mapping[Split, Sequence[str]]:
    """Return the split of Vinyals et al. 2016 (1,028 + 172 + 423 characters)."""
    characters = read_list("omniglot_vinyals.json")["characters"]
    return {
        split: [f"{alphabet}/character{n:02d}" for alphabet, ns in alphabets.items() for n in ns]
        for split, alphabets in characters.items()
    }


@cache
def lake() -> Mapping[Split, Sequence[str]]:
    """Return the background alphabets less five for validation, and the evaluation alphabets."""
    background = set(read_list("omniglot_lake.json")["background"])
    parts: dict[Split, list[str]] = {"train": [], "validation": [], "test": []}
    for name in sorted(name for names in vinyals().values() for name in names):
        alphabet = name.split("/")[0]
        part: Split = "test" if alphabet not in background else "train"
        parts["validation" if alphabet in HELD_OUT else part].append(name)
    return parts


def _read(archives: Sequence[Path], index: ClassIndex, shape: Shape, out: np.ndarray[Any, Any]) -> None:
    wanted = set(index.names)
    labelled: dict[str, str] = {}
    contents: dict[str, bytes] = {}  # 32,460 drawings take 10 MB
    owner: dict[str, Path] = {}  # Greek and Latin are in both small archives
    for path in archives:
        for (alphabet, character, file), content in _drawings(path):
            label = f"{alphabet}/{character}"
            title = f"{path.name}:{label}/{file}"
            if label in wanted and owner.setdefault(label, path) == path:
                labelled[title], contents[title] = label, content
    present, rows = arrange(labelled)
    counts = dict(zip(present.names, present.count, strict=True))
    for name in index.names:
        if counts.get(name, 0) != DRAWERS:
            raise DataError(
                f"the class {name!r} must have {DRAWERS} images, got {counts.get(name, 0)}, in "
                f"{', '.join(str(path) for path in archives)}; fetch them again"
            )

    def files() -> Iterator[tuple[int, str, bytes]]:
        for title, row in rows.items():
            yield row, title, contents[title]

    decode_all(files(), shape, out)
