"""Nested states, such as that of an optimizer, taken apart into plain JSON values and tensors, and joined.

`torch.save` would write a pickle; what comes out of here goes into JSON and safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

PLAIN = (str, int, float, bool, type(None))


def take_apart(value: Any, tensors: dict[str, Tensor], prefix: str = "") -> Any:
    """Return the value as plain JSON, its tensors named `prefix` and a number and put into `tensors`.

    Raises TypeError for anything but tensors, numbers, texts, None, and dictionaries, lists and tuples.
    """
    match value:
        case Tensor():
            name = f"{prefix}{len(tensors)}"
            tensors[name] = value.detach()
            return {"tensor": name}
        case Mapping():
            items = [item for pair in value.items() for item in pair]
            return {"dict": [take_apart(item, tensors, prefix) for item in items]}
        case list():
            return {"list": [take_apart(item, tensors, prefix) for item in value]}
        case tuple():
            return {"tuple": [take_apart(item, tensors, prefix) for item in value]}
    if type(value) in PLAIN:
        return value
    raise TypeError(
        f"a state must hold tensors, numbers, texts, None, and lists, tuples and dictionaries of them, "
        f"got {type(value).__name__}"
    )


def join(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `take_apart` took apart; raises KeyError, TypeError, ValueError on other JSON."""
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "dict":
            items = [join(item, tensors) for item in content]
            return dict(zip(items[::2], items[1::2], strict=True))
        case "list":
            return [join(item, tensors) for item in content]
        case "tuple":
            return tuple(join(item, tensors) for item in content)
    raise ValueError(f"unknown kind {kind!r} of a value")
