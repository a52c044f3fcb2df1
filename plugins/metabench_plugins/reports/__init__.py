"""The reports that come with metabench, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_reports() -> list[type]:
    """Every class of this folder."""
    from metabench_plugins.reports.csv import Csv
    from metabench_plugins.reports.html import Html
    from metabench_plugins.reports.json import Json
    from metabench_plugins.reports.latex import Latex
    from metabench_plugins.reports.markdown import Markdown
    from metabench_plugins.reports.plots import Plots
    from metabench_plugins.reports.site import Site

    return [Csv, Html, Json, Latex, Markdown, Plots, Site]
