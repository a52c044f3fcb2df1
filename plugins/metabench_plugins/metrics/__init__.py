"""The built-in metrics, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_metrics() -> list[type]:
    """Return every metric of this folder; the first of a kind of data is its default."""
    from metabench_plugins.metrics.accuracy import Accuracy
    from metabench_plugins.metrics.auroc import Auroc
    from metabench_plugins.metrics.ece import ExpectedCalibrationError
    from metabench_plugins.metrics.macro_f1 import MacroF1
    from metabench_plugins.metrics.mae import MeanAbsoluteError
    from metabench_plugins.metrics.mse import MeanSquaredError
    from metabench_plugins.metrics.nll import NegativeLogLikelihood

    return [
        Accuracy,
        MeanSquaredError,
        NegativeLogLikelihood,
        ExpectedCalibrationError,
        MacroF1,
        Auroc,
        MeanAbsoluteError,
    ]
