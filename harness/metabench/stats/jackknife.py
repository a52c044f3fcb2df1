"""The jackknife over tasks, for scores that are no means over tasks.

Sources: Tukey, Annals of Mathematical Statistics 29 (1958); Miller, Biometrika 61 (1974).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pseudo_values(whole: float, left_out: ArrayLike) -> NDArray[np.float64]:
    """Return n · whole − (n − 1) · left out, [n]: their mean's interval is that of the score of all tasks.

    whole: the score of n tasks together; left_out: of all tasks but one, for each of them. Of a mean over
    tasks these are the tasks' own scores.
    """
    scores = np.asarray(left_out, dtype=np.float64)
    return np.asarray(len(scores) * whole - (len(scores) - 1) * scores)
