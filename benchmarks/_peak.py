"""What this machine's cores can compute: the fastest of three ways to keep them busy with float32.

A product of large matrices by torch, a dense convolution by torch (oneDNN), and a loop of nothing but fused
multiply-adds in registers. A library's own product is not the peak: on some processors it is a third of it.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

from metabench.engine.kernels.build import compiler

SIDE = 1024  # of the matrices
CHANNELS, PLANE, IMAGES = 64, 28, 16
ROUNDS = 200_000
FUSED_LOOP = """
typedef float Vector __attribute__((vector_size(64)));
constexpr int SUMS = 24;
extern "C" double multiply_add(long rounds) {
    Vector sums[SUMS], scale, shift;
    for (int lane = 0; lane < 16; lane++) {
        scale[lane] = 0.999f, shift[lane] = 1e-3f;
        for (int i = 0; i < SUMS; i++) sums[i][lane] = i + lane;
    }
    for (long round = 0; round < rounds; round++)
        for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * scale + shift;
    double total = 0;
    for (int i = 0; i < SUMS; i++)
        for (int lane = 0; lane < 16; lane++) total += sums[i][lane];
    return total;
}
"""
FUSED_FLOPS = 2 * 24 * 16 * ROUNDS


def peak(clock: Callable[[], float]) -> dict[str, float]:
    """Return the FLOP/s of each way on torch's threads at this moment, the best of some runs of each.

    clock: seconds.
    """
    ways = {"matrix product": _product(), "convolution": _convolution()}
    fused = _fused()
    if fused is not None:
        ways["multiply-add loop"] = fused
    return {
        name: flops / min(_seconds(work, clock) for _ in range(3)) for name, (work, flops) in ways.items()
    }


def _product() -> tuple[Callable[[], object], float]:
    a = torch.ones(SIDE, SIDE)
    return lambda: torch.mm(a, a), 2.0 * SIDE**3


def _convolution() -> tuple[Callable[[], object], float]:
    x = torch.ones(IMAGES, CHANNELS, PLANE, PLANE).to(memory_format=torch.channels_last)
    kernels = torch.ones(CHANNELS, CHANNELS, 3, 3).to(memory_format=torch.channels_last)
    return lambda: F.conv2d(x, kernels), 2.0 * 9 * CHANNELS**2 * (PLANE - 2) ** 2 * IMAGES


def _fused() -> tuple[Callable[[], object], float] | None:
    function = _fused_loop()
    if function is None:
        return None
    threads = torch.get_num_threads()

    def work() -> None:
        with ThreadPoolExecutor(threads) as pool:  # ctypes lets go of Python's lock during the call
            list(pool.map(function, [ROUNDS] * threads))

    return work, float(FUSED_FLOPS * threads)


@cache
def _fused_loop() -> Callable[[int], float] | None:
    """Compile the loop; None without a C++ compiler."""
    path = compiler()
    if path is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "loop.cpp", Path(folder) / "loop.so"
        source.write_text(FUSED_LOOP)
        flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
        subprocess.run([path, *flags, str(source), "-o", str(library)], check=True, capture_output=True)
        function = ctypes.CDLL(str(library)).multiply_add
    function.argtypes, function.restype = [ctypes.c_long], ctypes.c_double
    loop: Callable[[int], float] = function
    return loop


def _seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    work()
    return clock() - started
