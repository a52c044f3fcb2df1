"""Where a number was measured: versions, processor, name of the machine, git state. No torch here."""

from __future__ import annotations

import hashlib
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
"""Joins the name of a host and that of its GPUs to the name of a machine."""
PACKAGES = ("metabench", "torch", "numpy", "learn2learn")


def provenance() -> dict[str, Any]:
    """Describe the process that starts a run: its host, and the git state."""
    return {**host(), "git": _git_state()}


def host() -> dict[str, Any]:
    """Return versions, processor, memory and name of the machine that this process runs on."""
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
    """Return the environment of a result: the run's provenance, the worker's own host, its device, the load.

    Where the device is a GPU, the machine's name includes the GPUs ("…-16-cores-with-1-nvidia-h100"): with
    other GPUs it is another machine. So are several machines that run a cell together ("…-2-machines"), whose
    cores are counted over all of them, as if each were like this one. A name from METABENCH_MACHINE stays.
    """
    environment = {**provenance, **host, **device}
    environment["load_at_start"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    name, nodes = host.get("machine"), device.get("nodes") or 1
    own = name == _machine(host.get("processor"), host.get("cores"))
    if device.get("gpu") and own:
        environment["machine"] += WITH_GPUS + _name(f"{device.get('gpus', 1)} {device['gpu']}")
    if nodes > 1:
        environment["cores"] *= nodes
        environment["machine"] += f"-{nodes}-machines" if own else ""
    return environment


def machine() -> str:
    """Return a short name for machines of this model, fit for a folder; METABENCH_MACHINE replaces it.

    A chosen name without a letter from a to z or a digit becomes "machine-" and a digest of it.
    """
    name = os.environ.get("METABENCH_MACHINE")
    if not name:
        return _machine(processor(), usable_cores())
    return _name(name) or f"machine-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def _machine(processor: Any, cores: Any) -> str:
    return _name(f"{processor}-{cores}-cores")


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def usable_cores() -> int:
    """Return how many physical cores this process may use, after affinity and the container's CPU quota."""
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
    """Return the name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return re.sub(r"\((R|TM)\)|CPU|Processor|@.*", "", line.split(":", 1)[1]).strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_state() -> str | None:
    """The commit of the checkout that metabench runs from, with "+changes" if there are uncommitted ones.

    Where it runs from a copy without git, METABENCH_GIT names the commit.
    """
    if named := os.environ.get("METABENCH_GIT"):
        return named
    folder = Path(__file__).parent.parent
    if "site-packages" in folder.parts:
        return None
    try:
        run = ["git", "-C", str(folder), "describe", "--always", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(run, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> str:
    """Return the command that started this process, without the path of its program.

    Bytes of an argument that are no text, such as those of a folder's name, are written as \\xff.
    """
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return command.encode(errors="surrogateescape").decode(errors="backslashreplace")
