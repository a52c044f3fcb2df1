"""The datasets that come with metabench, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_datasets() -> list[type]:
    """Every class of this folder."""
    from metabench_plugins.datasets.banking77 import Banking77
    from metabench_plugins.datasets.blobs import Blobs
    from metabench_plugins.datasets.cifar_fs import CifarFs
    from metabench_plugins.datasets.clinc150 import Clinc150
    from metabench_plugins.datasets.cub import Cub
    from metabench_plugins.datasets.fc100 import Fc100
    from metabench_plugins.datasets.features import Features
    from metabench_plugins.datasets.glyphs import Glyphs
    from metabench_plugins.datasets.harmonics import Harmonics
    from metabench_plugins.datasets.imagefolder import ImageFolder
    from metabench_plugins.datasets.lake import Lake
    from metabench_plugins.datasets.mini_imagenet import MiniImagenet
    from metabench_plugins.datasets.omniglot import Omniglot
    from metabench_plugins.datasets.omniglot_small import OmniglotSmall
    from metabench_plugins.datasets.sinusoid import Sinusoid
    from metabench_plugins.datasets.table_prior import TablePrior
    from metabench_plugins.datasets.tables import Tables
    from metabench_plugins.datasets.tiered_imagenet import TieredImagenet

    return [
        Banking77, Blobs, CifarFs, Clinc150, Cub, Fc100, Glyphs, Harmonics, ImageFolder, Lake, MiniImagenet,
        Omniglot, OmniglotSmall, Sinusoid, Features, TablePrior, Tables,
        TieredImagenet,
    ]  # fmt: skip
