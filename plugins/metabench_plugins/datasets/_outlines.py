"""Letters as images: outlines from font files, and a rasteriser whose pixels are the same everywhere.

Renderers differ between versions of FreeType, so the data set `glyphs` reads outlines with fontTools
(whole numbers of font units) and rasterises them itself: once an image's 2×2 matrix has been rounded to
multiples of 2**-30, all arithmetic is exact, so the pixels depend on the font files alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 4  # scan lines a pixel: four levels from top to bottom, 256 from left to right
UNIT = 256  # fixed-point units a pixel
CURVE = 4  # straight pieces a quadratic curve

Edges = NDArray[np.float64]
Images = NDArray[np.uint8]


def letter_edges(font: Path, letters: Iterable[str]) -> dict[str, Edges]:
    """Return the outline of each letter that the font has: [edges, 2, 2], (x, y) to (x, y), y upwards.

    Units: half font units at most 1/32 apart, which float64 holds exactly.
    """
    from fontTools.pens.basePen import decomposeQuadraticSegment
    from fontTools.pens.recordingPen import DecomposingRecordingPen
    from fontTools.ttLib import TTFont

    edges_of: dict[str, Edges] = {}
    with TTFont(font, lazy=True) as opened:
        names, shapes = opened.getBestCmap(), opened.getGlyphSet()
        for letter in letters:
            if ord(letter) not in names:
                continue
            pen = DecomposingRecordingPen(shapes)
            shapes[names[ord(letter)]].draw(pen)
            edges: list[list[tuple[float, float]]] = []
            start = last = (0.0, 0.0)
            for verb, points in pen.value:
                if verb == "moveTo":
                    start = last = points[0]
                elif verb == "lineTo":
                    edges.append([last, points[0]])
                    last = points[0]
                elif verb == "qCurveTo":
                    if points[-1] is None:  # a contour without any point on the curve
                        points = _closed(points[:-1])
                        start = last = points[-1]
                    for control, end in decomposeQuadraticSegment(points):
                        edges += _curve(last, control, end)
                        last = end
                elif verb in ("closePath", "endPath") and last != start:
                    edges.append([last, start])
            if edges:
                edges_of[letter] = np.array(edges, dtype=np.float64)
    return edges_of


def centred(edges: Edges, side: float) -> Edges:
    """Return the outline with its box centred on 0 and its longer side scaled to `side`."""
    low, high = edges.min((0, 1)), edges.max((0, 1))
    moved: Edges = (edges - (low + high) / 2) * (side / float((high - low).max()))
    return moved


def rasterise(
    outlines: Sequence[Edges], which: NDArray[np.int64], matrices: Any, moves: Any, size: int
) -> Images:
    """Draw outlines as images, ink 255 on 0: [n, size, size] uint8.

    outlines: arrays [edges, 2, 2], centred on 0, y upwards; which: [n] the outline of each image;
    matrices: [n, 2, 2] from outline to pixels; moves: [n, 2] pixels right and up, from the middle.
    """
    matrices = np.round(matrices * 2.0**30) / 2.0**30
    moves = np.round(moves * UNIT)
    images = np.empty((len(which), size, size), dtype=np.uint8)
    for first in range(0, len(which), 256):
        part = slice(first, first + 256)
        images[part] = _raster(outlines, which[part], matrices[part], moves[part], size)
    return images


def _raster(
    outlines: Sequence[Edges], which: NDArray[np.int64], matrices: Any, moves: Any, size: int
) -> Images:
    lengths = np.array([len(outlines[w]) for w in which])
    image = np.repeat(np.arange(len(which)), lengths)
    edges = np.concatenate([outlines[w] for w in which])
    matrix = matrices[image]
    x = edges[..., 0] * matrix[:, None, 0, 0] + edges[..., 1] * matrix[:, None, 0, 1]
    y = edges[..., 0] * matrix[:, None, 1, 0] + edges[..., 1] * matrix[:, None, 1, 1]
    middle = size * UNIT // 2
    x = np.round(x * UNIT + moves[image][:, None, 0]).astype(np.int64) + middle
    y = middle - np.round(y * UNIT + moves[image][:, None, 1]).astype(np.int64)
    return _covered(image, x, y, len(which), size)


def _covered(
    image: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], count: int, size: int
) -> Images:
    """Return the coverage by the non-zero winding rule, from edges in fixed-point units with y downwards."""
    sign = np.where(y[:, 0] < y[:, 1], 1, -1)
    top, bottom = y.min(1), y.max(1)
    step = UNIT // ROWS
    # scan line r lies at r·step + step/2; an edge crosses those with top <= line < bottom
    first = np.clip(-((step // 2 - top) // step), 0, size * ROWS)
    last = np.clip(-((step // 2 - bottom) // step), 0, size * ROWS)
    crossings = np.maximum(last - first, 0)
    edge = np.repeat(np.arange(len(x)), crossings)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(crossings) - crossings, crossings) + first[edge]
    height = line * step + step // 2 - y[edge, 0]
    place = x[edge, 0] + height * (x[edge, 1] - x[edge, 0]) // (y[edge, 1] - y[edge, 0])
    place = np.clip(place, 0, size * UNIT)
    pixel, part = place // UNIT, place % UNIT
    wide = size + 2
    cell = (image[edge] * (size * ROWS) + line) * wide + pixel
    turn = sign[edge]
    cells = count * size * ROWS * wide
    ink = np.bincount(cell, turn * (UNIT - part), cells) + np.bincount(cell + 1, turn * part, cells)
    winding = np.cumsum(ink.reshape(count, size, ROWS, wide)[..., :size], axis=-1)
    covered = np.minimum(np.abs(winding), UNIT).sum(2)  # 0 … ROWS·UNIT, whole numbers
    shade: Images = (covered.astype(np.int64) * 255 // (ROWS * UNIT)).astype(np.uint8)
    return shade


def _closed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    last, first = points[-1], points[0]
    return [*points, ((last[0] + first[0]) / 2, (last[1] + first[1]) / 2)]


def _curve(a: Any, b: Any, c: Any) -> list[list[tuple[float, float]]]:
    def at(t: float) -> tuple[float, float]:
        u = 1 - t
        return (
            u * u * a[0] + 2 * u * t * b[0] + t * t * c[0],
            u * u * a[1] + 2 * u * t * b[1] + t * t * c[1],
        )

    points = [at(piece / CURVE) for piece in range(CURVE + 1)]
    return [[p, q] for p, q in pairwise(points)]
