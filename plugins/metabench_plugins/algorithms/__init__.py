"""The algorithms that come with metabench, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_algorithms() -> list[type]:
    """Every class of this folder."""
    from metabench_plugins.algorithms.maml import Maml
    from metabench_plugins.algorithms.nearest_neighbour import NearestNeighbour
    from metabench_plugins.algorithms.protonet import ProtoNet
    from metabench_plugins.algorithms.reptile import Reptile

    return [
        Maml,
        Reptile,
        NearestNeighbour,
        ProtoNet,
    ]
