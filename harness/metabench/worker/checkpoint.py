"""Checkpoints: what a cell goes on from after an interruption, as if there had been none.

A checkpoint is one file of safetensors, <results>/<suite>-v<version>/checkpoints/<cell id>.safetensors: the
learned state, the best one by validation and the state of training as tensors, the rest as JSON in its
metadata. Rank 0 writes it by atomic rename, and every rank reads it. All draws are functions of the step's
number, so nothing random is part of it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from metabench.errors import StoreError
from metabench.records.files import write_bytes
from metabench.records.result import Training, training_from_json
from metabench.results.states import pack, read_state_bytes, unpack, unpack_metadata
from metabench.worker.nested import join, take_apart

SHARE = 0.01
"""The largest fraction of the time between two checkpoints that writing one may take."""
SAVE_SECONDS = 2.0
"""How long a worker that is asked to end waits for a step's update to be whole."""


@dataclass(frozen=True)
class Checkpoint:
    """A cell after some steps of training, or (`trained`) after its end.

    energy, training_energy: joules by meter so far, of the whole cell and of training; training_state: that
    of the learner, empty once it is trained; choices: the execution paths that were chosen in the first run.
    """

    training: Training
    state: Mapping[str, Tensor]
    best_state: Mapping[str, Tensor] | None = None
    training_state: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = False
    energy: Mapping[str, float] = field(default_factory=dict)
    training_energy: Mapping[str, float] = field(default_factory=dict)
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def to_bytes(self, made_by: Mapping[str, str]) -> bytes:
        """Return the file's content; made_by: what must be the same for a cell to go on from it, by name."""
        tensors = {f"state.{name}": tensor for name, tensor in self.state.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (self.best_state or {}).items()}
        document = {
            "made_by": dict(made_by),
            "training": asdict(self.training),
            "training_state": take_apart(self.training_state, tensors, "training."),
            "best": self.best_state is not None,
            "trained": self.trained,
            "energy": dict(self.energy),
            "training_energy": dict(self.training_energy),
            "choices": {name: dict(choice) for name, choice in self.choices.items()},
        }
        return pack(tensors, {"checkpoint": json.dumps(document)})

    @classmethod
    def from_bytes(cls, content: bytes) -> tuple[Checkpoint, dict[str, str]]:
        """Return the checkpoint, and what it was made by; raises StoreError on anything else."""
        tensors = unpack(content)
        try:
            document = json.loads(unpack_metadata(content)["checkpoint"])
            best = _with_prefix(tensors, "best.") if document["best"] else None
            checkpoint = cls(
                training=training_from_json(document["training"]),
                state=_with_prefix(tensors, "state."),
                best_state=best,
                training_state=join(document["training_state"], tensors),
                trained=bool(document["trained"]),
                energy=document["energy"],
                training_energy=document["training_energy"],
                choices=document["choices"],
            )
            return checkpoint, dict(document["made_by"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"it holds no checkpoint: {error!r}") from error


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}


class CheckpointFile:
    """The checkpoint of one cell on disk, and when the next one is due.

    made_by: digests and names by what they are of ("cell", "code", "torch", …); seconds: between two
    checkpoints, 0 for one after every block.
    """

    def __init__(self, path: Path, made_by: Mapping[str, str], seconds: float) -> None:
        self.path, self.made_by, self.seconds = path, dict(made_by), seconds
        self.written = False
        self.problem = ""  # why the last one could not be written
        self.cost_seconds = 0.0  # of the last one
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for the next one; writing takes at most `SHARE` of the time between two."""
        elapsed = time.monotonic() - self._last
        return elapsed >= (max(self.seconds, self.cost_seconds / SHARE) if self.seconds else 0.0)

    def write(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint in the place of the one before; where that fails, `problem` says why.

        The one before then stays: nothing that the cell gives depends on a checkpoint.
        """
        started, self.problem = time.monotonic(), ""
        try:
            write_bytes(self.path, checkpoint.to_bytes(self.made_by))
            self.written = True
        except StoreError as error:
            self.problem = str(error)
        self._last = time.monotonic()
        self.cost_seconds = self._last - started

    def read(self, any_maker: bool = False) -> tuple[Checkpoint | None, str]:
        """Return the checkpoint to go on from; else None, and why the one that is there is of no use.

        any_maker: do not ask what it was made by, which rank 0 has done.
        """
        self._remove_parts()
        if not self.path.exists():
            return None, ""
        try:
            checkpoint, made_by = Checkpoint.from_bytes(read_state_bytes(self.path))
        except StoreError as error:
            return None, f"its checkpoint cannot be read: {error}"
        other = [
            f"{name} {made_by.get(name, 'unknown'):.40} (now {value:.40})"
            for name, value in self.made_by.items()
            if made_by.get(name) != value and not any_maker
        ]
        if other:
            return None, f"its checkpoint was made by other {', '.join(other)}"
        self.written = True
        return checkpoint, ""

    def _remove_parts(self) -> None:
        """Remove what a worker that was killed while it wrote left behind."""
        for part in self.path.parent.glob(f".{self.path.name}.*.part"):
            with suppress(OSError):
                part.unlink()


class Guard:
    """Keeps a checkpoint from seeing half a change: hold it while the learner or the records change."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the guard."""
        with self._lock:
            yield

    @contextmanager
    def still(self, seconds: float = SAVE_SECONDS) -> Iterator[bool]:
        """Hold the guard from another thread; False where a change takes longer than this."""
        held = self._lock.acquire(timeout=seconds)
        try:
            yield held
        finally:
            if held:
                self._lock.release()
