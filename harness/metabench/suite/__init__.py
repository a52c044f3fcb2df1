"""Suites: a TOML file becomes cells, and every mistake in it is reported at once."""

from metabench.suite.suite import Suite, SuiteFile, find, installed_suites, read

__all__ = ["Suite", "SuiteFile", "find", "installed_suites", "read"]
