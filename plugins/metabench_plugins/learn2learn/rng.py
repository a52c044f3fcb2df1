"""Makes code repeatable that draws from the global RNGs, and restores their states."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global RNGs of python, numpy and torch (CPU), and restore their states at the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed % 2**63)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def torch_seed() -> int:
    """Return a seed sampled from torch's global RNG, which the harness has seeded by the cell."""
    return int(torch.randint(2**31, (1,)).item())
