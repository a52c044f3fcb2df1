"""The executors that come with metabench, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_executors() -> list[type]:
    """Every class of this folder."""
    from metabench_plugins.executors.local import Local
    from metabench_plugins.executors.ray import Ray
    from metabench_plugins.executors.slurm import Slurm

    return [Local, Ray, Slurm]
