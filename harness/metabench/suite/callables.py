"""What `--with` names, as a suite writes it: `sklearn.svm:LinearSVC,C=2` is an algorithm `callable`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metabench.plugins import Registry
from metabench.records.imported import content_of
from metabench.settings import parse_spec
from metabench.suite.parts import setting_names

CALLABLE = "callable"
"""The algorithm that calls what a path names."""
OF_PATH = frozenset({"path", "arguments", "content"})
"""Its settings that have no key of their own in the text of `--with`."""


def callable_entry(registry: Registry, given: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return the algorithm and the label of a suite's entry.

    given: a path and, after commas, settings of the algorithm `callable` and keyword arguments of what the
    path names; or a table of that algorithm's settings. Raises RequestError where the module is not here.
    """
    table = _table(registry, given) if isinstance(given, str) else dict(given)
    if "name" in table:  # of a function that no package provides: its class is that algorithm
        return {"algorithm": table}
    path = str(table.get("path", ""))
    arguments = table.get("arguments") or {}
    listed = ", ".join(f"{name}={value}" for name, value in arguments.items())
    label = path.partition(":")[2] + (f"({listed})" if listed else "")
    return {"algorithm": {"name": CALLABLE, **table, "content": content_of(path)}, "label": label}


def _table(registry: Registry, text: str) -> dict[str, Any]:
    path, _, rest = text.partition(",")
    given = {name: value for name, value in parse_spec(f"{CALLABLE}:{rest}").items() if name != "name"}
    own = setting_names(registry.find("algorithm", CALLABLE).cls) - OF_PATH
    arguments = {name: value for name, value in given.items() if name not in own}
    settings = {name: value for name, value in given.items() if name in own}
    return {"path": path, **settings, **({"arguments": arguments} if arguments else {})}
