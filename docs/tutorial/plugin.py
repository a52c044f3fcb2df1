"""What this package provides to metabench. A component is imported inside its hook, on demand."""

from pathlib import Path

from metabench import hookimpl

METABENCH_CONTRACT = 2


@hookimpl
def metabench_algorithms() -> list[type]:
    from metabench_anchor.algorithm import Anchor

    return [Anchor]


@hookimpl
def metabench_datasets() -> list[type]:
    from metabench_anchor.dataset import Ripples

    return [Ripples]


@hookimpl
def metabench_suites() -> list[Path]:
    return [Path(__file__).parent / "suites"]
