"""The split lists that come with the package, as JSON files next to this module."""

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def read_list(file: str) -> dict[str, Any]:
    """Return the content of one of the package's JSON files."""
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content
