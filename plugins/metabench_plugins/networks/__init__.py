"""The built-in networks, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_networks() -> list[type]:
    """Return every network of this folder."""
    from metabench_plugins.networks.conv4 import Conv4
    from metabench_plugins.networks.mlp import Mlp
    from metabench_plugins.networks.resnet12 import ResNet12

    return [Mlp, Conv4, ResNet12]
