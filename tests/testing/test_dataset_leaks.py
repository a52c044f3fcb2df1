"""Leaks of data sets: what is found, and what must not be taken for one."""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.contracts import Episodes, Examples
from metabench.testing.dataset_leaks import near_copies, readable_places

TASKS, WAYS, QUERIES, SIDE = 24, 3, 2, 12


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def episodes() -> Episodes:
    """Tasks of pure noise: nothing in an image tells its label."""
    labels = torch.arange(WAYS).repeat(TASKS, 1)
    return Episodes(
        Examples(noise(TASKS, WAYS, 3, SIDE, SIDE), labels),
        Examples(noise(TASKS, WAYS * QUERIES, 3, SIDE, SIDE, seed=1), labels.repeat(1, QUERIES)),
        noise(TASKS, WAYS, seed=2).argsort(1), torch.arange(TASKS),
    )  # fmt: skip


def test_noise_has_no_readable_place() -> None:
    assert readable_places(episodes(), WAYS) == []


def test_a_class_number_in_a_corner_is_read_with_its_place() -> None:
    drawn = episodes()
    for part in (drawn.support, drawn.query):
        part.x[..., 2, 11, 0] = drawn.classes.gather(1, part.y) / 7.0
    assert readable_places(drawn, WAYS) == ["channel 2, row 11, column 0"]


def test_a_code_over_several_pixels_is_read() -> None:
    drawn = episodes()
    for part in (drawn.support, drawn.query):
        part.x[..., :, 4:8, 4:8] = 0
        part.x[..., 0, 4, 4:7] = torch.nn.functional.one_hot(part.y, WAYS).double()
    assert readable_places(drawn, WAYS) == ["the 4×4 pixels at row 4, column 4"]


def test_a_class_that_fills_the_image_is_no_leak() -> None:
    drawn = episodes()
    for part in (drawn.support, drawn.query):
        part.x[:] = part.y[..., None, None, None].double()
    assert readable_places(drawn, WAYS) == []


def test_copies_are_found_when_noisy_darker_moved_or_mirrored() -> None:
    train = noise(40, 3, 28, 28)
    for copy in (
        train + 0.01 * noise(40, 3, 28, 28, seed=3), 0.5 * train + 0.1,
        train.roll((1, -1), (-2, -1)), train.flip(-1),
    ):  # fmt: skip
        assert near_copies(train, copy) == 1
    assert near_copies(train, torch.cat([train[:10], noise(30, 3, 28, 28, seed=4)])) == 0.25


def test_other_images_and_even_ones_are_no_copies() -> None:
    train = noise(40, 1, 28, 28)
    assert near_copies(train, noise(40, 1, 28, 28, seed=5)) == 0
    assert near_copies(torch.cat([train, torch.ones(1, 1, 28, 28)]), torch.ones(5, 1, 28, 28)) == 0
