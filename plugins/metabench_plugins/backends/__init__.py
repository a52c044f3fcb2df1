"""The backends that come with metabench, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_backends() -> list[type]:
    """Return every backend of this package."""
    from metabench_plugins.backends.cpu import Cpu
    from metabench_plugins.backends.cpu_ranks import CpuRanks
    from metabench_plugins.backends.cuda import Cuda
    from metabench_plugins.backends.cuda_ranks import CudaRanks

    return [Cpu, CpuRanks, Cuda, CudaRanks]
