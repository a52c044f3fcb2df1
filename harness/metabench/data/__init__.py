"""What data sets share: draws by counter, tables on the device, caches, downloads, manifests.

Importing this package loads no torch; `TableSource`, which needs it, is loaded when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from metabench.data.augment import Augment
from metabench.data.cache import cached
from metabench.data.classes import ClassIndex, check_disjoint
from metabench.data.folders import cache_folder, data_folder

if TYPE_CHECKING:
    from metabench.data.table import TableSource

__all__ = [
    "Augment",
    "ClassIndex",
    "TableSource",
    "cache_folder",
    "cached",
    "check_disjoint",
    "data_folder",
]


def __getattr__(name: str) -> Any:
    if name == "TableSource":
        from metabench.data.table import TableSource

        return TableSource
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
