"""Which NVIDIA GPUs this machine has, cheapest check first. torch is imported only if a driver exists."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

PRECISIONS = ("float32", "tf32x3", "tf32", "bf16", "float64")
PRECISION_HELP = "number format (float32: TF32 off; tf32x3: convolutions as three TF32 products each)"
DRIVER_FILES = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))


def why_no_gpus(wanted: int) -> str | None:
    """Return why this machine does not have `wanted` GPUs, or None."""
    if not any(path.exists() for path in DRIVER_FILES) and shutil.which("nvidia-smi") is None:
        return "this machine has no NVIDIA driver"
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA: install a CUDA build of torch"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        return "the NVIDIA driver offers no GPU to this process: see nvidia-smi and CUDA_VISIBLE_DEVICES"
    if count < wanted:
        return f"{wanted} GPUs are needed, there {'is' if count == 1 else 'are'} {count}"
    return None


def why_not_precision(precision: str) -> str | None:
    """Return why GPUs here do not compute in this number format, or None."""
    if precision == "tf32x3" and find_spec("triton") is None:
        return "precision 'tf32x3' needs Triton, which torch for CUDA brings along on Linux"
    return None


def driver_version(path: Path = DRIVER_FILES[0]) -> str | None:
    """Return the version of NVIDIA's driver as the Linux kernel reports it."""
    try:
        match = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)*)\s", path.read_text())
    except OSError:
        return None
    return match[1] if match else None


def cuda_environment(deterministic: bool) -> dict[str, str]:
    """Return variables for CUDA's libraries: a fixed workspace, which deterministic results need."""
    return {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if deterministic else {}
