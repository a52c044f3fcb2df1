"""Suites: a TOML file becomes cells, and every mistake in it is reported at once."""

from metabench.suite.suite import Suite, brought, find, installed, read

__all__ = ["Suite", "brought", "find", "installed", "read"]
