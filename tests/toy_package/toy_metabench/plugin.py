"""The hooks of the package; components are imported when they are asked for."""

from pathlib import Path

from metabench import hookimpl


@hookimpl
def metabench_algorithms():
    from toy_metabench.learners import Mishap, ToyMean

    return [ToyMean, Mishap]


@hookimpl
def metabench_networks():
    from toy_metabench.lines import ToyAttention, ToyLinear

    return [ToyAttention, ToyLinear]


@hookimpl
def metabench_datasets():
    from toy_metabench.lines import ToyLines

    return [ToyLines]


@hookimpl
def metabench_suites():
    return [Path(__file__).parent / "suites"]
