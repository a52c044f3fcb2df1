"""From a suite to stored results, in the parent process. No torch here: cells run in worker processes.

plan = make_plan("quick")        every mistake in the request is raised here, before anything runs
outcome = execute(plan)          exactly one result per cell, each stored as soon as it is there
"""

from metabench.runner.execute import RunOutcome, Warn, execute, tune
from metabench.runner.plan import RESULTS, Plan, make_plan

__all__ = ["RESULTS", "Plan", "RunOutcome", "Warn", "execute", "make_plan", "tune"]
