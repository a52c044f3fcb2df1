"""Small image files and archives for the tests of data sets."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def image_file(seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB", kind: str = "png") -> bytes:
    """Return a random image of (width, height) pixels; another `seed` gives another image."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def drawing(seed: int) -> bytes:
    """Return a drawing as in Omniglot: 105×105, one bit, dark ink."""
    values = np.full((105, 105), 255, np.uint8)
    row, column = np.random.default_rng(seed).integers(10, 80, 2)
    values[row : row + 15, column : column + 5 + seed % 10] = 0
    buffer = io.BytesIO()
    Image.fromarray(values).convert("1").save(buffer, "png")
    return buffer.getvalue()


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a zip of these files; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def write_tgz(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a .tar.gz of these files; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def omniglot_files(folder: str, characters: Iterable[str], drawers: int = 20) -> dict[str, bytes]:
    """Return the members of an Omniglot archive under upstream's names; few drawings, used many times."""
    pool = [drawing(seed) for seed in range(40)]
    return {
        f"{folder}/{character}/{number + 1:04d}_{drawer:02d}.png": pool[(7 * number + drawer) % 40]
        for number, character in enumerate(characters)
        for drawer in range(1, drawers + 1)
    }
