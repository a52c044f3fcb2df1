"""The reports that come with metabench, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_reports() -> list[type]:
    """Every class of this folder."""
    from metabench_plugins.reports.csv import Csv
    from metabench_plugins.reports.json import Json
    from metabench_plugins.reports.markdown import Markdown

    return [Csv, Json, Markdown]
