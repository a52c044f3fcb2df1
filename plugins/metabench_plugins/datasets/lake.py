"""Lake's one-shot challenge: 20 official tasks on Omniglot's evaluation alphabets (Lake et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metabench import DataError, Facts, Source, setting
from metabench.data import (
    ClassIndex,
    FilesDataset,
    RemoteFile,
    Shape,
    cached,
    decode_all,
    fingerprint_of,
    members,
)
from metabench_plugins.datasets._lake_list import DRAWINGS, RUNS, WAYS, characters, first_row, runs
from metabench_plugins.datasets.omniglot import MIRROR, SIDE, UPSTREAM

if TYPE_CHECKING:
    from metabench.device import Device

ARCHIVE = "one-shot-classification/all_runs.zip"
CYRILLIC = "Old_Church_Slavonic_(Cyrillic)"
"""An alphabet of evaluation for Lake et al., though Cyrillic is one of the background."""


@dataclass(frozen=True, kw_only=True)
class Lake(FilesDataset):
    """Lake's 20 runs: a drawing of each of 20 characters of one alphabet, and another to classify.

    B. Lake, R. Salakhutdinov, J. Tenenbaum: Human-level concept learning through probabilistic program
    induction, Science 2015. Two runs for each of ten alphabets that no background set has; both drawings of
    a character are of other people. All tasks are given, 20-way 1-shot with one query a class; fewer ways
    are the first characters of a run. White on black. Nothing is trained here: name it as a `test_dataset`.
    """

    name: ClassVar[str] = "lake"
    size: int = setting(28, "pixels of a side", at_least=1, at_most=SIDE)

    def files(self) -> Sequence[RemoteFile]:
        """Return the archive of all runs, as Lake et al. publish it."""
        return (
            RemoteFile(
                "omniglot/lake_all_runs.zip",
                (f"{UPSTREAM}/{ARCHIVE}", f"{MIRROR}/{ARCHIVE}"),
                sha256="437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325",
                most=1 << 24,
            ),
        )

    def describe(self) -> Facts:
        """Return constants of the package's list of runs."""
        alphabets = {alphabet for alphabet, _ in runs()}
        scripts = tuple(sorted(f"script:{_script(alphabet)}" for alphabet in alphabets))
        return Facts(
            "classification", (1, self.size, self.size), None, {"test": len(characters())}, {"test": 2},
            groups={"test": scripts}, tasks={"test": RUNS},
        )  # fmt: skip

    def load(self, device: Device) -> Source:
        """Read the archive, or the cache of an earlier reading; raises DataError if a drawing is absent."""
        from metabench_plugins.datasets._lake_runs import LakeRuns

        (archive,) = self.files()
        shape = Shape(self.size, colour=False, invert=True)
        alphabets = tuple(name.partition("/")[0] for name in characters())
        index = replace(ClassIndex.of_counts(characters(), [DRAWINGS] * len(characters())), groups=alphabets)
        images = cached(
            f"{self.name}-{fingerprint_of(self.files(), '1', shape)}",
            (len(index) * DRAWINGS, *shape.input_shape),
            lambda out: _read(archive.place, shape, out),
        )
        return LakeRuns("lake", images, {"test": index}, device)


def _script(alphabet: str) -> str:
    """Return an alphabet's script, by which it is known to be in no data set that is trained on."""
    return "Old_Church_Slavonic" if alphabet == CYRILLIC else alphabet


def _read(archive: Path, shape: Shape, out: np.ndarray[Any, Any]) -> None:
    content = dict(members(archive, max_member_bytes=1 << 20))

    def drawings() -> Iterator[tuple[int, str, bytes]]:
        for run, (_, names) in enumerate(runs()):
            for number, (member, tested) in enumerate(_pairs(content, f"run{run + 1:02d}", archive)):
                row = first_row(run, names[number])
                yield row, f"{archive.name}:{member}", content[member]
                yield row + 1, f"{archive.name}:{tested}", content[tested]

    decode_all(drawings(), shape, out)


def _pairs(content: Mapping[str, bytes], run: str, archive: Path) -> Sequence[tuple[str, str]]:
    """Return the files of a run: of each class the drawing to learn from and the one to classify."""
    labels = content.get(f"{run}/class_labels.txt", b"").decode("ascii", "replace")
    tested = {learned: item for item, learned in (line.split() for line in labels.splitlines() if line)}
    expected = [f"{run}/training/class{number:02d}.png" for number in range(1, WAYS + 1)]
    pairs = [(member, tested.get(member, "")) for member in expected]
    absent = [member for pair in pairs for member in pair if member not in content]
    if absent:
        raise DataError(f"{archive} must hold both drawings of all {WAYS} classes of {run}; fetch it again")
    return pairs
