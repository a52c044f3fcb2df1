"""The loggers that come with metabench, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_loggers() -> list[type]:
    """Every class of this folder."""
    from metabench_plugins.loggers.csv import Csv
    from metabench_plugins.loggers.mlflow import Mlflow
    from metabench_plugins.loggers.tensorboard import Tensorboard
    from metabench_plugins.loggers.wandb import Wandb

    return [Csv, Mlflow, Tensorboard, Wandb]
