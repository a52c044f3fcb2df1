"""The torchrun command line that starts a cell's ranks, on one machine or on several. No torch here."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from metabench.errors import SettingError
from metabench.records import RANK_PREFIX


@dataclass(frozen=True)
class Nodes:
    """The machines that run one cell together: `count` of them, meeting at `endpoint` (host:port) under `id`.

    They come from METABENCH_NODES, METABENCH_RENDEZVOUS and METABENCH_RENDEZVOUS_ID and are no settings: no
    suite and no result makes this machine connect to another.
    """

    count: int = 1
    endpoint: str = ""
    id: str = ""

    @classmethod
    def here(cls) -> Nodes:
        """Return what the environment says; raises SettingError for what no run can mean."""
        text = os.environ.get("METABENCH_NODES", "") or "1"
        endpoint = os.environ.get("METABENCH_RENDEZVOUS", "")
        if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
            raise SettingError(f"METABENCH_NODES must be a number of machines ≥ 1, got {text!r}")
        if int(text) > 1 and not endpoint:
            raise SettingError(
                f"METABENCH_NODES={text} needs METABENCH_RENDEZVOUS (host:port of one of the machines)"
            )
        return cls(int(text), endpoint, os.environ.get("METABENCH_RENDEZVOUS_ID", ""))

    def indivisible(self, ranks: int) -> str | None:
        """Return why these ranks cannot be shared out to the machines, or None."""
        if ranks % self.count:
            return f"{ranks} ranks on {self.count} machines: METABENCH_NODES must divide the ranks"
        return None


def torchrun(argv: Sequence[str], ranks: int, nodes: Nodes) -> list[str]:
    """Return the command that runs `argv` (a python command line) as the ranks of one cell.

    The rendezvous of a single machine is a free port of its loopback interface. Several machines each run
    this command, with the same rendezvous, which the machine of the endpoint hosts.
    """
    options = [
        f"--nnodes={nodes.count}",
        f"--nproc-per-node={ranks // nodes.count}",
        "--rdzv-backend=c10d",
    ]
    if nodes.count == 1:  # looking up a host name that does not resolve takes seconds
        options += ["--rdzv-endpoint=localhost:0", "--local-addr=127.0.0.1"]
    else:
        options += [f"--rdzv-endpoint={nodes.endpoint}", *([f"--rdzv-id={nodes.id}"] if nodes.id else [])]
    job = Path(argv[-1])
    if job.is_absolute() and job.suffix == ".json":  # else torchrun leaves a folder in the system's /tmp
        options += [f"--log-dir={job.parent / 'torchrun'}", "--tee=3"]  # each line begins with its rank
    python, *rest = argv
    if python == sys.executable:
        return [python, "-m", "torch.distributed.run", *options, *rest]
    return [sys.executable, "-m", "torch.distributed.run", *options, "--no-python", *argv]


def machines() -> int:
    """Return on how many machines the ranks of this one run, as torchrun started them."""
    return int(os.environ["WORLD_SIZE"]) // local_ranks()


def local_ranks() -> int:
    """Return how many ranks run on this machine, as torchrun started them."""
    return int(os.environ["LOCAL_WORLD_SIZE"])


def loopback() -> str | None:
    """Return the name of the loopback interface ("lo", "lo0"), or None."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(
            address.family == socket.AF_INET and address.address.startswith("127.") for address in addresses
        ):
            return name
    return None


def rank_environment(nodes: Nodes) -> dict[str, str]:
    """Return variables: a single machine's ranks use its loopback interface; log lines begin with a rank."""
    environment = {
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": RANK_PREFIX,
        "PYTHONUNBUFFERED": "1",  # else torchrun buffers a rank's last lines
    }
    name = loopback() if nodes.count == 1 else None
    if name:
        environment["GLOO_SOCKET_IFNAME"] = environment["NCCL_SOCKET_IFNAME"] = name
    return environment
