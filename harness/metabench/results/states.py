"""Learned states: tensors by name, kept as safetensors beside the results and named by their digest.

<results>/<suite>-v<version>/states/<sha256>.safetensors

A state that comes from elsewhere is untrusted: it is read without pickle, within bounds, and only where its
bytes have the digest that was asked for. No torch here before tensors are asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from metabench.errors import StoreError
from metabench.records.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_BYTES = 2**31
"""The largest state that is read: 2 GiB, half a billion weights in float32."""


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the tensors as safetensors: the same bytes for the same names, types, shapes and values."""
    from safetensors.torch import save

    # a copy of each, since safetensors refuses tensors that share memory
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(copies, dict(metadata) if metadata else None)


def unpack(content: bytes, source: object = "the state") -> dict[str, Tensor]:
    """Return the tensors of safetensors; raises StoreError that names `source` on anything else."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise StoreError(f"{source}: no safetensors, which hold tensors by name alone ({error})") from error


def require_state(content: bytes, source: object = "the state") -> None:
    """Raise StoreError that names `source` unless these are safetensors; needs no torch."""
    from safetensors import SafetensorError, deserialize

    try:
        deserialize(content)  # type: ignore[no-untyped-call]  # of Rust
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise StoreError(f"{source}: no safetensors, which hold tensors by name alone ({error})") from error


def unpack_metadata(content: bytes) -> dict[str, str]:
    """Return the metadata of safetensors that `unpack` has read; raises KeyError where there is none."""
    end = 8 + int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8:end])["__metadata__"]
    return metadata


def write_state(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write the tensors by atomic rename; return the SHA-256 of the file."""
    content = pack(tensors)
    write_bytes(path, content)
    return digest_of_bytes(content)


def read_state(path: Path, digest: str = "") -> dict[str, Tensor]:
    """Return the tensors in this file; raises StoreError where its bytes have another digest."""
    return unpack(read_state_bytes(path, digest), path)


def read_state_bytes(path: Path, digest: str = "", largest: int = LARGEST_BYTES) -> bytes:
    """Return the bytes of a kept state, checked against `digest` where one is given.

    Raises StoreError for what is no regular file, for a link, and for more than `largest` bytes.
    """
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise StoreError(f"{path}: the state cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path}: a state must be a regular file")
        if status.st_size > largest:
            raise StoreError(f"{path}: a state must have at most {largest} bytes, got {status.st_size}")
        with os.fdopen(file, "rb", closefd=False) as opened:
            content = opened.read(largest)
    finally:
        os.close(file)
    if digest and (actual := digest_of_bytes(content)) != digest:
        raise StoreError(f"{path}: its content must have the SHA-256 {digest}, got {actual}")
    return content


def digest_of_bytes(content: bytes) -> str:
    """Return the SHA-256 of a state's bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
