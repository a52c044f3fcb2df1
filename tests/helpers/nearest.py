"""A function that knows no metabench, as its author wrote it: the label of the nearest support example."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def nearest(support_x: Array, support_y: Array, query_x: Array) -> Array:
    """Class numbers [q], or values [q, outputs]; of one task."""
    support, queries = (x.reshape(len(x), -1) for x in (support_x, query_x))
    distances = ((queries[:, None] - support[None]) ** 2).sum(2)
    return support_y[distances.argmin(1)]
