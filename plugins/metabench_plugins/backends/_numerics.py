"""Number formats and switches of numerics, set explicitly so that no default of torch decides a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from metabench.device import set_split_products

Precision = Literal["float32", "tf32x3", "tf32", "bf16", "float64"]


@dataclass(frozen=True)
class Numerics:
    """The name of a precision, the float type of tensors, and the type of autocast (None: no autocast)."""

    precision: str
    dtype: torch.dtype
    autocast: torch.dtype | None


def set_numerics(precision: str, deterministic: bool) -> Numerics:
    """Switch torch to this precision; return the types of tensors and of autocast.

    float32 computes products in full float32 (TF32 off), tf32 lets an NVIDIA GPU round their inputs to 10
    bits of mantissa, tf32x3 lets the engine's kernels sum three such products, which is near float32, bf16
    runs the learner under autocast with float32 weights, float64 is the reference.
    deterministic: only algorithms whose results repeat bit by bit; torch raises where an operation has none.
    """
    internal = "tf32" if precision == "tf32" else "ieee"
    _set_products(internal)
    set_split_products(precision == "tf32x3")
    torch.backends.cudnn.benchmark = False  # it may choose another algorithm in every run
    if deterministic != torch.are_deterministic_algorithms_enabled():  # a call imports torch's compiler
        torch.use_deterministic_algorithms(deterministic)
    if precision == "float64":
        return Numerics(precision, torch.float64, None)
    return Numerics(precision, torch.float32, torch.bfloat16 if precision == "bf16" else None)


def _set_products(internal: str) -> None:
    cudnn: Any = torch.backends.cudnn  # torch declares no types for its switches
    mkldnn: Any = torch.backends.mkldnn
    # The older switches too: torch's compiler and other libraries read them, and torch raises where they
    # contradict the newer ones, which are more exact and come last.
    torch.set_float32_matmul_precision("high" if internal == "tf32" else "highest")
    torch.backends.cuda.matmul.allow_tf32 = internal == "tf32"
    cudnn.allow_tf32 = internal == "tf32"
    torch.backends.cuda.matmul.fp32_precision = internal
    cudnn.conv.fp32_precision = internal
    cudnn.rnn.fp32_precision = internal
    mkldnn.matmul.fp32_precision = "ieee"
    mkldnn.conv.fp32_precision = "ieee"
