"""What a pull request changes in a results repository: two copies of it, before and after."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metabench.folders import file_digest
from metabench.publishing.sign import signed_by
from metabench.publishing.verify import PARTIAL
from metabench.results.cache import REPRODUCED, TRIALS
from metabench.results.signatures import ALLOWED_SIGNERS, SUMS, SUMS_SIGNATURE, can_check
from metabench.results.withdrawn import NAME as WITHDRAWN

RESULTS = "results"
MADE_ANEW = ("README.md", PARTIAL, SUMS, SUMS_SIGNATURE)
"""Files of a results folder that publishing writes anew."""


@dataclass(frozen=True)
class Submission:
    """A results repository as it is (`base`) and as a pull request would leave it (`head`).

    added, changed, removed: paths within the repository, with slashes.
    """

    base: Path
    head: Path
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    @classmethod
    def between(cls, base: Path, head: Path) -> Submission:
        """Return what differs between two copies of a repository; their `.git` and links are not followed."""
        before, after = dict(_contents(base)), dict(_contents(head))
        return cls(
            base.absolute(),
            head.absolute(),
            tuple(sorted(after.keys() - before.keys())),
            tuple(sorted(name for name in before.keys() & after.keys() if before[name] != after[name])),
            tuple(sorted(before.keys() - after.keys())),
        )

    @property
    def results(self) -> Path:
        """The folder of results as the pull request would leave it."""
        return self.head / RESULTS

    @property
    def signers(self) -> Path:
        """The keys that the repository knows, before anything that the pull request changes."""
        return self.base / RESULTS / ALLOWED_SIGNERS

    @property
    def rows(self) -> list[Path]:
        """The new files of results, as far as their names and places tell."""
        parts = [name.split("/") for name in self.added]
        return [
            self.head.joinpath(*part)
            for part in parts
            if len(part) == 4 and part[0] == RESULTS and part[3].endswith(".json") and part[2] != REPRODUCED
        ]

    def violations(self) -> Iterator[str]:
        """Yield what no pull request may do: published results and signatures stay."""
        for name in (*self.changed, *self.removed):
            path = name.split("/")
            if path[0] != RESULTS or len(path) < 4 or path[-1] in (*MADE_ANEW, WITHDRAWN):
                continue
            yield f"{name} is {'removed' if name in self.removed else 'changed'}: published results stay"
        for name in (*self.changed, *self.removed):
            folder = Path(name).parent
            if Path(name).name in (SUMS, SUMS_SIGNATURE):
                before, after = (signed_by(place / folder, self.signers) for place in (self.base, self.head))
                if before and before != after:
                    yield f"{folder.as_posix()} was signed by {before}, now by {after or 'nobody'}"

        for name in self.added:
            state = _STATE.fullmatch(name)
            if state and self._digest(name) != state[1]:
                yield f"{name} is not the state that its name says"

    def _digest(self, name: str) -> str:
        path = self.head / name
        return file_digest(path) if path.is_file() and not path.is_symlink() else ""

    def for_a_person(self) -> Iterator[str]:
        """Yield the changes that only a person can judge: all but results and what follows from them."""
        if not can_check():
            yield "signatures could not be checked: ssh-keygen is not installed"
        for name in (*self.added, *self.changed, *self.removed):
            if not _OF_RESULTS.fullmatch(name):
                yield f"{name} is changed: a maintainer has to read it"
            elif name.endswith(f"/{SUMS}") and name in self.added and (self.base / name).parent.is_dir():
                yield f"{name} signs results that were published unsigned"


_STATE = re.compile(r".+/states/([0-9a-f]{64})\.safetensors")
_OF_RESULTS = re.compile(
    rf"{RESULTS}/(README\.md|[^/]+/[^/]+/({PARTIAL}|{SUMS}(\.sig)?|[^/]+\.json"
    rf"|states/[0-9a-f]{{64}}\.safetensors|{TRIALS}/[^/]+\.json|{REPRODUCED}/[^/]+/[^/]+\.json(\.sig)?))"
)
"""The files that a submission of results consists of."""


def _contents(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the path of every file within a folder, and what its content is."""
    for place, folders, files in os.walk(folder):
        if Path(place) == folder:
            folders[:] = [name for name in folders if name != ".git"]
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*files, *links):
            path = Path(place, name)
            if path.is_symlink():
                content = f"link to {os.readlink(path)}"
            else:
                content = file_digest(path) if path.is_file() else "no regular file"
            yield path.relative_to(folder).as_posix(), content
