"""What a reader must know of where a number was made: versions, machine, git state. No torch here."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
WITH_GPUS = "-with-"
"""Stands in a machine's name between the host's and that of its GPUs."""
PACKAGES = ("metabench", "torch", "numpy", "learn2learn")


def provenance() -> dict[str, Any]:
    """What the process that asks for a run says of its results: where it runs itself, and the git state."""
    return {**host(), "git": _git_state()}


def host() -> dict[str, Any]:
    """Versions, processor, memory and name of the machine that this process runs on."""
    return {
        "packages": _versions(PACKAGES),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "machine": machine(),
    }


def describe(
    provenance: Mapping[str, Any], host: Mapping[str, Any], device: Mapping[str, Any]
) -> dict[str, Any]:
    """The environment of one result: the run's provenance, but the worker's own host, its device, the load.

    Where the device is a GPU, the machine's name has the GPUs in it ("…-16-cores-with-1-nvidia-h100"): other
    GPUs make another machine. A name that METABENCH_MACHINE gave stays as it is.
    """
    told = {**provenance, **host, **device}
    told["load_at_start"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    name = host.get("machine")
    if device.get("gpu") and name == _machine(host.get("processor"), host.get("cores")):
        told["machine"] = name + WITH_GPUS + _name(f"{device.get('gpus', 1)} {device['gpu']}")
    return told


def machine() -> str:
    """A short name for machines of this make, fit for a folder; METABENCH_MACHINE replaces it."""
    given = os.environ.get("METABENCH_MACHINE")
    return _name(given) if given else _machine(processor(), usable_cores())


def _machine(processor: Any, cores: Any) -> str:
    return _name(f"{processor}-{cores}-cores")


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def usable_cores() -> int:
    """Physical cores that this process may run on, after affinity and the container's CPU quota."""
    logical = psutil.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    physical = psutil.cpu_count(logical=False) or logical
    return max(1, min(allowed, physical, _quota(logical)))


def _quota(logical: int) -> int:
    try:
        quota, period = CPU_QUOTA.read_text().split()
        return int(quota) // int(period)
    except (OSError, ValueError):  # no control groups here, or "max": no quota
        return logical


@cache
def processor() -> str:
    """The processor's own name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return re.sub(r"\((R|TM)\)|CPU|Processor|@.*", "", line.split(":", 1)[1]).strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git_state() -> str | None:
    """The commit of the checkout that metabench runs from, with "+changes" where it has some."""
    folder = Path(__file__).parent.parent
    if "site-packages" in folder.parts:
        return None
    try:
        run = ["git", "-C", str(folder), "describe", "--always", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(run, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> str:
    """The command that started this process, with the paths of the interpreter left out."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
