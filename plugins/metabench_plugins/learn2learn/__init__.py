"""learn2learn's algorithms, networks and task sets; the library is imported when a component is built."""

from metabench import hookimpl


@hookimpl
def metabench_algorithms() -> list[type]:
    """Return the algorithms over learn2learn."""
    from metabench_plugins.learn2learn.algorithms import (
        L2lAnil,
        L2lGbml,
        L2lMaml,
        L2lMetaOptNet,
        L2lMetaSgd,
        L2lProtoNet,
    )

    return [L2lMaml, L2lAnil, L2lMetaSgd, L2lGbml, L2lProtoNet, L2lMetaOptNet]


@hookimpl
def metabench_networks() -> list[type]:
    """Return the models of learn2learn as networks."""
    from metabench_plugins.learn2learn.networks import Cnn4, OmniglotCnn, OmniglotFc, ResNet12, Wrn28

    return [OmniglotCnn, OmniglotFc, Cnn4, ResNet12, Wrn28]
