"""The device that a worker computes on: `Device`, its ranks, meters and memory, and facts of the host.

A backend sets the number format of the engine's GPU kernels by `set_split_products`.

Importing this package loads no torch; `Device`, which needs it, is loaded when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from metabench.device.products import set_split_products

if TYPE_CHECKING:
    from metabench.device.device import Device

__all__ = ["Device", "set_split_products"]


def __getattr__(name: str) -> Any:
    if name == "Device":
        from metabench.device.device import Device

        return Device
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
