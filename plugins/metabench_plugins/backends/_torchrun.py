"""The torchrun command line that starts a cell's ranks, on one machine or on several. No torch here."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from metabench.errors import SettingError
from metabench.records import RANK_PREFIX


def torchrun(
    argv: Sequence[str], ranks: int, nnodes: int = 1, rdzv_endpoint: str = "", rdzv_id: str = ""
) -> list[str]:
    """Return the command that runs `argv` (a python command line) as the ranks of one cell.

    The rendezvous of a single node is a free port of its loopback interface. Several nodes each run this
    command, with the same `rdzv_endpoint` (host:port of one of them, which hosts the rendezvous) and
    `rdzv_id`.
    """
    options = [
        f"--nnodes={nnodes}",
        f"--nproc-per-node={ranks // nnodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={rdzv_endpoint or 'localhost:0'}",
    ]
    if rdzv_id:
        options.append(f"--rdzv-id={rdzv_id}")
    if nnodes == 1:
        options.append("--local-addr=127.0.0.1")  # looking up a host name that does not resolve takes seconds
    job = Path(argv[-1])
    if job.is_absolute() and job.suffix == ".json":  # else torchrun leaves a folder in the system's /tmp
        options += [f"--log-dir={job.parent / 'torchrun'}", "--tee=3"]  # each line begins with its rank
    python, *rest = argv
    if python == sys.executable:
        return [python, "-m", "torch.distributed.run", *options, *rest]
    return [sys.executable, "-m", "torch.distributed.run", *options, "--no-python", *argv]


def check_nodes(name: str, ranks: int, nnodes: int, rdzv_endpoint: str) -> None:
    """Raise SettingError where ranks cannot be divided among nodes, or nodes have no rendezvous."""
    if ranks % nnodes:
        raise SettingError(
            f"{name!r}: {ranks} ranks on {nnodes} nodes: 'ranks' must be a multiple of 'nnodes'"
        )
    if nnodes > 1 and not rdzv_endpoint:
        raise SettingError(f"{name!r}: several nodes need 'rdzv_endpoint' (host:port of one of them)")


def loopback() -> str | None:
    """Return the name of the loopback interface ("lo", "lo0"), or None."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(
            address.family == socket.AF_INET and address.address.startswith("127.") for address in addresses
        ):
            return name
    return None


def rank_environment(nnodes: int) -> dict[str, str]:
    """Return variables: a single node's ranks use its loopback interface; log lines begin with a rank."""
    environment = {
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": RANK_PREFIX,
        "PYTHONUNBUFFERED": "1",  # else torchrun buffers a rank's last lines
    }
    name = loopback() if nnodes == 1 else None
    if name:
        environment["GLOO_SOCKET_IFNAME"] = environment["NCCL_SOCKET_IFNAME"] = name
    return environment
