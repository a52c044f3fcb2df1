"""Which code made a result: digests of what Python files say, so that changed code is seen.

A file's digest is of its syntax tree without docstrings: comments, layout and help may change. A component's
is that of its module and of all modules that this imports, transitively, from its own source folder, its own
distribution or the first-party plugins. The `__init__` of a package counts where a name is imported from it,
not where a module below it is; what is imported by a name that is only computed is not seen. The harness has
one digest, of the rooms that decide what a score is.

Nothing is imported here but the packages that hold a module. Files are parsed once: their digests are kept by
path, time and size, in memory and in a file of the cache.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from metabench.errors import StoreError
from metabench.records.files import write_json
from metabench.records.identity import digest_of

HARNESS_ROOMS = ("engine", "learning", "data", "worker")
SOURCES = frozenset({".py", ".cpp", ".h", ".cu"})
FIRST_PARTY = "metabench_plugins"
CACHE_NAME = "code.json"
INSTALLED = frozenset({"site-packages", "dist-packages"})
FORMAT = 1
"""Raised when digests are made in another way: those in the cache are made anew."""

Imports = Sequence[Sequence[tuple[int, str]]]
"""Of each imported name, the modules that it may mean: the number of leading dots, and the name."""

Code = Mapping[str, str]
"""Digests by kind of component, and of the "harness"."""


class Module(NamedTuple):
    """What a Python file is: the digest of its syntax, and the names that it imports, absolute."""

    digest: str
    imports: tuple[tuple[str, ...], ...]
    """Of each import, the modules that it may mean, the first that is one is meant: ("a.b", "a")."""


class CodeReader:
    """Digests of code as it is when they are first asked for; cache: a file that keeps those of files."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self._known: dict[str, list[Any]] = {}
        self._components: dict[tuple[str, str], str] = {}
        self._fresh = False
        if cache is not None:
            with suppress(OSError, ValueError, AttributeError, KeyError):
                stored = json.loads(cache.read_bytes())
                self._known = stored["files"] if stored.get("format") == FORMAT else {}

    def code_of(self, components: Mapping[str, str], plugins: Mapping[str, str]) -> Code:
        """Return the digests of a cell's code.

        components: kind → "module:qualified name" of the class; plugins: kind → "distribution version".
        """
        code = {
            kind: self.component(path.partition(":")[0], plugins.get(kind, "").rpartition(" ")[0])
            for kind, path in components.items()
        }
        code["harness"] = self.harness
        self.write()
        return code

    def component(self, module: str, distribution: str = "") -> str:
        """Return the digest of a module and of what it imports; empty where its source is not here."""
        key = (module, distribution)
        if key not in self._components:
            file = source_of(module)
            closure = self._closure(module, file, distribution) if file is not None else {}
            self._components[key] = digest_of(sorted(closure.items())) if closure else ""
        return self._components[key]

    @cached_property
    def harness(self) -> str:
        """Return the digest of the harness's rooms, compiled sources included."""
        home = Path(__file__).parent.parent
        inside = (path for room in HARNESS_ROOMS for path in (home / room).rglob("*"))
        files = sorted(path for path in (home / "scoring.py", *inside) if path.suffix in SOURCES)
        return digest_of([[path.relative_to(home).as_posix(), self._digest(path)] for path in files])

    def _closure(self, module: str, file: Path, distribution: str) -> dict[str, str]:
        """Return the digest of each module that belongs to a component's code, by name."""
        roots = _roots(module, file, distribution)
        digests: dict[str, str] = {}
        waiting = [(module, file)]
        while waiting:
            name, path = waiting.pop()
            if name in digests:
                continue
            source = self._module(name, path)
            digests[name] = source.digest
            for candidates in source.imports:
                places = ((target, _find(target, roots)) for target in candidates)
                waiting += [(target, place) for target, place in places if place is not None][:1]
        return digests

    def _module(self, name: str, path: Path) -> Module:
        digest, imports = self._known_file(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        return Module(
            digest, tuple(tuple(_absolute(package, *target) for target in targets) for targets in imports)
        )

    def _digest(self, path: Path) -> str:
        return str(self._known_file(path)[0])

    def _known_file(self, path: Path) -> tuple[str, Imports]:
        """Return the digest and the imports of a file, which is read where it has changed."""
        state = path.stat()
        stamp = f"{state.st_mtime_ns} {state.st_size}"
        known = self._known.get(str(path))
        if known is None or known[0] != stamp:
            known = [stamp, *_read(path)]
            self._known[str(path)], self._fresh = known, True
        return known[1], known[2]

    def write(self) -> None:
        """Keep what was read of files that are still there, where there is a cache that can be written."""
        if self.cache is None or not self._fresh:
            return
        present = {path: known for path, known in self._known.items() if os.path.exists(path)}
        with suppress(StoreError):
            write_json(self.cache, {"format": FORMAT, "files": present})
            self._fresh = False


def changed_code(stored: Code, here: Code) -> list[str]:
    """Return the kinds whose code differs, of those that both know."""
    return sorted(kind for kind in stored.keys() & here.keys() if stored[kind] != here[kind])


def source_of(module: str) -> Path | None:
    """Return the file of a module, without importing it; None where it has none that is Python."""
    with suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            return Path(spec.origin)
    return None


def _roots(module: str, file: Path, distribution: str) -> dict[str, Path | None]:
    """Return where the code of a component may lie: top-level name → folder; "" for any name in a folder.

    Folders that many distributions share hold only those of the component's own.
    """
    depth = module.count(".") + (file.name == "__init__.py")
    root = file.parents[depth]
    roots: dict[str, Path | None] = {FIRST_PARTY: _first_party(), module.partition(".")[0]: root}
    if root.name not in INSTALLED:
        roots[""] = root
    return roots | dict.fromkeys(_top_level(distribution), root)


@cache
def _first_party() -> Path | None:
    file = source_of(FIRST_PARTY)
    return file.parent.parent if file is not None else None


@cache
def _top_level(distribution: str) -> Sequence[str]:
    """Return the packages that a distribution says it has."""
    with suppress(importlib.metadata.PackageNotFoundError, ValueError):
        listed = importlib.metadata.distribution(distribution).read_text("top_level.txt") or ""
        return [name for name in listed.split() if name != "metabench"]
    return []


def _find(name: str, roots: Mapping[str, Path | None]) -> Path | None:
    top = name.partition(".")[0]
    if top == "metabench":  # the harness has a digest of its own
        return None
    root = roots.get(top) or roots.get("")
    if root is None:
        return None
    place = root.joinpath(*name.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


def _absolute(package: str, level: int, target: str) -> str:
    """Return the absolute name of an import in a package; level: its leading dots."""
    if not level:
        return target
    base = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*base, *([target] if target else [])])


def _read(path: Path) -> tuple[str, Imports]:
    content = path.read_bytes()
    if path.suffix == ".py":
        with suppress(SyntaxError, ValueError):
            tree = ast.parse(content)
            return _tree_digest(tree), sorted(set(_imports(tree)))
    return hashlib.sha256(content).hexdigest(), []


def _imports(tree: ast.AST) -> Iterator[tuple[tuple[int, str], ...]]:
    """Yield what a file imports, wherever in it: of `from a import b`, first a.b and then a."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (((0, alias.name),) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                yield (node.level, f"{module}.{alias.name}".lstrip(".")), (node.level, module)


def _tree_digest(tree: ast.Module) -> str:
    """Return the digest of a syntax tree without docstrings, equal in every version of Python."""
    parts: list[str] = []
    _describe(tree, parts)
    return hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()


def _describe(value: Any, parts: list[str]) -> None:
    """Add a syntax tree's nodes and values; empty fields are left out, as some versions have none."""
    if isinstance(value, ast.AST):
        parts.append(f"({type(value).__name__}")
        for name, inner in ast.iter_fields(value):
            if inner is None or inner == []:
                continue
            parts.append(name)
            _describe(_without_docstring(value, inner) if name == "body" else inner, parts)
        parts.append(")")
    elif isinstance(value, list):
        for inner in value:
            _describe(inner, parts)
    else:
        parts.append(f"{type(value).__name__} {value!r}")


def _without_docstring(node: ast.AST, body: Any) -> Any:
    """Return the statements of a module, class or function without its docstring."""
    documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    first = body[0] if documented else None
    is_text = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return body[1:] if is_text else body
