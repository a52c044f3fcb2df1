"""Batch norm with ReLU as one kernel each: forward, its gradient, and the gradient of that.

A program has some channels of one task, whose rows (examples times places) it goes through several times:
they are few, and stay in the processor's cache. x, y and their gradients are [T, rows, C], numbers per
channel [T, C].
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _place(task, channels, CHANNELS: tl.constexpr):
    """Return this program's channels, whether each exists, and where its numbers per channel lie."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    return channel, channel < channels, task * channels + channel


@triton.jit
def _tile(task, start, rows, channel, channels, ROWS: tl.constexpr):
    """Return where a tile of rows lies, and which of its numbers exist."""
    row = start + tl.arange(0, ROWS)
    where = (task * rows + row)[:, None] * channels + channel[None, :]
    return where, (row < rows)[:, None] & (channel < channels)[None, :]


@triton.jit
def forward(
    x_at, w_at, b_at, y_at, m_at, r_at, rows, channels, w_stride, b_stride,
    EPS: tl.constexpr, RELU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute y = w (x − m) r + b, or its positive part, and m and r."""
    task = tl.program_id(0).to(tl.int64)
    channel, exists, out = _place(task, channels, CHANNELS)
    zero = tl.zeros((CHANNELS,), x_at.dtype.element_ty)
    total = zero
    for start in range(0, rows, ROWS):
        where, present = _tile(task, start, rows, channel, channels, ROWS)
        total += tl.sum(tl.load(x_at + where, present, 0.0), 0)
    m = total / rows
    total = zero
    for start in range(0, rows, ROWS):
        where, present = _tile(task, start, rows, channel, channels, ROWS)
        apart = tl.where(present, tl.load(x_at + where, present, 0.0) - m[None, :], 0.0)
        total += tl.sum(apart * apart, 0)
    r = 1.0 / tl.sqrt(total / rows + EPS)
    tl.store(m_at + out, m, exists)
    tl.store(r_at + out, r, exists)
    scale = tl.load(w_at + task * w_stride + channel, exists, 0.0) * r
    shift = tl.load(b_at + task * b_stride + channel, exists, 0.0)
    for start in range(0, rows, ROWS):
        where, present = _tile(task, start, rows, channel, channels, ROWS)
        y = (tl.load(x_at + where, present, 0.0) - m[None, :]) * scale[None, :] + shift[None, :]
        if RELU:
            y = tl.where(y < 0.0, 0.0, y)  # not a number stays so
        tl.store(y_at + where, y, present)


@triton.jit
def gradient(
    gy_at, x_at, y_at, w_at, m_at, r_at, gx_at, gw_at, gb_at, rows, channels, w_stride,
    RELU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute x̄ = w r (ȳ − mean(ȳ) − x̂ mean(ȳ x̂)), w̄ = Σ ȳ x̂ and b̄ = Σ ȳ, with x̂ = (x − m) r."""
    task = tl.program_id(0).to(tl.int64)
    channel, exists, out = _place(task, channels, CHANNELS)
    m, r = tl.load(m_at + out, exists, 0.0), tl.load(r_at + out, exists, 0.0)
    gw = tl.zeros((CHANNELS,), x_at.dtype.element_ty)
    gb = gw
    for start in range(0, rows, ROWS):
        where, present = _tile(task, start, rows, channel, channels, ROWS)
        normal = (tl.load(x_at + where, present, 0.0) - m[None, :]) * r[None, :]
        gy = tl.load(gy_at + where, present, 0.0)
        if RELU:
            gy = tl.where(tl.load(y_at + where, present, 0.0) <= 0.0, 0.0, gy)
        gw += tl.sum(gy * normal, 0)
        gb += tl.sum(gy, 0)
    tl.store(gw_at + out, gw, exists)
    tl.store(gb_at + out, gb, exists)
    scale = tl.load(w_at + task * w_stride + channel, exists, 0.0) * r
    of_normal, of_gy = gw / rows, gb / rows
    for start in range(0, rows, ROWS):
        where, present = _tile(task, start, rows, channel, channels, ROWS)
        normal = (tl.load(x_at + where, present, 0.0) - m[None, :]) * r[None, :]
        gy = tl.load(gy_at + where, present, 0.0)
        if RELU:
            gy = tl.where(tl.load(y_at + where, present, 0.0) <= 0.0, 0.0, gy)
        gx = scale[None, :] * (gy - of_gy[None, :] - normal * of_normal[None, :])
        tl.store(gx_at + where, gx, present)


@triton.jit
def second(
    v_at, p_at, q_at, gy_at, x_at, y_at, w_at, m_at, r_at, to_gy_at, to_x_at, to_w_at, rows, channels,
    w_stride, RELU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of ȳ, x and w, for incoming gradients v, p, q of x̄, w̄, b̄.

    With the means v̄, ȳ, a = mean(v x̂), c = mean(ȳ x̂) and s = mean(v ȳ) − v̄ ȳ − a c:
      of ȳ: w r (v − v̄ − x̂ a) + p x̂ + q;  of w: rows r s;
      of x: r (h − mean(h) − x̂ mean(h x̂)) − x̂ w r² s,  h = p ȳ − w r (c v + a ȳ).
    """
    task = tl.program_id(0).to(tl.int64)
    channel, exists, out = _place(task, channels, CHANNELS)
    m, r = tl.load(m_at + out, exists, 0.0), tl.load(r_at + out, exists, 0.0)
    p, q = tl.load(p_at + out, exists, 0.0), tl.load(q_at + out, exists, 0.0)
    w = tl.load(w_at + task * w_stride + channel, exists, 0.0)
    v_mean = tl.zeros((CHANNELS,), x_at.dtype.element_ty)
    gy_mean, a, c, product = v_mean, v_mean, v_mean, v_mean
    for start in range(0, rows, ROWS):
        where, present = _tile(task, start, rows, channel, channels, ROWS)
        normal = (tl.load(x_at + where, present, 0.0) - m[None, :]) * r[None, :]
        v, gy = tl.load(v_at + where, present, 0.0), tl.load(gy_at + where, present, 0.0)
        if RELU:
            gy = tl.where(tl.load(y_at + where, present, 0.0) <= 0.0, 0.0, gy)
        v_mean += tl.sum(v, 0)
        gy_mean += tl.sum(gy, 0)
        a += tl.sum(v * normal, 0)
        c += tl.sum(gy * normal, 0)
        product += tl.sum(v * gy, 0)
    v_mean, gy_mean, a, c = v_mean / rows, gy_mean / rows, a / rows, c / rows
    s = product / rows - v_mean * gy_mean - a * c
    tl.store(to_w_at + out, r * s * rows, exists)
    of_v, of_gy = -w * r * c, p - w * r * a
    h_mean = of_v * v_mean + of_gy * gy_mean
    hx_mean = of_v * a + of_gy * c
    for start in range(0, rows, ROWS):
        where, present = _tile(task, start, rows, channel, channels, ROWS)
        normal = (tl.load(x_at + where, present, 0.0) - m[None, :]) * r[None, :]
        v, gy = tl.load(v_at + where, present, 0.0), tl.load(gy_at + where, present, 0.0)
        to_gy = (w * r)[None, :] * (v - v_mean[None, :] - normal * a[None, :])
        to_gy += p[None, :] * normal + q[None, :]
        if RELU:
            cut = tl.load(y_at + where, present, 0.0) <= 0.0
            gy, to_gy = tl.where(cut, 0.0, gy), tl.where(cut, 0.0, to_gy)
        h = of_v[None, :] * v + of_gy[None, :] * gy
        to_x = r[None, :] * (h - h_mean[None, :] - normal * hx_mean[None, :])
        to_x -= normal * (w * r * r * s)[None, :]
        tl.store(to_gy_at + where, to_gy, present)
        tl.store(to_x_at + where, to_x, present)
