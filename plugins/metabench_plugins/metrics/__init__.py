"""The metrics that come with metabench, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_metrics() -> list[type]:
    """Every class of this folder; the first of a kind is that kind's own metric."""
    from metabench_plugins.metrics.accuracy import Accuracy
    from metabench_plugins.metrics.mse import MeanSquaredError
    from metabench_plugins.metrics.nll import NegativeLogLikelihood

    return [Accuracy, MeanSquaredError, NegativeLogLikelihood]
