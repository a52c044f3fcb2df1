"""Several processes on CPUs that share the tasks of each step; torchrun starts them, gloo connects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from metabench import Backend, setting
from metabench.device.host import usable_cores
from metabench_plugins.backends._cores import affinity_problem, bind, thread_environment
from metabench_plugins.backends._torchrun import Nodes, machines, rank_environment, torchrun

if TYPE_CHECKING:
    from metabench.device import Device


@dataclass(frozen=True, kw_only=True)
class CpuRanks(Backend):
    """Several processes on CPUs that share the tasks of each step (torchrun, gloo)."""

    name: ClassVar[str] = "cpu-ranks"
    ranks: int = setting(2, "processes, over all machines", at_least=1)
    threads: int = setting(1, "threads of each process", at_least=1)
    affinity: tuple[int, ...] = setting(
        (), "cores of this machine, divided among its processes in order (none: any)", at_least=0
    )
    precision: str = setting("float32", "number format", choices=("float32", "float64", "bf16"))
    deterministic: bool = setting(False, "only operations that repeat bit by bit")
    oversubscribe: bool = setting(False, "run even where there are fewer cores than threads")
    timeout_seconds: float = setting(300.0, "how long a rank waits for the others before it fails", above=0)

    @property
    def world_size(self) -> int:
        """The ranks of all machines."""
        return self.ranks

    def available(self) -> str | None:
        """Return why the ranks' threads do not fit on this machine's cores, or None."""
        nodes = Nodes.here()
        ranks, cores = self.ranks // nodes.count, usable_cores()
        wanted = ranks * self.threads
        if nodes.indivisible(self.ranks):
            return nodes.indivisible(self.ranks)
        if wanted > cores and not self.oversubscribe:
            return (
                f"{ranks} ranks of {self.threads} threads need {wanted} cores, there are "
                f"{cores}; 'oversubscribe = true' runs them anyway"
            )
        if self.affinity and len(self.affinity) < wanted and not self.oversubscribe:
            return f"'affinity' names {len(self.affinity)} cores for {wanted} threads"
        return affinity_problem(self.affinity)

    def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return the torchrun command that runs this command as its ranks."""
        nodes = Nodes.here()
        environment = thread_environment(self.threads) | rank_environment(nodes)
        return torchrun(argv, self.ranks, nodes), environment

    def open(self) -> Device:
        """Join the ranks; raises if torchrun did not start this process."""
        import torch

        from metabench.device import Device
        from metabench.device.ranks import Ranks, local_rank
        from metabench_plugins.backends._numerics import set_numerics

        bind(self.affinity[local_rank() * self.threads :][: self.threads])
        torch.set_num_threads(self.threads)
        numerics = set_numerics(self.precision, self.deterministic)
        return Device(
            dtype=numerics.dtype,
            autocast=numerics.autocast,
            ranks=Ranks("gloo", self.timeout_seconds),
            facts={
                "backend": self.name,
                "precision": self.precision,
                "deterministic": self.deterministic,
                "affinity": list(self.affinity),
                "nodes": machines(),
            },
        )
