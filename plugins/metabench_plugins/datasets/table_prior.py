"""A prior of random tables: structural causal models and random networks, a new one for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from metabench import Dataset, Episodes, Examples, Facts, Invalid, Protocol, Source, Split, setting
from metabench.data import draws
from metabench.records import UnevenProtocol

if TYPE_CHECKING:
    from metabench.device import Device

FEWEST_NODES, NODES = 3, 16  # of a layer
LAYERS = 2  # after the first, at most
HEAVY = 0.3  # fraction of the tables some of whose columns are skewed


@dataclass(frozen=True, kw_only=True)
class TablePrior(Dataset):
    """Every task is a table of its own, whose columns and class are values of a random network.

    S. Müller et al.: Transformers Can Do Bayesian Inference, ICLR 2022; N. Hollmann et al.: TabPFN, ICLR
    2023, appendix C, in a smaller form. A network has 2 or 3 layers of 3 to 16 nodes with normal weights,
    of which a random fraction is 0, an activation of its own and noise. In half of the tasks it is a
    structural causal model: columns are random nodes, and the class another, of the last layer; otherwise
    columns are its inputs and the class its output. Classes are ranges of that node's value of equal size,
    so that each has as many rows as the protocol asks for. A task has 2 to `width` columns, then zeros.
    Splits and seeds draw different tables.
    """

    name: ClassVar[str] = "table-prior"
    width: int = setting(30, "columns of an input, the most that a table has", at_least=2, at_most=256)

    def describe(self) -> Facts:
        """Return the facts of endless tables."""
        endless = {"train": 0, "validation": 0, "test": 0}
        return Facts("classification", (self.width,), None, endless, dict(endless))

    def load(self, device: Device) -> Source:
        """Return a source; there is no data to load."""
        return _RandomTables(device, self.width)


class _RandomTables(Source):
    def __init__(self, device: Device, width: int) -> None:
        self.device = device
        self.width = width

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        import torch

        streams = self.manifest(split, protocol, indices, seed)["stream"]
        rows = protocol.shots + protocol.queries
        x = np.stack([table(stream, protocol.ways, rows, self.width) for stream in streams])
        labels = torch.arange(protocol.ways, device=self.device.torch)

        def examples(part: Any, count: int) -> Examples:  # part: [T, count, ways, width]
            flat = torch.from_numpy(np.ascontiguousarray(part)).flatten(1, 2)
            return Examples(flat.to(self.device.torch, self.device.dtype), labels.repeat(len(streams), count))

        return Episodes(
            examples(x[:, : protocol.shots], protocol.shots),
            examples(x[:, protocol.shots :], protocol.queries),
            labels.repeat(len(streams), 1),
            torch.tensor(list(indices), dtype=torch.int64, device=self.device.torch),
        )

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """stream [T]: the random stream that a table is drawn from; index [T]."""
        if isinstance(protocol, UnevenProtocol):
            raise Invalid("classes of table-prior have the same number of rows: give one number of shots")
        shape = (protocol.ways, protocol.shots, protocol.queries)
        key = draws.key("metabench", "table-prior", self.width, split, *shape, seed)
        return {"stream": draws.streams(key, indices), "index": np.asarray(indices, dtype=np.int64)}


class _Draws(NamedTuple):
    """Independent streams of one table."""

    choices: draws.Words
    inputs: draws.Words
    weights: draws.Words
    noise: draws.Words
    order: draws.Words


def table(stream: Any, ways: int, rows: int, width: int) -> np.ndarray[Any, Any]:
    """Return the rows of each class of one random table, [rows, ways, width] float64."""
    parts = _Draws(*draws.words(np.asarray(stream), len(_Draws._fields)))
    choices = iter(draws.uniform(parts.choices, 16).tolist())
    columns = 2 + int(next(choices) * (width - 1))
    nodes = FEWEST_NODES + int(next(choices) * (NODES - FEWEST_NODES + 1))
    causal = next(choices) < 0.5
    count = ways * rows
    inputs = draws.normal(parts.inputs, count * (nodes if causal else columns)).reshape(count, -1)
    if next(choices) < HEAVY:  # lognormal, as amounts and sizes are
        inputs[:, ::3] = np.exp(inputs[:, ::3])
    layers = _layers(inputs, nodes, parts, choices)
    if causal:
        values = np.concatenate([inputs, *layers], 1)
        target = values.shape[1] - 1 - int(next(choices) * nodes)  # of the last layer
        others = np.delete(values, target, axis=1)
        columns = min(columns, others.shape[1])
        x = others[:, draws.distinct(parts.order[None], columns, others.shape[1])[0]]
        value = values[:, target]
    else:
        x, value = inputs[:, :columns], layers[-1][:, 0]
    by_class = np.argsort(value, kind="stable").reshape(ways, rows)
    shuffled = np.argsort(draws.words(parts.order, count, 1 << 20).reshape(ways, rows), axis=1)
    by_class = np.take_along_axis(by_class, shuffled, 1)
    classes = np.argsort(draws.words(parts.order, ways, 1 << 21))
    out = np.zeros((rows, ways, width))
    out[..., :columns] = x[by_class[classes].T]
    return out


def _layers(x: Any, nodes: int, parts: _Draws, choices: Any) -> list[Any]:
    """Return the nodes [rows, nodes] of each layer of a random network."""
    depth, kept, noise = 1 + int(next(choices) * LAYERS), 0.3 + 0.7 * next(choices), 0.3 * next(choices) ** 2
    activation = (np.tanh, np.sin, np.abs, _rectified, _same)[int(next(choices) * 5)]
    layers: list[Any] = []
    first = 0
    for number in range(depth + 1):
        size = x.shape[1] * nodes
        weights = draws.normal(parts.weights, size, first).reshape(-1, nodes)
        weights *= draws.uniform(parts.weights, size, first=(1 << 24) + first).reshape(-1, nodes) < kept
        first += size
        x = x @ weights / np.sqrt(max(1.0, kept * x.shape[1]))
        x = x + noise * draws.normal(parts.noise, x.size, number * x.size).reshape(x.shape)
        layers.append(x)
        x = activation(x - x.mean(0))
    return layers


def _rectified(x: Any) -> Any:
    return np.maximum(x, 0.0)


def _same(x: Any) -> Any:
    return x
