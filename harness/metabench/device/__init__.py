"""The device that a worker computes on: `Device`, its ranks, meters and memory, and facts of the host.

Importing this package loads no torch; `Device`, which needs it, is loaded when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metabench.device.device import Device

__all__ = ["Device"]


def __getattr__(name: str) -> Any:
    if name == "Device":
        from metabench.device.device import Device

        return Device
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
