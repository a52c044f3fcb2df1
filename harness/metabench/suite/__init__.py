"""Suites: a TOML file becomes cells, and every mistake in it is reported at once."""

from metabench.suite.arguments import Arguments
from metabench.suite.from_arguments import read_arguments
from metabench.suite.suite import Suite, SuiteFile, find, installed_suites, read
from metabench.suite.tuning import Tune

__all__ = ["Arguments", "Suite", "SuiteFile", "Tune", "find", "installed_suites", "read", "read_arguments"]
