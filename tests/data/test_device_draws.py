"""Draws on a device are the host's: words, uniform numbers and orders bit for bit, the rest to 2 ulp."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metabench import Protocol
from metabench.data import draws
from metabench.data.device_draws import DeviceDraws
from metabench.data.order import orders
from metabench.device import Device
from metabench.testing import pretend_device
from metabench_plugins.datasets.harmonics import Harmonics
from metabench_plugins.datasets.sinusoid import Sinusoid

KEY = draws.key("tests", 1)  # above 2**62: signed and unsigned integers differ
THERE = DeviceDraws(torch.device("cpu"))


@pytest.mark.parametrize("numbers", [range(3, 400, 2), [7, 0, 2**40]])
def test_words_and_uniform_numbers_are_the_host_s_bit_for_bit(numbers: range | list[int]) -> None:
    here, there = draws.streams(KEY, numbers, 3), THERE.streams(KEY, numbers, 3)

    assert (there.numpy().view(np.uint64) == here).all()
    assert (THERE.words(there, 5, 1 << 32).numpy().view(np.uint64) == draws.words(here, 5, 1 << 32)).all()
    assert (THERE.uniform(there, 9, -4.0, 4.1, 2).numpy() == draws.uniform(here, 9, -4.0, 4.1, 2)).all()


def test_order_is_the_host_s_bit_for_bit() -> None:
    streams = THERE.streams(draws.key("order", "train", 5), range(300))

    assert (THERE.order(streams, 12).numpy() == orders("train", range(300), 5, 12, 1).support).all()


def test_normal_numbers_are_the_host_s_to_two_units_in_the_last_place() -> None:
    streams = draws.streams(KEY, range(500))
    here = draws.normal(streams, 4)
    there = THERE.normal(torch.from_numpy(streams.view(np.int64)), 4).numpy()

    # a product of a root and a cosine: 2 units of the larger factor
    assert np.abs(there - here).max() <= 2 * np.spacing(np.abs(here).max())


@pytest.mark.parametrize("dataset", [Sinusoid(noise=0.3), Harmonics(noise=0.3)])
def test_tasks_drawn_on_a_device_are_those_of_the_host(dataset: Sinusoid | Harmonics) -> None:
    protocol = Protocol(1, 6, 4)
    here = dataset.load(Device(dtype=torch.float64)).episodes("train", protocol, range(9, 40), 2)
    with pretend_device(torch.float64) as device:
        there = dataset.load(device).episodes("train", protocol, range(9, 40), 2)
        support, query = ([part.x.cpu(), part.y.cpu()] for part in (there.support, there.query))
        index = there.index.tolist()

    assert torch.equal(support[0], here.support.x)
    assert torch.equal(query[0], here.query.x)
    for actual, wanted in ((support[1], here.support.y), (query[1], here.query.y)):
        assert float((actual - wanted).abs().max()) < 1e-14 * float(wanted.abs().max())
    assert index == list(range(9, 40))
