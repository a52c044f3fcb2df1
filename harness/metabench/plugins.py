"""The registry: entry points of the group `metabench` made into named components.

    registry = load()
    maml = registry.find("algorithm", "maml").cls

A plugin that cannot be used (it fails to import, a hook of it has a wrong signature, two components
share a name) becomes a `Problem` that names plugin, distribution and remedy; the rest works on.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from metabench import contracts, hookspecs
from metabench.errors import UnknownComponent, did_you_mean

GROUP = "metabench"
OURS = "metabench"  # the distribution of the built-ins

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""What a component may be called: its name becomes a part of file names."""

KINDS: Mapping[str, type] = {
    "algorithm": contracts.Algorithm,
    "network": contracts.Network,
    "dataset": contracts.Dataset,
    "metric": contracts.Metric,
    "backend": contracts.Backend,
    "executor": contracts.Executor,
    "report": contracts.Report,
}
"""The kinds of component and the base class of each; the hook of a kind is `metabench_<kind>s`."""


@dataclass(frozen=True)
class Plugin:
    """One entry point: its name, module and the distribution that brings it."""

    name: str
    module: str
    distribution: str
    version: str

    @property
    def key(self) -> str:
        """What the registry calls it: distributions may use the same names for their entry points."""
        return f"{self.distribution}:{self.name}"

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({self.module}) of {self.distribution} {self.version}"


@dataclass(frozen=True)
class Entry:
    """One component of the registry and the plugin that it came from."""

    kind: str
    name: str
    cls: type[Any]
    plugin: Plugin

    @property
    def source(self) -> str:
        """Distribution and version, as it stands in a cell: "metabench 0.1.0"."""
        return f"{self.plugin.distribution} {self.plugin.version}"

    @property
    def path(self) -> str:
        """Where a worker imports the class from: "module:qualified name"."""
        return f"{self.cls.__module__}:{self.cls.__qualname__}"


@dataclass(frozen=True)
class Problem:
    """Something wrong with a plugin, and what puts it right."""

    plugin: Plugin
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.plugin}: {self.what}. {self.remedy}"


@dataclass
class Registry:
    """Every usable plugin by its key; the components of a kind are asked for when it is first used."""

    manager: pluggy.PluginManager
    plugins: dict[str, Plugin]
    problems: list[Problem] = field(default_factory=list)
    _entries: dict[str, dict[str, Entry]] = field(default_factory=dict)

    def entries(self, kind: str) -> dict[str, Entry]:
        """The components of a kind by name, in alphabetical order."""
        if kind not in KINDS:
            raise UnknownComponent(f"no kind of component is called {kind!r}; {did_you_mean(kind, KINDS)}")
        if kind not in self._entries:
            self._entries[kind] = dict(sorted(self._collect(kind).items()))
        return self._entries[kind]

    def names(self, kind: str) -> list[str]:
        """The names of a kind's components."""
        return list(self.entries(kind))

    def find(self, kind: str, name: str) -> Entry:
        """The component of that kind and name; raises UnknownComponent with the known names."""
        entries = self.entries(kind)
        if name not in entries:
            raise UnknownComponent(f"no {kind} is called {name!r}; {did_you_mean(name, entries)}")
        return entries[name]

    def suite_folders(self) -> list[tuple[Plugin, Path]]:
        """The folders with suite files, each with the plugin that brings it."""
        found = []
        for plugin, folder in self._call("metabench_suites"):
            if isinstance(folder, (str, os.PathLike)):
                found.append((plugin, Path(folder)))
            else:
                self.report(Problem(plugin, f"its hook metabench_suites gives {folder!r}, not a path", _MEND))
        return found

    def report(self, problem: Problem) -> None:
        """Adds a problem, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def observe(self, hook: str, **arguments: Any) -> None:
        """Calls an observer hook of every plugin; one that raises is reported once and left out."""
        for impl in list(getattr(self.manager.hook, hook).get_hookimpls()):
            try:
                impl.function(*(arguments[name] for name in impl.argnames))
            except Exception as error:
                self.manager.unregister(name=impl.plugin_name)
                problem = Problem(
                    self.plugins[impl.plugin_name], f"its hook {hook} raised {_said(error)}", _MEND
                )
                self.report(problem)
                warnings.warn(str(problem), stacklevel=2)

    def _collect(self, kind: str) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for plugin, cls in self._call(f"metabench_{kind}s"):
            wrong = fault(kind, cls)
            if wrong is not None:
                self.report(Problem(plugin, f"{kind} {cls!r} {wrong}", _MEND))
            elif cls.name in found:
                other = found[cls.name].plugin
                what = f"{kind} {cls.name!r} is already brought by {other}; the first one is used"
                remedy = "Rename one of them, or uninstall one of the two packages."
                self.report(Problem(plugin, what, remedy))
            else:
                found[cls.name] = Entry(kind, cls.name, cls, plugin)
        return found

    def _call(self, hook: str) -> Iterable[tuple[Plugin, Any]]:
        # Our own plugins come first, so that an outsider cannot replace a built-in by its name.
        impls = getattr(self.manager.hook, hook).get_hookimpls()
        first = sorted(impls, key=lambda impl: self.plugins[impl.plugin_name].distribution != OURS)
        for impl in first:
            plugin = self.plugins[impl.plugin_name]
            try:
                brought = list(impl.function())
            except Exception as error:
                self.report(Problem(plugin, f"its hook {hook} raised {_said(error)}", _MEND))
                continue
            yield from ((plugin, one) for one in brought)


_MEND = "Repair or uninstall that package."


def load(points: Sequence[importlib.metadata.EntryPoint] | None = None) -> Registry:
    """A fresh registry of every installed plugin (or of the entry points given), our own first."""
    manager = pluggy.PluginManager("metabench")
    manager.add_hookspecs(hookspecs)
    registry = Registry(manager, {})
    if points is None:
        points = list(importlib.metadata.entry_points(group=GROUP))
    found = {_plugin(point): point for point in points}  # each once, however often its package is on the path
    for plugin in sorted(found, key=lambda p: (p.distribution != OURS, p.distribution, p.name, p.module)):
        problem = _register(registry, plugin, found[plugin])
        if problem is not None:
            registry.report(problem)
    return registry


def _plugin(point: importlib.metadata.EntryPoint) -> Plugin:
    name = point.dist.name if point.dist else "unknown"
    version = point.dist.version if point.dist else "0"
    return Plugin(point.name, point.value, name, version)


def _register(registry: Registry, plugin: Plugin, point: importlib.metadata.EntryPoint) -> Problem | None:
    try:
        module = point.load()
    except Exception as error:
        remedy = f"Reinstall it (pip install --force-reinstall {plugin.distribution}) or uninstall it."
        return Problem(plugin, f"it fails to import: {_said(error)}", remedy)
    made_for = getattr(module, "METABENCH_CONTRACT", contracts.CONTRACT_VERSION)
    if made_for in contracts.DEPRECATED_CONTRACTS:
        told = f"it was made for contract {made_for!r}, which the next release no longer takes"
        remedy = f"Upgrade {plugin.distribution}: {contracts.DEPRECATED_CONTRACTS[made_for]}."
        registry.report(Problem(plugin, told, remedy))
    elif made_for != contracts.CONTRACT_VERSION:
        newer = isinstance(made_for, int) and made_for > contracts.CONTRACT_VERSION
        remedy = "Upgrade metabench." if newer else f"Upgrade {plugin.distribution}."
        here = f"it was made for contract {made_for!r}, this metabench has {contracts.CONTRACT_VERSION}"
        return Problem(plugin, here, remedy)
    wrong = _wrong_hook(module)
    if wrong is not None:
        return Problem(plugin, wrong, "See the hooks in metabench.hookspecs.")
    other = registry.manager.get_name(module) or (plugin.key if plugin.key in registry.plugins else None)
    if other is not None:
        what = f"its module or its name is already that of {registry.plugins[other]}; it is left out"
        return Problem(plugin, what, "Remove one of the two entry points.")
    registry.manager.register(module, name=plugin.key)
    registry.plugins[plugin.key] = plugin
    return None


def _wrong_hook(module: ModuleType) -> str | None:
    """What is wrong with the first bad hook of a module: an unknown name, or other arguments than ours."""
    specs = {name for name in vars(hookspecs) if name.startswith("metabench_")}
    for name, function in vars(module).items():
        if getattr(function, "metabench_impl", None) is None:
            continue
        if name not in specs:
            return f"it implements a hook {name!r} that does not exist; {did_you_mean(name, specs)}"
        allowed = list(inspect.signature(getattr(hookspecs, name)).parameters)
        extra = [a for a in inspect.signature(function).parameters if a not in allowed]
        if extra:
            takes = ", ".join(allowed) or "nothing"
            return f"its hook {name} has the argument {extra[0]!r}; the hook takes {takes}"
    return None


def fault(kind: str, cls: Any) -> str | None:
    """Why a class cannot be a component of this kind, or None."""
    if not isinstance(cls, type) or not issubclass(cls, KINDS[kind]):
        return f"is no subclass of metabench.{KINDS[kind].__name__}"
    name = getattr(cls, "name", None)
    if not isinstance(name, str):
        return "has no `name: ClassVar[str]`"
    if not NAME.fullmatch(name):
        return f"is called {name!r}; a name is up to 64 letters, digits and . _ + -, the first not a sign"
    if "__dataclass_fields__" not in cls.__dict__ and any(
        isinstance(value, dataclasses.Field) for value in vars(cls).values()
    ):
        return "declares settings but is no dataclass: decorate it with @dataclass(frozen=True, kw_only=True)"
    if inspect.isabstract(cls):
        return f"lacks the methods {', '.join(sorted(getattr(cls, '__abstractmethods__', ())))}"
    if "<locals>" in cls.__qualname__:
        return "is defined inside a function, where a worker cannot import it"
    text = (cls.__doc__ or "").strip()
    if not text or text.startswith(f"{cls.__name__}("):  # the latter is dataclass's own
        return "has no docstring, which is its help"
    return None


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
