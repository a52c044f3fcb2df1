"""Makes code repeatable that draws from the global generators, and leaves those as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Sets the global generators of python, numpy and torch (CPU) by `seed`, and puts their states back."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed % 2**63)
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


def torch_seed() -> int:
    """A seed drawn from torch's global generator, which the harness has seeded by the cell."""
    return int(torch.randint(2**31, (1,)).item())
