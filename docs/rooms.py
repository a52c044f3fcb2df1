"""Reference pages of metabench's public rooms, which authors of plugins import.

Names come from a room's `__all__` or, without it, from its module's definitions; texts from docstrings.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from metabench.contracts import Component
from metabench.settings import describe_settings

ROOMS: Mapping[str, tuple[str, ...]] = {
    "data": ("draws",),
    "deprecation": (),
    "device": ("ranks", "meters", "host"),
    "engine": (),
    "errors": (),
    "learning": (),
    "records": (),
    "report": (),
    "settings": (),
    "stats": (),
    "testing": (),
}
"""Room → its modules that plugins import as well."""

OTHER_PAGES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "records": {
        "results.md": ("Result", "Training", "Block", "Validation", "Scores", "Cell", "Spec"),
    },
}
"""Room → page → names that this page documents instead of the room's own."""

LONGEST_VALUE = 90


def room_page(room: str, head: Iterable[str] = ()) -> list[str]:
    """Return the parts of a room's page, after the paragraphs of `head`."""
    module = import_module(f"metabench.{room}")
    parts = [f"# metabench.{room}", doc(module), *head]
    documented = {name for names in OTHER_PAGES.get(room, {}).values() for name in names}
    for page, names in OTHER_PAGES.get(room, {}).items():
        listed = ", ".join(f"`{name}`" for name in names)
        parts.append(f"On [a page of their own]({page}): {listed}.")
    parts += [entry(module, name) for name in public_names(module) if name not in documented]
    for submodule in ROOMS[room]:
        inner = import_module(f"metabench.{room}.{submodule}")
        parts += [f"# metabench.{room}.{submodule}", doc(inner)]
        parts += [entry(inner, name) for name in public_names(inner)]
    return parts


def public_names(module: ModuleType) -> list[str]:
    """Return a module's `__all__`, or the public names that it defines, in order."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    names = []
    for node in ast.parse(_source(module)).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names += [target.id for target in _targets(node) if target.id.isupper()]
    return [name for name in names if not name.startswith("_") and len(name) > 1]


def entry(module: ModuleType, name: str) -> str:
    """Return the section of one name: signature and docstring, and a class's methods or fields."""
    thing = getattr(module, name)
    if inspect.isclass(thing):
        return class_section(thing)
    if inspect.isroutine(thing):
        return f"## {name}\n\n{_block(signature(name, thing))}\n\n{doc(thing)}"
    return "\n\n".join(part for part in (f"## {name}", _value(thing), constant_doc(module, name)) if part)


def class_section(cls: type, *, marks_defaults: bool = False) -> str:
    """Return a class's docstring, fields, properties and methods; marks_defaults: of a contract's methods."""
    parts = [f"## {cls.__name__}", _constructor(cls), doc(cls), _bases(cls), _fields(cls)]
    for name, member in vars(cls).items():
        if not name.startswith("_"):
            parts += _member(cls, name, member, marks_defaults)
    return "\n\n".join(part for part in parts if part)


def _member(cls: type, name: str, member: Any, marks_defaults: bool) -> Iterator[str]:
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    if isinstance(member, property):
        yield f"### `{cls.__name__}.{name}`\n\n{doc(member)}"
    elif inspect.isfunction(member):
        has_default = marks_defaults and not getattr(member, "__isabstractmethod__", False)
        head = f"### `{cls.__name__}.{name}`{' (has a default)' if has_default else ''}"
        yield f"{head}\n\n{_block(signature(name, member))}\n\n{doc(member)}"


def _constructor(cls: type) -> str:
    """Return the signature of a class with an `__init__` of its own."""
    if "__init__" not in vars(cls) or dataclasses.is_dataclass(cls) or getattr(cls, "_is_protocol", False):
        return ""
    return _block(
        signature(cls.__name__, vars(cls)["__init__"]).replace("(self, ", "(").removesuffix(" -> None")
    )


def _bases(cls: type) -> str:
    """Return which documented classes a class derives from."""
    bases = [base for base in cls.__bases__ if base.__module__.startswith("metabench.")]
    names = [f"`{base.__name__}`" for base in bases if base is not Component]
    return f"Derives from {' and '.join(names)}." if names else ""


def _fields(cls: type) -> str:
    """Return a component's settings, or a line for each field that a record declares."""
    if issubclass(cls, Component):
        return settings_table(cls) if dataclasses.fields(cls) else ""
    if not (dataclasses.is_dataclass(cls) or hasattr(cls, "_fields") or hasattr(cls, "__total__")):
        return ""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    lines = []
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and not ast.unparse(part.annotation).startswith("ClassVar"):
            lines.append(f"- `{ast.unparse(part.target)}`: `{ast.unparse(part.annotation)}`")
    return "\n".join(lines)


def settings_table(cls: type) -> str:
    """Return a component's settings as a table."""
    rows = ["| key | type | default | what it is |", "| --- | --- | --- | --- |"]
    for field in describe_settings(cls):
        rows.append(f"| `{field.name}` | {field.type_text} | {_toml(field.default)} | {field.help} |")
    return "\n".join(rows)


def _toml(default: Any) -> str:
    """Return a default as a suite file has it; TOML has no word for None."""
    if default is dataclasses.MISSING:
        return "required"
    return "none" if default is None else f"`{json.dumps(default)}`"


def signature(name: str, function: Any) -> str:
    """Return `name(argument: type) -> type`, as the source has it, in one line."""
    source = textwrap.dedent(inspect.getsource(function))
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    lines = source.splitlines()[node.lineno - 1 : node.body[0].lineno - 1]
    lines = [line.partition("  #")[0] for line in lines]
    text = " ".join(" ".join(lines).split()).removeprefix("def ").removesuffix(":")
    return name + text.removeprefix(node.name).replace("( ", "(").replace(", )", ")").replace(" )", ")")


def _value(constant: Any) -> str:
    """Return a constant's value where it is text or short, or a mapping's keys; never an address."""
    if isinstance(constant, str):
        return f"> {constant}"
    text = repr(constant)
    if "<" not in text and len(text) <= LONGEST_VALUE:
        return f"`{text}`"
    return f"Keys: {', '.join(f'`{key}`' for key in constant)}." if isinstance(constant, Mapping) else ""


def constant_doc(module: ModuleType, name: str) -> str:
    """Return the string below a constant's assignment, in the module or where its package defines it."""
    for source in [_source(module), *_sources_beside(module)]:
        body = ast.parse(source).body
        for node, following in pairwise(body):
            if not isinstance(node, ast.Assign | ast.AnnAssign) or name not in {t.id for t in _targets(node)}:
                continue
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                return inspect.cleandoc(str(following.value.value))
    return ""


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.Name]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target for target in targets if isinstance(target, ast.Name)]


def _source(module: ModuleType) -> str:
    return Path(str(module.__file__)).read_text(encoding="utf-8")


def _sources_beside(module: ModuleType) -> Iterator[str]:
    """Yield the sources of a package's modules, and of `records`, whose names other rooms hand on."""
    for package in (module, import_module("metabench.records")):
        if hasattr(package, "__path__"):
            for path in sorted(Path(str(package.__file__)).parent.glob("*.py")):
                yield path.read_text(encoding="utf-8")


def doc(thing: Any) -> str:
    """Return a docstring without its indentation; empty without one."""
    return inspect.cleandoc(thing.__doc__ or "").replace("'''", '"""').replace("''", "'")


def _block(text: str) -> str:
    return f"```text\n{text}\n```"
