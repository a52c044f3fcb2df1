"""What data sets share: draws by counter, tables on the device, caches, downloads, manifests.

Importing this package loads no torch; `TableSource`, which needs it, is loaded when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metabench.data.augment import Augment
from metabench.data.cache import cached
from metabench.data.classes import ClassIndex, check_disjoint
from metabench.folders import cache_folder, data_folder

if TYPE_CHECKING:
    from metabench.data.image_dataset import PictureDataset
    from metabench.data.remote import FilesDataset, RemoteFile
    from metabench.data.tensor_source import TableSource

__all__ = [
    "Augment",
    "ClassIndex",
    "FilesDataset",
    "PictureDataset",
    "RemoteFile",
    "TableSource",
    "cache_folder",
    "cached",
    "check_disjoint",
    "data_folder",
]

_LATER = {
    "PictureDataset": "metabench.data.image_dataset",
    "FilesDataset": "metabench.data.remote",
    "RemoteFile": "metabench.data.remote",
    "TableSource": "metabench.data.tensor_source",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
