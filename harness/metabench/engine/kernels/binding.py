"""The compiled kernels as functions of tensors.

Activations are [T, n, H, W, C], a task's kernels [kh, kw, C, O], numbers per channel [T, C]. Kernels
[1, kh, kw, C, O] are shared by all tasks, and so is their gradient.
"""

from __future__ import annotations

import ctypes
import logging
import os
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from metabench.engine.kernels.build import BuildError, compiled
from metabench.engine.kernels.layers import Sliding, convolved_shape

SWITCH = "METABENCH_KERNELS"
REALS = {torch.float32: "float", torch.float64: "double"}

log = logging.getLogger("metabench.engine")


class Kernels:
    """The kernels for one floating-point type, on as many threads as torch has."""

    title = "kernels"

    def __init__(self, library: Path) -> None:
        code = ctypes.CDLL(str(library))
        pointer, stride, count = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
        arguments = {
            "convolve": [pointer, pointer, pointer, stride, pointer, pointer, stride, pointer, count],
            "input_gradient": [pointer, pointer, pointer, stride, pointer, count],
            "weight_gradient": [pointer, pointer, pointer, pointer, count, count],
            "norm": [pointer, ctypes.c_double, *[pointer] * 6, count],
            "norm_gradient": [*[pointer] * 10, count],
            "norm_second": [*[pointer] * 13, count],
            "descend": [*[pointer] * 5, stride, pointer, count],
            "adapted_loss": [*[pointer] * 9, stride, stride, *[pointer] * 3, count],
            "set_fork": [pointer],
        }
        for name, types in arguments.items():
            function = getattr(code, name)
            function.argtypes, function.restype = types, None
        with suppress(AttributeError, OSError):  # the OpenMP that torch has loaded: one pool for both
            code.set_fork(ctypes.cast(ctypes.CDLL(None).GOMP_parallel, pointer))
        self.code = code
        code.lanes.restype = count
        self.lanes: int = code.lanes()  # numbers in a register

    def convolve(self, x: Tensor, weight: Tensor, sliding: Sliding, *more: Tensor) -> Tensor:
        """Return x ∗ w, [T, n, H', W', O]; more: a second x and w, whose product is added."""
        geometry, out = _geometry(x.shape, weight.shape, sliding)
        x, (w, stride), y = x.contiguous(), _per_task(weight), x.new_empty(out)
        second: tuple[int | None, ...] = (None, None, 0)
        if more:
            x1, (w1, stride1) = more[0].contiguous(), _per_task(more[1])
            second = x1.data_ptr(), w1.data_ptr(), stride1
        self.code.convolve(geometry, x.data_ptr(), w.data_ptr(), stride, *second, y.data_ptr(), threads())
        return y

    def input_gradient(self, gy: Tensor, weight: Tensor, x_shape: torch.Size, sliding: Sliding) -> Tensor:
        """Return the gradient of x, [T, n, H, W, C], for gy [T, n, H', W', O] of y = x ∗ w."""
        geometry, _ = _geometry(x_shape, weight.shape, sliding)
        gy, (w, stride), gx = gy.contiguous(), _per_task(weight), gy.new_empty(x_shape)
        self.code.input_gradient(geometry, gy.data_ptr(), w.data_ptr(), stride, gx.data_ptr(), threads())
        return gx

    def weight_gradient(self, gy: Tensor, x: Tensor, weight_shape: torch.Size, sliding: Sliding) -> Tensor:
        """Return the gradient of w in its shape, for gy [T, n, H', W', O] of y = x ∗ w."""
        geometry, _ = _geometry(x.shape, weight_shape, sliding)
        gy, x, gw = gy.contiguous(), x.contiguous(), gy.new_empty(weight_shape)
        summed = weight_shape[0] == 1
        self.code.weight_gradient(geometry, gy.data_ptr(), x.data_ptr(), gw.data_ptr(), summed, threads())
        return gw

    def norm(
        self, x: Tensor, weight: Tensor, bias: Tensor, eps: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, m and r [T, C]: w (x − m) r + b of each task's channels, its ReLU where asked for."""
        shape, (w, _), (b, _) = _norm(x, weight, bias, relu), _per_task(weight), _per_task(bias)
        y, m = torch.empty_like(x), x.new_empty(x.shape[0], x.shape[-1])
        r = torch.empty_like(m)
        self.code.norm(
            shape,
            eps,
            x.data_ptr(),
            w.data_ptr(),
            b.data_ptr(),
            y.data_ptr(),
            m.data_ptr(),
            r.data_ptr(),
            threads(),
        )
        return y, m, r

    def norm_gradient(
        self, gy: Tensor, x: Tensor, y: Tensor, weight: Tensor, m: Tensor, r: Tensor, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x and of each task's weight and bias, [T, C]."""
        shape, (w, _), gy = _norm(x, weight, weight, relu), _per_task(weight), gy.contiguous()
        outputs = torch.empty_like(x), torch.empty_like(m), torch.empty_like(m)
        self.code.norm_gradient(shape, *(t.data_ptr() for t in (gy, x, y, w, m, r, *outputs)), threads())
        return outputs

    def norm_second(
        self, incoming: tuple[Tensor, Tensor, Tensor], gy: Tensor, x: Tensor, y: Tensor, weight: Tensor,
        m: Tensor, r: Tensor, relu: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Return the gradients of gy, x and weight, for `incoming` ones of what `norm_gradient` returns."""
        shape, (w, _), gy = _norm(x, weight, weight, relu), _per_task(weight), gy.contiguous()
        v, p, q = (gradient.contiguous() for gradient in incoming)
        outputs = torch.empty_like(x), torch.empty_like(x), torch.empty_like(m)
        self.code.norm_second(
            shape, *(t.data_ptr() for t in (v, p, q, gy, x, y, w, m, r, *outputs)), threads()
        )
        return outputs


def kernels_for(x: Tensor) -> Kernels | None:
    """Return the kernels that compute with x; None where torch's own operations do.

    That is on other devices and in other types, without a compiler, where METABENCH_KERNELS is 0, and for
    whoever reads the operations as they run (a tracer, the FLOP counter).
    """
    if x.device.type != "cpu" or x.dtype not in REALS or _switched_off():
        return None
    return None if _get_current_dispatch_mode() is not None else _loaded(REALS[x.dtype])


def status() -> str:
    """Return in words whether this machine computes with the kernels, and if not, why."""
    if _switched_off():
        return f"off ({SWITCH} is 0)"
    try:
        return f"compiled: {compiled('float')}"
    except BuildError as error:
        return f"off ({error})"


def _switched_off() -> bool:
    return os.environ.get(SWITCH) == "0"


@cache
def _loaded(real: str) -> Kernels | None:
    try:
        return Kernels(compiled(real))
    except (BuildError, OSError) as error:
        log.warning("torch's own operations are used in place of the CPU kernels: %s", error)
        return None


def threads() -> int:
    """Return how many threads the kernels run on: as many as torch has."""
    return torch.get_num_threads()


def _per_task(weight: Tensor) -> tuple[Tensor, int]:
    """Return what to read each task's weights from, and the distance from a task's to the next one's."""
    if weight.shape[0] == 1 or weight.stride(0) == 0:
        return weight[0].contiguous(), 0
    weight = weight.contiguous()
    return weight, weight.stride(0)


def _structure(name: str, fields: str) -> type[ctypes.Structure]:
    return type(
        name, (ctypes.Structure,), {"_fields_": [(field, ctypes.c_int64) for field in fields.split()]}
    )


_GEOMETRY = _structure(
    "Geometry",
    "tasks images inputs outputs rows columns out_rows out_columns kernel_rows kernel_columns "
    "stride_rows stride_columns padding_rows padding_columns dilation_rows dilation_columns",
)


@lru_cache(maxsize=1024)
def _geometry(
    x_shape: torch.Size, weight_shape: torch.Size, sliding: Sliding
) -> tuple[ctypes.Array[ctypes.c_int64], tuple[int, ...]]:
    """Return a convolution's `Geometry`, and the shape of y. Raises ValueError where shapes do not fit."""
    out = convolved_shape(x_shape, weight_shape, sliding)
    tasks, images, *plane, _ = x_shape
    _, *kernel, inputs, outputs = weight_shape
    sizes = (tasks, images, inputs, outputs, *plane, *out[2:4], *kernel)
    geometry = (ctypes.c_int64 * 16)(*sizes, *(number for pair in sliding for number in pair))
    return geometry, out


def _norm(x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> ctypes.Array[ctypes.c_int64]:
    """Return a batch norm's `Norm`."""
    tasks, channels = x.shape[0], x.shape[-1]
    strides = (0 if w.shape[0] == 1 or w.stride(0) == 0 else channels for w in (weight, bias))
    return (ctypes.c_int64 * 6)(tasks, x.numel() // (tasks * channels), channels, relu, *strides)
