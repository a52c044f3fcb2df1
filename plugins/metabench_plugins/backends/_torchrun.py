"""The torchrun command line that starts a cell's ranks, on one machine or on several. No torch here."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from metabench.errors import SettingError
from metabench.runner.rank_failures import RANK_PREFIX


def torchrun(
    argv: Sequence[str], ranks: int, nnodes: int = 1, rdzv_endpoint: str = "", rdzv_id: str = ""
) -> list[str]:
    """`argv` (a python command line) as the ranks of one cell.

    One node meets on a free port of its own loopback interface. Several nodes run this same command each,
    with the same `rdzv_endpoint` (host:port of one of them, which then holds the rendezvous) and `rdzv_id`.
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
        options.append("--local-addr=127.0.0.1")  # a host name that does not resolve would cost seconds
    job = Path(argv[-1])
    if job.is_absolute() and job.suffix == ".json":  # else torchrun would leave a folder in the system's /tmp
        options += [f"--log-dir={job.parent / 'torchrun'}", "--tee=3"]  # each line with its rank before it
    python, *rest = argv
    if python == sys.executable:
        return [python, "-m", "torch.distributed.run", *options, *rest]
    return [sys.executable, "-m", "torch.distributed.run", *options, "--no-python", *argv]


def check_nodes(name: str, ranks: int, nnodes: int, rdzv_endpoint: str) -> None:
    """Raises SettingError where ranks cannot be shared out to nodes, or nodes cannot meet."""
    if ranks % nnodes:
        raise SettingError(
            f"{name!r}: {ranks} ranks on {nnodes} nodes: 'ranks' must be a multiple of 'nnodes'"
        )
    if nnodes > 1 and not rdzv_endpoint:
        raise SettingError(f"{name!r}: several nodes need 'rdzv_endpoint' (host:port of one of them)")


def loopback() -> str | None:
    """The name of the loopback interface ("lo", "lo0"), where there is one."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(a.family == socket.AF_INET and a.address.startswith("127.") for a in addresses):
            return name
    return None


def rank_environment(nnodes: int) -> dict[str, str]:
    """Keeps the ranks of one machine on its loopback interface, and names each line's rank in the log."""
    environment = {
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": RANK_PREFIX,
        "PYTHONUNBUFFERED": "1",  # else torchrun would hold a rank's last lines back
    }
    name = loopback() if nnodes == 1 else None
    if name:
        environment["GLOO_SOCKET_IFNAME"] = environment["NCCL_SOCKET_IFNAME"] = name
    return environment
