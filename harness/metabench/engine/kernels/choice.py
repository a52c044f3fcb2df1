"""The kernels that a network's layers run on: the CPU's, the GPU's, or none."""

from __future__ import annotations

import logging
import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from metabench.device.products import split_products
from metabench.engine.kernels.binding import REALS, SWITCH, kernels_for
from metabench.engine.kernels.layers import LayerKernels
from metabench.errors import Skip

log = logging.getLogger("metabench.engine")


def layer_kernels(x: Tensor) -> LayerKernels | None:
    """Return the kernels for layers of x's device and type; None where torch's own operations compute.

    On a GPU they are Triton's, once they have computed there what torch's operations do. The first call for
    a device and type decides; a network's is when it is built.
    """
    if x.device.type != "cuda" and not _interpreted():
        return kernels_for(x)
    if os.environ.get(SWITCH) == "0" or _get_current_dispatch_mode() is not None or x.dtype not in REALS:
        return None
    kernels = _of_gpu(x.device, x.dtype, split_products())
    if kernels is None and split_products():
        raise Skip("precision 'tf32x3' needs Triton's kernels, which cannot be used here: see the log")
    return kernels


def _interpreted() -> bool:
    """Return whether Triton runs its kernels on the CPU, number by number, to check them without a GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _of_gpu(device: torch.device, dtype: torch.dtype, split: bool) -> LayerKernels | None:
    if find_spec("triton") is None:
        log.warning("torch's own operations compute on the GPU: Triton is not installed")
        return None
    from metabench.engine.triton.binding import TritonKernels
    from metabench.engine.triton.check import largest_error

    kernels = TritonKernels("tf32x3" if split else "torch")
    most = 1e-9 if dtype == torch.float64 else 5e-3  # the latter: TF32 products round to 2**-11
    try:
        error = largest_error(kernels, device, dtype)
    except Exception as raised:  # a compiler for another GPU or driver may raise anything
        log.warning("torch's own operations compute on the GPU: Triton's kernels fail there (%s)", raised)
        return None
    if not error < most:
        log.warning(
            "torch's own operations compute on the GPU: Triton's kernels are off by %.1e there", error
        )
        return None
    return kernels
