"""Components with a fault each, and sound components: the contract checks must distinguish them."""

from broken.algorithms import FaultyAlgorithm, SeededAlgorithm, SeededProjection
from broken.backends import FaultyBackend, FaultyDevice
from broken.datasets import FaultyDataset
from broken.executors import FaultyExecutor
from broken.metrics import FaultyMetric, FaultyPooledMetric, NeverPools, OddNeed, OverShare
from broken.networks import FaultyNetwork
from broken.reports import FaultyReport

__all__ = [
    "FaultyAlgorithm",
    "FaultyBackend",
    "FaultyDataset",
    "FaultyDevice",
    "FaultyExecutor",
    "FaultyMetric",
    "FaultyNetwork",
    "FaultyPooledMetric",
    "FaultyReport",
    "NeverPools",
    "OddNeed",
    "OverShare",
    "SeededAlgorithm",
    "SeededProjection",
]
