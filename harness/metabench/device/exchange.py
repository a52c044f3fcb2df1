"""What ranks exchange beside plain numbers: JSON values, and figures by name. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metabench.device.device import Device


def gather_json(device: Device, value: Any) -> list[Any]:
    """Return the JSON value of each rank, in the order of the ranks, on every rank."""
    return [json.loads(bytes(map(int, rank))) for rank in device.gather(list(json.dumps(value).encode()))]


def sum_over_ranks(device: Device, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the sum of each figure over the ranks that have it, on every rank."""
    total: dict[str, float] = {}
    for rank in gather_json(device, dict(figures)):
        for name, value in rank.items():
            total[name] = total.get(name, 0.0) + value
    return total
