"""Suites: a TOML file becomes cells, and every mistake in it is reported at once."""

from metabench.suite.from_arguments import Arguments, read_arguments
from metabench.suite.suite import Suite, SuiteFile, find, installed_suites, read

__all__ = ["Arguments", "Suite", "SuiteFile", "find", "installed_suites", "read", "read_arguments"]
