"""`metabench rescore RESULTS… --metrics …`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from metabench.commands.terminal import say


@click.command(
    epilog="""\b
Examples:
  metabench rescore results/local/quick-v1 --metrics nll,macro-f1
  metabench rescore results/local/quick-v1 --metrics ece:bins=5,auroc
"""
)
@click.argument("results", nargs=-1, required=True, type=click.Path())
@click.option("--metrics", required=True, metavar="NAME[:KEY=VALUE],…",
              help="Metrics to add; `metabench list metrics` names them.")  # fmt: skip
def command(results: tuple[str, ...], metrics: str) -> int:
    """Add metrics to RESULTS (folders or files) from their stored predictions, without training.

    It needs the predictions of every query, which a suite keeps with `predictions = true` in its evaluation.
    Before anything is added, the metric that ranks is made anew from them, and must be what it was to the
    bit. Results and tables say of such metrics that they were added later, and when.

    Exit status: 0 when every result has the metrics, 1 otherwise.
    """
    from metabench.errors import MetabenchError, RequestError
    from metabench.plugins import load
    from metabench.publishing.rescore import further_specs, rescore
    from metabench.records.metric_scores import metric_title
    from metabench.results.cache import files
    from metabench.settings import parse_specs

    registry = load()
    specs = further_specs(registry, parse_specs(metrics))
    paths, passed_over = files(results)
    for problem in passed_over:
        say(f"passed over: {problem}", err=True)
    if not paths:
        raise RequestError(f"{', '.join(results)}: no results in it")
    date, refused = datetime.now(UTC).date().isoformat(), 0
    for path in paths:
        try:
            result = rescore(registry, path, specs, date)
        except MetabenchError as error:
            refused += 1
            say(f"error: {error}", err=True)
            continue
        further = result.scores.further if result.scores else {}
        values = [
            f"{title} {further[title].value:.4g}" for title in map(metric_title, specs) if title in further
        ]
        say(f"{path}: {', '.join(values)}")
    say(f"{len(paths) - refused} of {len(paths)} results have the metrics", err=True)
    return 1 if refused else 0
