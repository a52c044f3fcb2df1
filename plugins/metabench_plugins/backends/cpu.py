"""One process on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from metabench.contracts import Backend
from metabench.device.host import usable_cores
from metabench.settings import setting
from metabench_plugins.backends._cores import affinity_problem, bind, thread_environment

if TYPE_CHECKING:
    from metabench.device import Device


@dataclass(frozen=True, kw_only=True)
class Cpu(Backend):
    """One process on the CPU."""

    name: ClassVar[str] = "cpu"
    threads: int = setting(0, "threads of one operation (0: one per physical core)", at_least=0)
    affinity: tuple[int, ...] = setting((), "numbers of the cores to stay on (none: any)", at_least=0)
    precision: str = setting("float32", "number format", choices=("float32", "float64", "bf16"))
    deterministic: bool = setting(False, "only operations that repeat bit by bit")
    memory_gib: float = setting(
        0.0, "GiB that the cell may use beyond Python and torch themselves (0: no limit; Linux)", at_least=0
    )

    def available(self) -> str | None:
        """A reason where a setting asks for what this machine cannot give."""
        if self.memory_gib and sys.platform != "linux":
            return "'memory_gib' needs Linux: this system does not limit a process's memory"
        return affinity_problem(self.affinity)

    def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """The same command, with as many threads as were asked for."""
        return list(argv), thread_environment(self._threads())

    def open(self) -> Device:
        """Binds the process, sets threads and number format, and limits the memory."""
        bind(self.affinity)
        import torch

        from metabench.device import Device
        from metabench_plugins.backends._numerics import set_numerics

        torch.set_num_threads(self._threads())
        numerics = set_numerics(self.precision, self.deterministic)
        if self.memory_gib:
            limit_memory(self.memory_gib)
        return Device(
            dtype=numerics.dtype,
            autocast=numerics.autocast,
            facts={
                "backend": self.name,
                "precision": self.precision,
                "deterministic": self.deterministic,
                "affinity": list(self.affinity),
                "memory_limit_gib": self.memory_gib or None,
            },
        )

    def _threads(self) -> int:
        return self.threads or len(self.affinity) or usable_cores()


def limit_memory(gib: float) -> None:
    """Lets this process take so many GiB more than it has; an allocation beyond them raises.

    The limit is on data (RLIMIT_DATA), what the process may write to: torch maps many GiB of libraries and
    address space that it never fills, so that a limit on address space would say nothing.
    """
    import resource  # absent on Windows

    import torch

    # What a cell needs whatever its size comes first: the pool of threads (without memory for their stacks
    # the process would be aborted), and the modules that torch imports with the first optimizer.
    torch.ones(1 << 20).add_(1)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    status = Path("/proc/self/status").read_text()
    held_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:"))
    limit = held_kib * 1024 + int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
