"""The networks that come with metabench, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_networks() -> list[type]:
    """Every class of this folder."""
    return []
