"""The rasteriser: areas, winding and places as geometry says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from metabench_plugins.datasets._outlines import centred, rasterise


def polygon(*points: tuple[float, float]) -> NDArray[np.float64]:
    return np.array([[p, q] for p, q in zip(points, [*points[1:], points[0]], strict=True)], dtype=np.float64)


SQUARE = polygon((-4, -4), (4, -4), (4, 4), (-4, 4))


def draw(
    outline: NDArray[np.float64], matrix: object = None, move: tuple[float, float] = (0, 0)
) -> NDArray[np.uint8]:
    matrices = np.eye(2)[None] if matrix is None else np.array([matrix], dtype=np.float64)
    return rasterise([outline], np.array([0]), matrices, np.array([move], dtype=np.float64), 16)[0]


def test_a_square_fills_its_pixels() -> None:
    image = draw(SQUARE)
    assert (image[4:12, 4:12] == 255).all()
    assert image.sum() == 255 * 64


@pytest.mark.parametrize("turned", [SQUARE, SQUARE[:, ::-1]])
def test_the_sense_of_rotation_does_not_matter(turned: NDArray[np.float64]) -> None:
    assert (draw(turned) == draw(SQUARE)).all()


def test_a_hole_is_empty_and_an_overlap_is_not() -> None:
    inner = SQUARE / 2
    assert draw(np.concatenate([SQUARE, inner[:, ::-1]])).sum() == 255 * 48
    assert (draw(np.concatenate([SQUARE, inner])) == draw(SQUARE)).all()


def test_y_points_up_and_moves_are_in_pixels() -> None:
    assert (draw(SQUARE, move=(3, 0)) == np.roll(draw(SQUARE), 3, axis=1)).all()
    assert (draw(SQUARE, move=(0, 3)) == np.roll(draw(SQUARE), -3, axis=0)).all()


def test_part_of_a_pixel_is_grey() -> None:
    assert draw(SQUARE, move=(0.5, 0))[8, 4] == 127
    assert draw(SQUARE, move=(0, 0.5))[3, 8] == 127


@pytest.mark.parametrize("angle", [0.3, 1.0, 2.5])
def test_area_is_kept_by_rotation(angle: float) -> None:
    matrix = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert draw(SQUARE, matrix).sum() / 255 == pytest.approx(64, rel=0.01)


def test_what_is_outside_is_cut_off() -> None:
    assert draw(SQUARE, move=(6, 0)).sum() == 255 * 6 * 8
    assert draw(SQUARE, move=(-100, 0)).sum() == 0
    assert draw(SQUARE, move=(0, 100)).sum() == 0


def test_an_outline_is_centred_and_scaled_by_its_longer_side() -> None:
    image = centred(polygon((10, 10), (50, 10), (50, 20), (10, 20)), 20.0)
    assert image.min((0, 1)).tolist() == [-10, -2.5]
    assert image.max((0, 1)).tolist() == [10, 2.5]
