"""Memory of meta-batches: used again, and never while somebody holds it."""

from __future__ import annotations

import gc

import torch
from torch import nn

from metabench.data.buffers import KEPT, SIZES, Buffers

SHAPE = (3, 5)


def test_memory_is_used_again_once_it_is_free() -> None:
    buffers = Buffers()
    first = buffers.take(SHAPE, torch.float32)
    place = first.data_ptr()
    del first
    assert buffers.take(SHAPE, torch.float32).data_ptr() == place


def test_memory_that_somebody_holds_is_left_alone() -> None:
    buffers = Buffers()
    held = [buffers.take(SHAPE, torch.float32).fill_(n) for n in range(KEPT + 3)]
    assert len({buffer.data_ptr() for buffer in held}) == KEPT + 3
    assert [float(buffer.sum()) for buffer in held] == [15.0 * n for n in range(KEPT + 3)]


def test_a_view_holds_its_memory() -> None:
    buffers = Buffers()
    view = buffers.take(SHAPE, torch.float32).fill_(7).view(5, 3)[2:, :1]
    buffers.take(SHAPE, torch.float32).fill_(0)
    assert (view == 7).all()


def test_an_autograd_graph_holds_its_memory() -> None:
    buffers, layer = Buffers(), nn.Linear(5, 2)
    loss = layer(buffers.take(SHAPE, torch.float32).fill_(2)).sum()
    gc.collect()
    buffers.take(SHAPE, torch.float32).fill_(100)
    loss.backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad, torch.full((2, 5), 6.0))


def test_sizes_and_types_are_kept_apart_and_few() -> None:
    buffers = Buffers()
    for size in range(1, 3 * SIZES):
        for dtype in (torch.float32, torch.float64, torch.uint8):
            tensor = buffers.take((size, 2), dtype)
            assert (tuple(tensor.shape), tensor.dtype) == ((size, 2), dtype)
    assert len(buffers._kept) <= SIZES + 1
