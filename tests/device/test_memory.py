"""The memory of a process: its peak, and the errors that mean it ran out."""

import pytest
import torch

from metabench.device import Device
from metabench.device.memory import out_of_memory


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
