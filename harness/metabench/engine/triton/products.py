"""Batched products on tensor cores that lose almost nothing of float32.

Each factor is the sum of a TF32 number and a remainder; three products of these give 20 bits of the 24 and
more (Ootomo and Yokota 2022, "Recovering single precision accuracy from tensor cores").
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 64  # rows and columns of a program
DEPTH = 32  # of a factor that is loaded at once


@triton.jit
def _product(
    a_at, b_at, c_at, rows, columns, depth, a_batch, a_row, a_depth, b_batch, b_depth, b_column, c_batch,
    SPLIT: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Compute a tile of c = a b; strides say how a and b lie, c is contiguous."""
    batch = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, depth, DEPTH):
        inner = start + tl.arange(0, DEPTH)
        a_where = batch * a_batch + row[:, None] * a_row + inner[None, :] * a_depth
        b_where = batch * b_batch + inner[:, None] * b_depth + column[None, :] * b_column
        a = tl.load(a_at + a_where, (row < rows)[:, None] & (inner < depth)[None, :], 0.0)
        b = tl.load(b_at + b_where, (inner < depth)[:, None] & (column < columns)[None, :], 0.0)
        total = tl.dot(a, b, total, input_precision="tf32x3" if SPLIT else "ieee")
    where = batch * c_batch + row[:, None] * columns + column[None, :]
    tl.store(c_at + where, total, (row < rows)[:, None] & (column < columns)[None, :])


def split_product(a: Tensor, b: Tensor, split: bool = True) -> Tensor:
    """Return a b for float32 a [n, R, K] and b [n, K, C]: [n, R, C]; split: as TF32×3, else in full."""
    (batches, rows, depth), columns = a.shape, b.shape[2]
    c = torch.empty(batches, rows, columns, dtype=torch.float32, device=a.device)
    grid = (batches, triton.cdiv(rows, BLOCK), triton.cdiv(columns, BLOCK))
    _product[grid](
        a, b, c, rows, columns, depth, *a.stride(), *b.stride(), rows * columns, split, BLOCK, DEPTH
    )
    return c
