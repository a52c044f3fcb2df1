"""Texts of suites, and what is wrong with them."""

from collections.abc import Callable

import pytest

from metabench.errors import SuiteError
from metabench.suite import Suite

HEAD = """
name = "s"
version = 1
[defaults]
test = {ways = 5, shots = 1, queries = 5}
budget = {steps = 10, tasks = 4}
"""


GLYPHS = """
[[cells]]
algorithm = "maml"
network = "conv4"
dataset = "glyphs"
"""


Reader = Callable[[str], Suite]


def mistakes(suite_of: Reader, text: str) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        suite_of(text)
    return caught.value.mistakes
