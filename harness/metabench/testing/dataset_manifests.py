"""Whether a manifest describes the tasks that are drawn: their numbers, classes and images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metabench.contracts import Episodes, Examples, Source
from metabench.data.classes import Drawn
from metabench.data.tensor_source import TensorSource
from metabench.records.cell import Split
from metabench.records.protocol import Protocol


def manifest_fault(
    source: Source,
    drawn: Episodes,
    split: Split,
    protocol: Protocol,
    numbers: range,
    seed: int,
    *,
    official: bool = False,
) -> str | None:
    """Return how the manifest of these tasks differs from the tasks themselves, or None.

    official: whether the tasks are a list that does not depend on the seed.
    """
    manifest = source.manifest(split, protocol, numbers, seed)
    other = source.manifest(split, protocol, numbers, seed + 1)
    same = all(name in other and np.array_equal(values, other[name]) for name, values in manifest.items())
    if same != official:
        return f"it is {'the same' if same else 'another one'} for another seed"
    for name, tensor in (("index", drawn.index), ("classes", drawn.classes)):
        values = manifest.get(name)
        if values is None or values.shape != tuple(tensor.shape):
            continue
        if not np.array_equal(values, tensor.cpu().numpy()):
            return f"its {name!r} differ"
    if isinstance(source, TensorSource):
        return (
            None
            if split == "train" and source.augment
            else _gathered(source, drawn, split, manifest, numbers)
        )
    if split == "train":  # training images may be augmented
        return None
    return _described("support", manifest, drawn.support, drawn.classes) or _described(
        "query", manifest, drawn.query, drawn.classes
    )


def _gathered(
    source: TensorSource, drawn: Episodes, split: Split, manifest: Mapping[str, Any], numbers: range
) -> str | None:
    again = source.gather(split, Drawn(*(manifest[name] for name in Drawn._fields)), numbers)
    same = all(
        torch.equal(a, b)
        for a, b in zip((*drawn.support, *drawn.query), (*again.support, *again.query), strict=True)
    )
    return None if same else "gathering its images gives other examples"


def _described(part: str, manifest: Mapping[str, Any], examples: Examples, classes: Tensor) -> str | None:
    """Return what is wrong with a manifest's images of a part of the tasks, or None.

    They are image numbers [T, n], where a number of a class is always the same image, or the inputs
    themselves, for regression.
    """
    numbers, x = manifest.get(part), examples.x.cpu()
    if numbers is None or numbers.shape != tuple(x.shape[:2]):
        return None
    if np.issubdtype(numbers.dtype, np.floating):
        same = x[0, 0].numel() != 1 or np.allclose(numbers, x.flatten(1).numpy(), rtol=1e-5, atol=1e-8)
        return None if same else f"its {part!r} holds other inputs"
    if not classes.shape[1]:
        return None
    owners = classes.cpu().gather(1, examples.y.cpu())
    images: dict[tuple[int, int], bytes] = {}
    for task in range(len(x)):
        for place in range(x.shape[1]):
            key = (int(owners[task, place]), int(numbers[task, place]))
            content = x[task, place].contiguous().numpy().tobytes()
            if images.setdefault(key, content) != content:
                return f"its {part!r} names image {key[1]} of class {key[0]} for two different examples"
    return None
