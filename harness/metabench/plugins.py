"""The registry: the components of every plugin, by kind and name; plugins are entry points of `metabench`.

    registry = load()
    maml = registry.find("algorithm", "maml").cls

A plugin that cannot be used (it fails to import, a hook of it has a wrong signature, two components
share a name) becomes a `PluginProblem` that names plugin, distribution and remedy; the rest works on.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from metabench import contracts, hookspecs
from metabench.errors import MetabenchError, UnknownComponent, did_you_mean
from metabench.plugin_calls import plugin_call
from metabench.records.carried import LOCAL, Carried
from metabench.records.cell import COMPONENTS, Cell, Spec
from metabench.records.metric_scores import component_slots
from metabench.settings import make
from metabench.text import printable

GROUP = "metabench"
OURS = "metabench"  # the distribution of the built-ins

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""The form of a component's name, which is a part of file names."""

SHOWN_PROBLEMS = 3
"""How many problems of plugins are named beside an unknown component."""

PROGRESS = f"{OURS}:progress"
"""The key of the plugin that shows the progress of a run."""


@dataclass(frozen=True)
class Kind:
    """A kind of component: its name, the base class of its components, and the hook that provides them."""

    name: str
    base: type[contracts.Component]

    @property
    def plural(self) -> str:
        """The kind as a heading, and as an argument of `metabench list`: `algorithms`."""
        return f"{self.name}s"

    @property
    def hook(self) -> str:
        """The hook of `metabench.hookspecs` that provides components of this kind."""
        return f"metabench_{self.plural}"

    @property
    def in_cell(self) -> bool:
        """Whether a cell has a component of this kind as a field, and a suite file a key for it."""
        return self.name in COMPONENTS


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("algorithm", contracts.Algorithm),
        Kind("network", contracts.Network),
        Kind("dataset", contracts.Dataset),
        Kind("metric", contracts.Metric),
        Kind("backend", contracts.Backend),
        Kind("executor", contracts.Executor),
        Kind("logger", contracts.Logger),
        Kind("report", contracts.Report),
    )
}
"""Every kind of component. Registry, commands, suite reader, contract checks and documentation read it."""


@dataclass(frozen=True)
class Plugin:
    """One entry point: its name, its module and the distribution that provides it."""

    name: str
    module: str
    distribution: str
    version: str

    @property
    def key(self) -> str:
        """The plugin's name in the registry: distributions may use the same names for their entry points."""
        return f"{self.distribution}:{self.name}"

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({self.module}) of {self.distribution} {self.version}"


@dataclass(frozen=True)
class Entry:
    """One component of the registry and the plugin that it came from.

    carried: how its class travels to a worker, where no package provides it.
    """

    kind: str
    name: str
    cls: type[Any]
    plugin: Plugin
    carried: Carried | None = None

    @property
    def source(self) -> str:
        """Distribution and version, as a cell records them: "metabench 0.1.0"."""
        return f"{self.plugin.distribution} {self.plugin.version}"

    @property
    def path(self) -> str:
        """Where a worker imports the class from: "module:qualified name"."""
        module = self.cls.__module__ if self.carried is None else LOCAL
        return f"{module}:{self.cls.__qualname__}"


@dataclass(frozen=True)
class PluginProblem:
    """Something wrong with a plugin, and what mends it."""

    plugin: Plugin
    what: str
    remedy: str

    def __str__(self) -> str:
        return printable(f"{self.plugin}: {self.what}. {self.remedy}")


@dataclass
class Registry:
    """Every usable plugin by its key; components are collected when their kind is first used."""

    manager: pluggy.PluginManager
    plugins: dict[str, Plugin]
    problems: list[PluginProblem] = field(default_factory=list)
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
        """The component of that kind and name; raises UnknownComponent with the known names.

        Where plugins have problems, those are named as well: one of them may be why the name is not known.
        """
        entries = self.entries(kind)
        if name not in entries:
            what = f"no {kind} is called {name!r}; {did_you_mean(name, entries)}"
            raise UnknownComponent("\n".join([what, *map(str, self.problems[:SHOWN_PROBLEMS])]))
        return entries[name]

    def make(self, kind: str, spec: Spec) -> Any:
        """Return the component of that kind, name and settings; raises RequestError for any mistake in it."""
        cls = self.find(kind, spec.name).cls
        with plugin_call(f"making {kind} {spec.name!r}"):
            return make(cls, spec.settings)

    def classes(self, cell: Cell) -> dict[str, str]:
        """Return where a worker imports the class of each of a cell's components from, by part of the cell.

        Further metrics have slots of their own, `metric:ece`.
        """
        return {slot: self.find(kind, spec.name).path for slot, kind, spec in component_slots(cell)}

    def carry(self, kind: str, cls: type[Any], carried: Carried) -> None:
        """Add a class of a script or notebook, which travels to workers; it replaces an earlier one."""
        entries = self.entries(kind)
        plugin = Plugin(cls.name, cls.__module__, LOCAL, carried.version)
        entries[cls.name] = Entry(kind, cls.name, cls, plugin, carried)

    def carried(self, cell: Cell) -> dict[str, Carried]:
        """Return those components of a cell that no package provides, by part of the cell."""
        slots = ((slot, self.find(kind, spec.name).carried) for slot, kind, spec in component_slots(cell))
        return {slot: carried for slot, carried in slots if carried is not None}

    def suite_folders(self) -> list[tuple[Plugin, Path]]:
        """The folders with suite files, and the plugin that provides each."""
        folders = []
        for plugin, folder in self._call("metabench_suites"):
            if isinstance(folder, (str, os.PathLike)):
                folders.append((plugin, Path(folder)))
            else:
                what = f"its hook metabench_suites must give paths, got {folder!r}"
                self.report(PluginProblem(plugin, what, _MEND))
        return folders

    def report(self, problem: PluginProblem) -> None:
        """Add a problem, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def silence(self) -> None:
        """Take out the plugin that shows progress."""
        if self.manager.has_plugin(PROGRESS):
            self.manager.unregister(name=PROGRESS)

    def observe(self, hook: str, **arguments: Any) -> None:
        """Call an observer hook of every plugin; one that raises is reported once and left out."""
        for impl in list(getattr(self.manager.hook, hook).get_hookimpls()):
            try:
                with plugin_call(f"its hook {hook}"):
                    impl.function(*(arguments[name] for name in impl.argnames))
            except MetabenchError as error:
                self.manager.unregister(name=impl.plugin_name)
                problem = PluginProblem(self.plugins[impl.plugin_name], str(error), _MEND)
                self.report(problem)
                warnings.warn(str(problem), stacklevel=2)

    def _collect(self, kind: str) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for plugin, cls in self._call(KINDS[kind].hook):
            try:
                with plugin_call("looking at what it provides"):
                    problem = _take(kind, plugin, cls, entries)
            except MetabenchError as error:
                problem = PluginProblem(plugin, str(error), _MEND)
            if problem is not None:
                self.report(problem)
        return entries

    def _call(self, hook: str) -> Iterable[tuple[Plugin, Any]]:
        # Our own plugins come first, so that an outsider cannot replace a built-in by its name.
        impls = getattr(self.manager.hook, hook).get_hookimpls()
        first = sorted(impls, key=lambda impl: self.plugins[impl.plugin_name].distribution != OURS)
        for impl in first:
            plugin = self.plugins[impl.plugin_name]
            try:
                with plugin_call(f"its hook {hook}"):
                    provided = list(impl.function())
            except MetabenchError as error:
                self.report(PluginProblem(plugin, str(error), _MEND))
                continue
            yield from ((plugin, item) for item in provided)


_MEND = "Repair or uninstall that package."


def _take(kind: str, plugin: Plugin, cls: Any, entries: dict[str, Entry]) -> PluginProblem | None:
    """Add a component to those of its kind, or return the problem that keeps it out."""
    violation = contract_violation(kind, cls)
    if violation is not None:
        return PluginProblem(plugin, f"{kind} {cls!r} {violation}", _MEND)
    if cls.name in entries:
        what = f"{kind} {cls.name!r} is already provided by {entries[cls.name].plugin}, which is used"
        return PluginProblem(plugin, what, "Rename one of them, or uninstall one of the two packages.")
    entries[cls.name] = Entry(kind, cls.name, cls, plugin)
    return None


def load(points: Sequence[importlib.metadata.EntryPoint] | None = None) -> Registry:
    """Return a new registry of every installed plugin (or of the entry points given), our own first."""
    manager = pluggy.PluginManager("metabench")
    manager.add_hookspecs(hookspecs)
    registry = Registry(manager, {})
    if points is None:
        points = list(importlib.metadata.entry_points(group=GROUP))
    by_plugin = {_plugin(point): point for point in points}  # a package may be on the path twice
    for plugin in sorted(by_plugin, key=lambda p: (p.distribution != OURS, p.distribution, p.name, p.module)):
        try:
            with plugin_call("its module"):
                problem = _register(registry, plugin, by_plugin[plugin])
        except MetabenchError as error:
            problem = PluginProblem(plugin, str(error), _MEND)
        if problem is not None:
            registry.report(problem)
    return registry


def _plugin(point: importlib.metadata.EntryPoint) -> Plugin:
    name = point.dist.name if point.dist else "unknown"
    version = point.dist.version if point.dist else "0"
    return Plugin(point.name, point.value, name, version)


def _register(
    registry: Registry, plugin: Plugin, point: importlib.metadata.EntryPoint
) -> PluginProblem | None:
    """Register the plugin; return the problem that keeps it out, if there is one."""
    try:
        with plugin_call("its import"):
            module = point.load()
    except MetabenchError as error:
        remedy = f"Reinstall it (pip install --force-reinstall {plugin.distribution}) or uninstall it."
        return PluginProblem(plugin, f"it fails to import: {error}", remedy)
    version = getattr(module, "METABENCH_CONTRACT", contracts.CONTRACT_VERSION)
    if version in contracts.DEPRECATED_CONTRACTS:
        registry.report(_deprecated_contract(plugin, version))
    elif version != contracts.CONTRACT_VERSION:
        return _other_contract(plugin, version)
    wrong_hook = _wrong_hook(module)
    if wrong_hook is not None:
        return PluginProblem(plugin, wrong_hook, "See the hooks in metabench.hookspecs.")
    other = registry.manager.get_name(module) or (plugin.key if plugin.key in registry.plugins else None)
    if other is not None:
        what = f"its module or its name is already that of {registry.plugins[other]}; it is left out"
        return PluginProblem(plugin, what, "Remove one of the two entry points.")
    registry.manager.register(module, name=plugin.key)
    registry.plugins[plugin.key] = plugin
    return None


def _deprecated_contract(plugin: Plugin, version: int) -> PluginProblem:
    what = f"it was made for contract {version!r}, which the next release no longer takes"
    remedy = f"Upgrade {plugin.distribution}: {contracts.DEPRECATED_CONTRACTS[version]}."
    return PluginProblem(plugin, what, remedy)


def _other_contract(plugin: Plugin, version: Any) -> PluginProblem:
    newer = isinstance(version, int) and version > contracts.CONTRACT_VERSION
    what = f"it was made for contract {version!r}, this metabench has {contracts.CONTRACT_VERSION}"
    remedy = "Upgrade metabench." if newer else f"Upgrade {plugin.distribution}."
    return PluginProblem(plugin, what, remedy)


def _wrong_hook(module: ModuleType) -> str | None:
    """The first hook of a module that has an unknown name or argument, in words; None where all are good."""
    specs = {name for name in vars(hookspecs) if name.startswith("metabench_")}
    for name, function in vars(module).items():
        if getattr(function, "metabench_impl", None) is None:
            continue
        if name not in specs:
            return f"it implements an unknown hook {name!r}; {did_you_mean(name, specs)}"
        allowed = list(inspect.signature(getattr(hookspecs, name)).parameters)
        extra = [a for a in inspect.signature(function).parameters if a not in allowed]
        if extra:
            takes = ", ".join(allowed) or "nothing"
            return f"its hook {name} has the argument {extra[0]!r}; the hook takes {takes}"
    return None


def contract_violation(kind: str, cls: Any, *, carried: bool = False) -> str | None:
    """Return why a class cannot be a component of this kind, None where it can.

    carried: whether it travels to workers, which then need not import it.
    """
    base = KINDS[kind].base
    if not isinstance(cls, type) or not issubclass(cls, base):
        return f"is no subclass of metabench.{base.__name__}"
    name = getattr(cls, "name", None)
    if not isinstance(name, str):
        return "has no `name: ClassVar[str]`"
    if not NAME.fullmatch(name):
        return f"must have a name of up to 64 letters, digits and . _ + -, the first not a sign, got {name!r}"
    if "__dataclass_fields__" not in cls.__dict__ and any(
        isinstance(value, dataclasses.Field) for value in vars(cls).values()
    ):
        return "declares settings but is no dataclass: decorate it with @dataclass(frozen=True, kw_only=True)"
    if inspect.isabstract(cls):
        return f"lacks the methods {', '.join(sorted(getattr(cls, '__abstractmethods__', ())))}"
    if carried:
        return None
    if "<locals>" in cls.__qualname__:
        return "is defined inside a function, where a worker cannot import it"
    text = (cls.__doc__ or "").strip()
    if sys.flags.optimize >= 2:  # -OO takes docstrings away
        return None
    if not text or text.startswith(f"{cls.__name__}("):  # the latter is dataclass's own
        return "has no docstring, which is its help"
    return None
