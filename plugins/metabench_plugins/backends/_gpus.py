"""Which NVIDIA GPUs this machine offers, asked in the order of cost. torch is imported where a driver is."""

import re
import shutil
from pathlib import Path

DRIVER_FILES = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))


def why_no_gpus(wanted: int) -> str | None:
    """Why this machine has no `wanted` GPUs to offer, or None."""
    if not any(path.exists() for path in DRIVER_FILES) and shutil.which("nvidia-smi") is None:
        return "this machine has no NVIDIA driver"
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA: install a CUDA build of torch"
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found == 0:
        return "the NVIDIA driver offers no GPU to this process: see nvidia-smi and CUDA_VISIBLE_DEVICES"
    if found < wanted:
        return f"{wanted} GPUs are needed, there {'is' if found == 1 else 'are'} {found}"
    return None


def driver_version(path: Path = DRIVER_FILES[0]) -> str | None:
    """The version of NVIDIA's driver by the kernel's own word (Linux), without any of NVIDIA's libraries."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)*)\s", path.read_text())
    except OSError:
        return None
    return found[1] if found else None


def cuda_environment(deterministic: bool) -> dict[str, str]:
    """What CUDA's libraries read when they start: a fixed workspace, where results must repeat bit by bit."""
    return {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if deterministic else {}
