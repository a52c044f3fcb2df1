"""The memory of a process: its peak, the blocks that it keeps, and the errors that mean it ran out."""

import ctypes
import subprocess
import sys

import pytest
import torch

from metabench.device import Device
from metabench.device.memory import out_of_memory

FAULTS_OF_STEPS = """
import resource, sys, torch
from metabench.device.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
mib = 2**20

def step():
    held = [torch.ones(size * mib // 4) for size in (1, 40, 3, 100)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(2):
    step()
before = faults()
for _ in range(3):
    step()
print(faults() - before)
"""


def faults_of_steps(mode: str) -> int:
    """Page faults of three steps that each allocate and free 144 MiB, in a process of its own."""
    argv = [sys.executable, "-c", FAULTS_OF_STEPS, mode]
    return int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def test_peak_memory_grows_with_what_was_held() -> None:
    device = Device()
    before = device.peak_memory()["host"]

    torch.ones(int(before) + (64 << 20), dtype=torch.uint8)  # beyond any earlier peak of this process

    assert device.peak_memory()["host"] >= before + (64 << 20)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm`"), False),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, is_memory: bool) -> None:
    assert out_of_memory(error) is is_memory


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_steps_fault_no_page_in_anew_whatever_the_size_of_their_activations() -> None:
    faults = faults_of_steps("keep")
    assert 4 * faults < faults_of_steps("as it comes")  # some of the system's own; seen: 0 against 107,526
