"""A data set as one tensor on the device: tasks are drawn by number and gathered at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from metabench.contracts import ClassUnits, Episodes, Examples, Source
from metabench.data import draws
from metabench.data.augment import Augment
from metabench.data.buffers import Buffers
from metabench.data.classes import ClassIndex, Drawn, check_disjoint, rows_of_shots
from metabench.data.shapes import draw_shape
from metabench.data.staging import empty_on_host, to_device
from metabench.device.device import Device
from metabench.errors import DataError
from metabench.records.cell import Split
from metabench.records.protocol import Batches, Protocol, UnevenProtocol

MEMORY_FRACTION = 0.5
"""The fraction of the device's free memory that a data set may take; the rest is for the learner."""

AHEAD = 256  # tasks drawn at once when they are asked for in order: the cost hardly depends on their number
BLOCKS_KEPT = 4  # training and validation alternate, and both may need two neighbouring blocks

log = logging.getLogger("metabench.data")


class TensorSource(Source):
    """Draws tasks and labelled batches from one array of examples, the rows of a class side by side.

    identity: names the data set in the key of every draw: with another one, other tasks are drawn;
    examples: [N, *input], uint8 images or floats, an array or a memory map;
    splits: the classes of each split; raises DataError if two splits share a class or an image;
    mean, std: of each channel, in units of the input after uint8 was divided by 255;
    content: a digest of the user's own data, which becomes a part of every manifest.

    Labels of support and of query run 0 … ways - 1, then 0 … ways - 1 again, and so on.
    """

    def __init__(
        self,
        identity: str,
        examples: np.ndarray[Any, Any],
        splits: Mapping[Split, ClassIndex],
        device: Device,
        *,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        augment: Augment | None = None,
        content: str = "",
    ) -> None:
        check_disjoint(splits)
        for split, index in splits.items():
            if len(index) and int((index.first + index.count).max()) > len(examples):
                raise DataError(f"split {split!r} of {identity!r} names images past the last one")
        self.identity = identity
        self.splits = dict(splits)
        self.device = device
        self.augment = augment
        self._moments = tuple(mean), tuple(std)
        self.content = np.frombuffer(bytes.fromhex(content), dtype=np.uint8)
        self.examples = place(examples, device, identity)
        self._normalise = _Normalise(self.examples, mean, std, device)
        on_host = self.device.torch.type == "cpu" and device.dtype in (torch.float32, torch.float64)
        self._buffers = Buffers() if on_host else None
        self._labels: dict[tuple[int, ...], Tensor] = {}
        self._blocks: dict[tuple[Split, int, int], Drawn] = {}

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        """Return the tasks of these numbers; raises Invalid if the split is too small for the protocol."""
        drawn = self.draw(split, protocol, indices, seed)
        augmented = self.augment is not None and split == "train"
        noise = draws.streams(self._key("augment", split, seed), indices) if augmented else None
        return self.gather(split, drawn, indices, noise, _class_shots(protocol))

    def shape(self, split: Split, protocol: Protocol, index: int, seed: int) -> Protocol:
        """Return the protocol of the task of this number."""
        return draw_shape(protocol, split, index, seed, self._index(split).fewest)

    def draw(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Drawn:
        """Return which classes and images these tasks consist of."""
        shape = (protocol.ways, protocol.shots, protocol.queries)  # of the most shots
        key = self._key("tasks", split, *shape, seed)
        if (
            _class_shots(protocol)
            or not isinstance(indices, range)
            or indices.step != 1
            or not 0 < len(indices) <= AHEAD
        ):
            return self._index(split).draw(key, protocol, indices)
        first, start = indices.start // AHEAD, indices.start % AHEAD
        parts = self._ahead(split, protocol, key, first)
        if start + len(indices) > AHEAD:
            second = self._ahead(split, protocol, key, first + 1)
            parts = Drawn(*(np.concatenate(pair) for pair in zip(parts, second, strict=True)))
        return Drawn(*(part[start : start + len(indices)].copy() for part in parts))

    def _ahead(self, split: Split, protocol: Protocol, key: int, block: int) -> Drawn:
        """Return tasks block·AHEAD and on, drawn at once and kept while they are asked for in order."""
        kept = (split, key, block)
        if kept not in self._blocks:
            while len(self._blocks) >= BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
            numbers = range(block * AHEAD, (block + 1) * AHEAD)
            self._blocks[kept] = self._index(split).draw(key, protocol, numbers)
        return self._blocks[kept]

    def gather(
        self,
        split: Split,
        drawn: Drawn,
        indices: Sequence[int],
        noise: draws.Words | None = None,
        class_shots: Sequence[int] = (),
    ) -> Episodes:
        """Return the tensors of drawn tasks.

        noise: one stream per task if images are to be augmented; class_shots: of the task's classes, where
        they differ.
        """
        tasks, ways = drawn.classes.shape
        rows = np.concatenate([drawn.support.reshape(-1), drawn.query.reshape(-1)])  # one gather for both
        counts = [drawn.support.shape[1], drawn.query.shape[1]]
        places = self._places(ways, counts, class_shots)
        turns, streams = self._index(split).turns, None
        if turns.any():
            of_task = turns[drawn.classes]
            turns = np.concatenate([
                of_task[:, of_part].reshape(-1) for of_part in places
            ])  # fmt: skip
        if noise is not None:
            parts = [draws.words(noise, count, place_ << 20) for place_, count in enumerate(counts)]
            streams = np.concatenate([part.reshape(-1) for part in parts])
        uneven = [np.tile(of_part, (tasks, 1)) for of_part in places] if class_shots else []
        x, (classes, index, *labels) = self._inputs(
            rows, turns, streams, [drawn.classes, np.asarray(indices), *uneven]
        )
        halves = x[: tasks * counts[0]], x[tasks * counts[0] :]
        support, query = (
            Examples(half.view(tasks, count, *x.shape[1:]), labels)
            for half, count, labels in zip(
                halves, counts, labels or [self._counted(tasks, ways, count) for count in counts], strict=True
            )
        )
        return Episodes(support, query, classes, index)

    @property
    def is_image(self) -> bool:
        """Return whether examples are uint8 images [channels, height, width]."""
        return self.examples.dtype == torch.uint8 and self.examples.dim() == 4

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        """Return micro-batches of these numbers: consecutive shuffles of meta-train, cut into pieces."""
        numbers = np.asarray(indices, dtype=np.int64)
        places = numbers[:, None] * batches.micro + np.arange(batches.micro)
        index = self._index("train")
        classes, rows = index.series(self._key("batches", "train", seed), places.reshape(-1))
        noise = None
        if self.augment is not None:
            noise = draws.streams(self._key("augment-batches", "train", seed), places.reshape(-1))
        x, (labels,) = self._inputs(rows, index.turns[classes], noise, [classes])
        shape = (len(numbers), batches.micro)
        return Examples(x.view(*shape, *x.shape[1:]), labels.view(shape))

    def class_units(self, split: Split) -> ClassUnits | None:
        """Return the drawings that classes are turns of, and the groups that the data set gave them."""
        return self._index(split).units()

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """Return classes [T, ways], support [T, shots·ways], query [T, queries·ways], index [T]; all int64.

        Of classes with different shots, support [T, sum of the shots] holds the first image of each class,
        then the second of those that have one, and so on; shots [T, ways] has their numbers.
        If name and settings do not determine the data, its digest is in every row of content [T, bytes].
        """
        drawn = self.draw(split, protocol, indices, seed)
        arrays = {**drawn._asdict(), "index": np.asarray(indices, dtype=np.int64)}
        if isinstance(protocol, UnevenProtocol):
            arrays["shots"] = np.tile(np.array(protocol.class_shots, dtype=np.int64), (len(indices), 1))
        return arrays | {"content": np.tile(self.content, (len(indices), 1))} if self.content.size else arrays

    def _inputs(
        self,
        rows: draws.Numbers,
        turns: draws.Numbers,
        noise: draws.Words | None,
        further: Sequence[np.ndarray[Any, Any]],
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the inputs of these rows, and further numbers as int64; all are moved in one copy."""
        turned = {turn: np.flatnonzero(turns == turn) for turn in (1, 2, 3)} if turns.any() else {}
        on_host = self.examples.device.type == "cpu"
        arrays = [*further, *turned.values(), *([] if on_host else [rows])]
        moved = to_device([array.astype(np.int64, copy=False) for array in arrays], self.device.torch)
        x = self._gathered(torch.from_numpy(rows) if on_host else moved[-1])
        for turn, which in zip(turned, moved[len(further) :], strict=False):
            x[which] = torch.rot90(x[which], turn, (-2, -1))
        x = self._normalise(x, self._buffers)
        if self.augment is not None and noise is not None:
            x = self.augment(x, noise.reshape(-1), *self._moments)
        return x, moved[: len(further)]

    def _gathered(self, where: Tensor) -> Tensor:
        """Return rows of the examples on the learner's device; the next call may overwrite uint8 rows."""
        shape = (len(where), *self.examples.shape[1:])
        if self.device.torch.type != "cpu" and self.examples.device.type == "cpu":
            out = empty_on_host(shape, self.examples.dtype, self.device.torch)
            torch.index_select(self.examples, 0, where, out=out)
            return out.to(self.device.torch, non_blocking=True)
        if self._buffers is None or self.examples.dtype != torch.uint8:
            return self.examples.index_select(0, where)
        out = self._buffers.take(shape, torch.uint8)
        return torch.index_select(self.examples, 0, where, out=out)

    def _index(self, split: Split) -> ClassIndex:
        if split not in self.splits:
            raise DataError(f"{self.identity!r} has no split {split!r}; it has: {', '.join(self.splits)}")
        return self.splits[split]

    def _key(self, *parts: str | int) -> int:
        return draws.key("metabench", self.identity, *parts)

    @staticmethod
    def _places(ways: int, counts: Sequence[int], class_shots: Sequence[int]) -> list[draws.Numbers]:
        """Return which of the task's classes each place of support and of query belongs to."""
        support, query = (np.tile(np.arange(ways), count // ways) for count in counts)
        if class_shots:
            support = np.concatenate([np.flatnonzero(row) for row in rows_of_shots(class_shots)])
        return [support, query]

    def _counted(self, tasks: int, ways: int, count: int) -> Tensor:
        """Return labels 0 … ways - 1 over and over, [tasks, count], as a new tensor."""
        key = (tasks, ways, count)
        if key not in self._labels:
            self._labels[key] = torch.arange(ways, device=self.device.torch).repeat(tasks, count // ways)
        return self._labels[key].clone()


def _class_shots(protocol: Protocol) -> tuple[int, ...]:
    return protocol.class_shots if isinstance(protocol, UnevenProtocol) else ()


class _Normalise:
    """(x / 255 - mean) / std of uint8, (x - mean) / std of floats, in place on a tensor just gathered."""

    def __init__(self, examples: Tensor, mean: Sequence[float], std: Sequence[float], device: Device) -> None:
        per_unit = 255.0 if examples.dtype == torch.uint8 else 1.0
        shape = (-1, *[1] * (examples.dim() - 2)) if examples.dim() > 2 else (-1,)
        scale, shift = [1.0 / (per_unit * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
        self.dtype = device.dtype
        # one value for all channels is passed as a number: a third faster than as a tensor
        self.scale: Tensor | float = scale[0] if len(scale) == 1 else _constant(scale, device).view(shape)
        self.shift: Tensor | float = shift[0] if len(shift) == 1 else _constant(shift, device).view(shape)

    def __call__(self, x: Tensor, buffers: Buffers | None) -> Tensor:
        if buffers is None or x.dtype == self.dtype:
            x = x.to(self.dtype)
        else:
            x = buffers.take(x.shape, self.dtype).copy_(x)
        if not isinstance(self.scale, float) or self.scale != 1.0:
            x = x.mul_(self.scale)
        if not isinstance(self.shift, float) or self.shift != 0.0:
            x = x.add_(self.shift)
        return x


def _constant(values: Sequence[float], device: Device) -> Tensor:
    return torch.tensor(values, dtype=device.dtype, device=device.torch)


def place(examples: np.ndarray[Any, Any], device: Device, title: str) -> Tensor:
    """Return the array as a tensor on the device, or in host memory or a memory map if it does not fit.

    A warning in the log says so. An array in memory is shared, never copied on the host.
    """
    on_host = device.torch.type == "cpu"
    if not on_host and examples.nbytes <= MEMORY_FRACTION * _free_on_device(device.torch):
        return _shared(examples).to(device.torch)
    size = f"{title!r} ({examples.nbytes / 2**30:.2f} GiB)"
    if not on_host:
        log.warning("%s does not fit on %s: it stays on the host and sampling is slower", size, device.torch)
    if not isinstance(examples, np.memmap):
        return _shared(examples)
    if examples.nbytes <= MEMORY_FRACTION * psutil.virtual_memory().available:
        return torch.from_numpy(_read(examples))
    log.warning("%s does not fit in memory: it is read from %s as needed", size, examples.filename)
    return _shared(examples)


def _read(mapped: np.memmap[Any, Any]) -> np.ndarray[Any, Any]:
    """Read a memory map's values from its file into memory (twice as fast as through the map)."""
    if mapped.filename is None or not mapped.flags.c_contiguous:
        return np.array(mapped)
    values = np.empty(mapped.shape, dtype=mapped.dtype)
    with open(mapped.filename, "rb") as file:
        file.seek(mapped.offset)
        if file.readinto(values.reshape(-1).view(np.uint8).data) != values.nbytes:
            raise DataError(
                f"{mapped.filename} is shorter than its header says; remove it to compute it again"
            )
    return values


def _shared(examples: np.ndarray[Any, Any]) -> Tensor:
    if not examples.flags.writeable:  # torch warns of read-only arrays; nothing here writes
        if isinstance(examples, np.memmap) and examples.filename is not None:
            examples = np.memmap(
                examples.filename, examples.dtype, "c", examples.offset, examples.shape
            )  # copy on write: pages stay shared until somebody writes, and nobody does
        else:
            examples = examples.copy()
    return torch.from_numpy(examples)


def _free_on_device(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
