"""From a suite to stored results, in the parent process. No torch here."""

from metabench.runner.execute import (
    Plan,
    RunOutcome,
    execute,
    make_plan,
    report,
    run_suite,
    silence,
)

__all__ = ["Plan", "RunOutcome", "execute", "make_plan", "report", "run_suite", "silence"]
