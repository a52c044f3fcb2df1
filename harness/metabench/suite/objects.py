"""Components given as Python objects: classes, instances and callables become names and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from metabench.contracts import Component
from metabench.errors import RequestError
from metabench.plugins import KINDS, Registry, contract_violation
from metabench.records.carried import carry, is_installed
from metabench.records.cell import component_kind
from metabench.suite.arguments import Arguments
from metabench.suite.callables import CALLABLE


def by_name(registry: Registry, arguments: Arguments) -> tuple[Arguments, Sequence[str]]:
    """Return arguments that name each component by text or table, and the names of those of no package.

    Those are added to the registry. Raises RequestError for what is no component.
    """
    naming = _Naming(registry)
    for given in arguments.callables:
        naming.add_callable("with", given)
    listed: dict[str, Any] = {
        name: [
            table
            for given in getattr(arguments, name)
            if (table := naming.component(kind, kind, given)) is not None
        ]
        for name, kind in (("algorithms", "algorithm"), ("networks", "network"), ("datasets", "dataset"))
    }
    tested = arguments.test_dataset
    if tested is not None:
        tested = naming.component("test-dataset", "test_dataset", tested)
    return replace(arguments, callables=naming.callables, test_dataset=tested, **listed), naming.local


@dataclass
class _Naming:
    """callables: what is called, by text or table; local: names of components that no package provides."""

    registry: Registry
    callables: list[Any] = field(default_factory=list)
    local: list[str] = field(default_factory=list)

    def component(self, option: str, kind: str, given: Any) -> Any:
        """Return the text or table of a component; None where it is a callable, which is noted as one."""
        if isinstance(given, (str, Mapping)):
            return given
        cls = given if isinstance(given, type) else type(given)
        if issubclass(cls, Component):
            self._provide(option, component_kind(kind), cls)
            values = {} if given is cls else {item.name: getattr(given, item.name) for item in fields(given)}
            return {"name": cls.name, **_settings(values)}
        if kind == "algorithm" and (callable(given) or hasattr(given, "fit")):
            self.add_callable(option, given)
            return None
        base = KINDS[component_kind(kind)].base.__name__
        more = ", or something to call" if kind == "algorithm" else ""
        raise RequestError(
            f"--{option} must be a name, a table, or a class or object of metabench.{base}{more}, got "
            f"{given!r:.60}"
        )

    def add_callable(self, option: str, given: Any) -> None:
        """Note a function, estimator or module: by its path where it is installed, else by its own class."""
        table = given if isinstance(given, (str, Mapping)) else _by_path(given)
        if table is None:
            cls = _class_around(self.registry.find("algorithm", CALLABLE).cls, given)
            self._provide(option, "algorithm", cls, given)
            table = {"name": cls.name}
        self.callables.append(table)

    def _provide(self, option: str, kind: str, cls: type[Any], origin: Any = None) -> None:
        entry = self.registry.entries(kind).get(getattr(cls, "name", ""))
        if entry is not None and entry.cls is cls:
            return
        violation = contract_violation(kind, cls, carried=True)
        if violation is not None:
            raise RequestError(f"--{option} {cls.__name__}: the class {violation}")
        if entry is not None and (entry.carried is None or cls.name in self.local):
            raise RequestError(
                f"--{option} {cls.__name__}: {entry.plugin} provides the {kind} {cls.name!r} already; give "
                "this one a name of its own"
            )
        self.registry.carry(kind, cls, carry(cls, origin))
        self.local.append(cls.name)


def _class_around(base: type[Any], given: Any) -> type[Any]:
    """Return an algorithm that calls this object, under the object's name."""
    name = re.sub(r"[^A-Za-z0-9._+-]", "", getattr(given, "__name__", type(given).__name__)) or CALLABLE
    methods = {"target": lambda self: given, "title": property(lambda self: name)}
    return type(name, (base,), {"name": name, "__doc__": base.__doc__, "__module__": "__main__", **methods})


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a suite has them: lists instead of tuples, and none that is None."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None
    }


def _by_path(given: Any) -> dict[str, Any] | None:
    """Return the table of what is installed, and made of plain arguments; None for anything else."""
    origin = given if hasattr(given, "__qualname__") else type(given)
    if not is_installed(origin) or not all(part.isidentifier() for part in origin.__qualname__.split(".")):
        return None
    table = {"path": f"{origin.__module__}:{origin.__qualname__}"}
    if origin is given:
        return table
    try:  # an estimator of scikit-learn's kind
        default, own = origin().get_params(deep=False), given.get_params(deep=False)
        arguments = {name: value for name, value in own.items() if repr(value) != repr(default[name])}
        json.dumps(arguments)
    except (AttributeError, TypeError, ValueError):
        return None
    return {**table, **({"arguments": arguments} if arguments else {})}
