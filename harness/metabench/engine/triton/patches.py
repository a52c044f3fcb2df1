"""What a convolution's kernel sees at each place, side by side, and the way back.

A convolution of many tasks is then one batched product. x: [images, H, W, C]; patches: [images, H', W', kh,
kw, C].
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def take(
    x_at, patches_at, count, height, width, channels, out_height, out_width, kernel_height, kernel_width,
    stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, BLOCK: tl.constexpr,
):  # fmt: skip
    """Copy to each number of the patches the number of x that it is, or zero outside of the image."""
    number = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel, rest = number % channels, number // channels
    tap_x, rest = rest % kernel_width, rest // kernel_width
    tap_y, rest = rest % kernel_height, rest // kernel_height
    out_x, rest = rest % out_width, rest // out_width
    out_y, image = rest % out_height, rest // out_height
    y = out_y * stride_y - pad_y + tap_y * dilation_y
    x = out_x * stride_x - pad_x + tap_x * dilation_x
    inside = (number < count) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    where = ((image * height + y) * width + x) * channels + channel
    tl.store(patches_at + number, tl.load(x_at + where, inside, 0.0), number < count)


@triton.jit
def add_back(
    patches_at, x_at, count, height, width, channels, out_height, out_width, stride_y, stride_x, pad_y,
    pad_x, dilation_y, dilation_x, KERNEL_HEIGHT: tl.constexpr, KERNEL_WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum for each number of x all numbers of the patches that are copies of it, always in one order."""
    number = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel, rest = number % channels, number // channels
    x, rest = rest % width, rest // width
    y, image = rest % height, rest // height
    total = tl.zeros((BLOCK,), x_at.dtype.element_ty)
    for tap_y in tl.static_range(KERNEL_HEIGHT):
        for tap_x in tl.static_range(KERNEL_WIDTH):
            from_y, from_x = y + pad_y - tap_y * dilation_y, x + pad_x - tap_x * dilation_x
            out_y, out_x = from_y // stride_y, from_x // stride_x
            inside = (number < count) & (from_y >= 0) & (from_x >= 0)
            inside &= (out_y * stride_y == from_y) & (out_x * stride_x == from_x)
            inside &= (out_y < out_height) & (out_x < out_width)
            place = (image * out_height + out_y) * out_width + out_x
            tap = tap_y * KERNEL_WIDTH + tap_x
            where = (place * (KERNEL_HEIGHT * KERNEL_WIDTH) + tap) * channels + channel
            total += tl.load(patches_at + where, inside, 0.0)
    tl.store(x_at + number, total, number < count)
