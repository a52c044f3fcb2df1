"""The suites that ship with metabench, one TOML file each."""

from pathlib import Path

from metabench import hookimpl


@hookimpl
def metabench_suites() -> list[Path]:
    """This folder."""
    return [Path(__file__).parent]
