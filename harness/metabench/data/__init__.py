"""What data sets share: draws by counter, tensors on the device, caches, downloads, manifests.

Importing this package loads no torch; names whose modules need it are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metabench.data.augment import Augment
from metabench.data.cache import cached, fingerprint
from metabench.data.classes import ClassIndex, Drawn, arrange, check_disjoint, class_name
from metabench.folders import cache_folder, data_folder, file_digest

if TYPE_CHECKING:
    from metabench.data.archives import member_names, members
    from metabench.data.device_draws import Draws
    from metabench.data.function_source import FunctionSource
    from metabench.data.image_dataset import IMAGENET_MEAN, IMAGENET_STD, ImageDataset, fingerprint_of
    from metabench.data.images import SUFFIXES, Shape, decode, decode_all
    from metabench.data.remote import FilesDataset, RemoteFile
    from metabench.data.safe_pickle import read_pickle
    from metabench.data.splitting import by_fractions, by_list, known_split, require_utf8, split_named
    from metabench.data.tensor_source import TensorSource

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "SUFFIXES",
    "Augment",
    "ClassIndex",
    "Drawn",
    "Draws",
    "FilesDataset",
    "FunctionSource",
    "ImageDataset",
    "RemoteFile",
    "Shape",
    "TensorSource",
    "arrange",
    "by_fractions",
    "by_list",
    "cache_folder",
    "cached",
    "check_disjoint",
    "class_name",
    "data_folder",
    "decode",
    "decode_all",
    "file_digest",
    "fingerprint",
    "fingerprint_of",
    "known_split",
    "member_names",
    "members",
    "read_pickle",
    "require_utf8",
    "split_named",
]

_LATER = {
    "archives": ("member_names", "members"),
    "device_draws": ("Draws",),
    "function_source": ("FunctionSource",),
    "image_dataset": ("IMAGENET_MEAN", "IMAGENET_STD", "ImageDataset", "fingerprint_of"),
    "images": ("SUFFIXES", "Shape", "decode", "decode_all"),
    "remote": ("FilesDataset", "RemoteFile"),
    "safe_pickle": ("read_pickle",),
    "splitting": ("by_fractions", "by_list", "known_split", "require_utf8", "split_named"),
    "tensor_source": ("TensorSource",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
