"""Sinusoid regression: the paper's ranges, tasks by number."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from metabench import Invalid, Protocol
from metabench.device import Device
from metabench_plugins.datasets.sinusoid import Sinusoid

PROTOCOL = Protocol(1, 10, 7)


def test_targets_are_the_wave_of_their_task() -> None:
    source = Sinusoid().load(Device(dtype=torch.float64))
    drawn, manifest = (
        source.episodes("train", PROTOCOL, range(9), 0),
        source.manifest("train", PROTOCOL, range(9), 0),
    )
    for part in drawn.support, drawn.query:
        wave = manifest["amplitude"][:, None] * np.sin(part.x[..., 0].numpy() - manifest["phase"][:, None])
        assert np.allclose(part.y[..., 0].numpy(), wave, atol=1e-12)


def test_shapes_are_those_of_regression() -> None:
    drawn = Sinusoid().load(Device()).episodes("test", PROTOCOL, range(3), 0)
    assert drawn.support.x.shape == drawn.support.y.shape == (3, 10, 1)
    assert drawn.query.x.shape == drawn.query.y.shape == (3, 7, 1)
    assert drawn.classes.shape == (3, 0)
    assert drawn.support.x.dtype == torch.float32


def test_ranges_are_the_paper_s() -> None:
    manifest = Sinusoid().load(Device()).manifest("train", PROTOCOL, range(20_000), 0)
    for name, low, high in (("amplitude", 0.1, 5.0), ("phase", 0.0, np.pi), ("support", -5.0, 5.0)):
        assert low <= manifest[name].min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < manifest[name].max() < high
        assert manifest[name].mean() == pytest.approx((low + high) / 2, rel=0.02, abs=0.05)


def test_tasks_never_change() -> None:
    manifest = Sinusoid().load(Device()).manifest("test", PROTOCOL, range(600), 2026)
    text = b"".join(
        manifest[name].astype("<f8").tobytes() for name in ("amplitude", "phase", "support", "query")
    )
    assert hashlib.sha256(text).hexdigest()[:16] == "82d706660bc78f79"


def test_slices_give_the_tasks_of_the_whole() -> None:
    source = Sinusoid(noise=0.3).load(Device())
    whole, part = (source.episodes("train", PROTOCOL, tasks, 5) for tasks in (range(8), range(3, 6)))
    assert torch.equal(whole.support.y[3:6], part.support.y)
    assert torch.equal(whole.query.x[3:6], part.query.x)


def test_noise_is_on_support_targets_alone() -> None:
    plain, noisy = Sinusoid().load(Device()), Sinusoid(noise=0.5).load(Device())
    clean, noised = (s.episodes("train", PROTOCOL, range(500), 0) for s in (plain, noisy))
    assert torch.equal(clean.query.y, noised.query.y)
    assert float((clean.support.y - noised.support.y).std()) == pytest.approx(0.5, rel=0.05)


def test_more_ways_than_one_make_no_sense() -> None:
    with pytest.raises(Invalid, match="ways must be 1, got 5"):
        Sinusoid().load(Device()).episodes("train", Protocol(5, 1, 1), [0], 0)
