"""How the engine's own GPU kernels compute float32 products: as torch is set to, or as TF32×3.

A backend sets it together with torch's switches, before a network is built.
"""

from __future__ import annotations

_SPLIT = False


def set_split_products(split: bool) -> None:
    """Let the engine's GPU kernels compute float32 products as three TF32 ones, or as torch does."""
    global _SPLIT
    _SPLIT = split


def split_products() -> bool:
    """Return whether they are computed as three TF32 products."""
    return _SPLIT
