"""The datasets that come with metabench, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_datasets() -> list[type]:
    """Every class of this folder."""
    from metabench_plugins.datasets.glyphs import Glyphs
    from metabench_plugins.datasets.sinusoid import Sinusoid

    return [Glyphs, Sinusoid]
