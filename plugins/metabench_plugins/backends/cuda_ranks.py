"""Several NVIDIA GPUs that share the tasks of each step: one rank a GPU, started by torchrun, over NCCL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from metabench import Backend, setting
from metabench_plugins.backends._cores import thread_environment
from metabench_plugins.backends._gpus import (
    PRECISION_HELP,
    PRECISIONS,
    cuda_environment,
    why_no_gpus,
    why_not_precision,
)
from metabench_plugins.backends._torchrun import Nodes, local_ranks, machines, rank_environment, torchrun

if TYPE_CHECKING:
    from metabench.device import Device


@dataclass(frozen=True, kw_only=True)
class CudaRanks(Backend):
    """Several NVIDIA GPUs that share the tasks of each step (torchrun, NCCL, one rank a GPU)."""

    name: ClassVar[str] = "cuda-ranks"
    ranks: int = setting(2, "processes, over all machines; one GPU each", at_least=1)
    threads: int = setting(1, "threads of each process on the host", at_least=1)
    precision: str = setting("float32", PRECISION_HELP, choices=PRECISIONS)
    deterministic: bool = setting(False, "only operations that repeat bit by bit")
    share: bool = setting(False, "let ranks share GPUs and communicate over gloo: for tests, not for scaling")
    timeout_seconds: float = setting(300.0, "how long a rank waits for the others before it fails", above=0)

    @property
    def world_size(self) -> int:
        """The ranks of all machines."""
        return self.ranks

    @property
    def gpus(self) -> int:
        """One for each rank of a machine, unless they share."""
        return 1 if self.share else self.ranks // Nodes.here().count

    def available(self) -> str | None:
        """Return why there are not enough GPUs, or None."""
        reason = Nodes.here().indivisible(self.ranks) or why_no_gpus(self.gpus)
        reason = reason or why_not_precision(self.precision)
        if reason is not None or self.share:
            return reason
        import torch

        if not torch.distributed.is_nccl_available():
            return "this torch has no NCCL, over which GPUs communicate; 'share = true' uses gloo"
        return None

    def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return the torchrun command that runs this command as its ranks."""
        nodes = Nodes.here()
        environment = thread_environment(self.threads) | rank_environment(nodes)
        return torchrun(argv, self.ranks, nodes), environment | cuda_environment(self.deterministic)

    def open(self) -> Device:
        """Join the ranks, each on its own GPU; where they share, round robin."""
        import torch

        from metabench.device.ranks import Ranks, local_rank
        from metabench_plugins.backends._cuda_device import CudaDevice
        from metabench_plugins.backends._numerics import set_numerics

        torch.set_num_threads(self.threads)
        index = local_rank() % torch.cuda.device_count()
        torch.cuda.set_device(index)  # before joining: NCCL takes the current GPU
        return CudaDevice(
            index,
            set_numerics(self.precision, self.deterministic),
            # values and flags go over the host, gradients from GPU to GPU
            Ranks("gloo" if self.share else "cpu:gloo,cuda:nccl", self.timeout_seconds),
            facts={
                "backend": self.name,
                "precision": self.precision,
                "deterministic": self.deterministic,
                "shared_gpus": self.share,
                "communication": communication(self.share, local_ranks(), torch.cuda.device_count()),
                "nodes": machines(),
            },
        )


def communication(share: bool, local_ranks: int, gpus: int) -> str:
    """Return what gradients are exchanged over, as a result's environment names it."""
    if not share:
        return "nccl"
    return "gloo (ranks share a GPU)" if local_ranks > gpus else "gloo"
