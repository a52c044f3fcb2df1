"""Damaged results and suites, drawn by a seed: what hands, disks and hostile people make of files."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers.results import HOSTILE
from metabench.records import Cell, digest_of

VALUES: Sequence[Any] = (
    None, True, False, 0, -1, 1, 7, 10**9, 2**62, -(2**63), 10**400, 0.5, -0.5, 1e308, -1e308, 5e-324,
    float("inf"), float("-inf"), float("nan"), "", "x", "0", "ok", "failed", "share", "=1+1", "\ud800",
    "\x1b[2J", "\x00", "../../x",
    "/etc/passwd", "x" * 5_000, HOSTILE, "日本", [], [1, 2], [None], [[]], {}, {"a": 1},
    {"name": "maml", "settings": {}}, [0.5] * 50, ["ok"], [{"steps": 1}],
)  # fmt: skip
"""What a part of a result is replaced by."""

Change = Callable[[random.Random, dict[str, Any]], None]


def mutated_results(
    documents: Sequence[dict[str, Any]], count: int, seed: int
) -> Iterator[tuple[str, str, bytes]]:
    """Yield so many damaged copies of these results: the name of a file, what was done, and its bytes."""
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        document = copy.deepcopy(draw.choice(documents))
        change = draw.choices([_replace, _remove, _add, _copy, _grow, _spoil_text], [12, 2, 1, 3, 1, 3])[0]
        if change is _spoil_text:
            yield f"mutant{number}.json", "bytes", _spoil_text(draw, json.dumps(document).encode())
            continue
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            change(draw, document)
        if draw.random() < 0.7:
            _seal(document)
        text = json.dumps(document, ensure_ascii=draw.random() < 0.8)
        yield f"mutant{number}.json", change.__name__, text.encode("utf-8", "surrogatepass")


def mutated_suites(texts: Sequence[str], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield so many damaged copies of these suite files: the name of a file, and its bytes."""
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        text = draw.choice(texts)
        if draw.random() < 0.15:
            yield f"mutant{number}.toml", _spoil_text(draw, text.encode())
            continue
        for _ in range(draw.choice([1, 1, 2, 3])):
            text = _changed_line(draw, text)
        yield f"mutant{number}.toml", text.encode("utf-8", "replace")


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a JSON value, as the container and the key in it."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, member in members:
        yield value, key
        yield from _parts(member)


def _place(draw: random.Random, document: dict[str, Any]) -> tuple[Any, Any]:
    """Return a place; a list of hundreds of numbers is no more likely than a name."""
    by_kind: dict[str, list[tuple[Any, Any]]] = {}
    for container, key in _parts(document):
        by_kind.setdefault(f"{id(container)}{key if isinstance(container, dict) else ''}", []).append(
            (container, key)
        )
    return draw.choice(by_kind[draw.choice(sorted(by_kind))])


def _replace(draw: random.Random, document: dict[str, Any]) -> None:
    container, key = _place(draw, document)
    kind = type(container[key])
    alike = [value for value in VALUES if type(value) is kind] if draw.random() < 0.6 else []
    container[key] = copy.deepcopy(draw.choice(alike or VALUES))


def _remove(draw: random.Random, document: dict[str, Any]) -> None:
    container, key = _place(draw, document)
    del container[key]


def _add(draw: random.Random, document: dict[str, Any]) -> None:
    container, _ = _place(draw, document)
    value = copy.deepcopy(draw.choice(VALUES))
    if isinstance(container, dict):
        container[draw.choice(["extra", "", "\ud800", "mean", "x" * 300, "a.b"])] = value
    else:
        container.append(value)


def _copy(draw: random.Random, document: dict[str, Any]) -> None:
    """Put one part of the document where another was."""
    source, name = _place(draw, document)
    value = copy.deepcopy(source[name])
    container, key = _place(draw, document)
    container[key] = value


def _grow(draw: random.Random, document: dict[str, Any]) -> None:
    container, key = _place(draw, document)
    value: Any = container[key]
    for _ in range(draw.choice([5, 40, 150])):
        value = [value] if draw.random() < 0.5 else {"x": value}
    container[key] = value


def _seal(document: dict[str, Any]) -> None:
    """Make digest and seal anew, so that the damage is all that is wrong."""
    try:
        document["digest"] = Cell.from_json(document["cell"]).digest
        document["seal"] = digest_of({k: v for k, v in document.items() if k != "seal"})
    except Exception:  # a document so damaged that it has none
        return


def _spoil_text(draw: random.Random, text: bytes) -> bytes:
    at = draw.randrange(len(text))
    to = min(len(text), at + draw.choice([1, 1, 4, 200]))
    middle = draw.choice(
        [b"", b"\x00", b"\xff", b"9" * 400, b"[" * 2_000, b'"', b"NaN", b"1e999", text[at:to] * 2]
    )
    return draw.choice([text[:at], text[:at] + middle + text[to:], middle + text, text + middle])


_LITERALS = (
    "0", "-1", "1e308", "nan", "inf", "10000000000000000000", "9" * 400, "true", '""', '"x"', '"../../x"',
    "[]", "[1, 2]", "{}", "{name = 3}", '{name = "maml", nothing = 1}', "[[]]", '"\\u001b[2J"', '"\\ud800"',
    "1979-05-27", "[" * 300 + "]" * 300, '"maml"', '"blobs"', "1.5", "[-1]", '["ok"]', '["a", 1]',
)  # fmt: skip

_LINES = (
    "[[cells]]", "[defaults]", "[cells.sweep]", 'x = "\\u0000"', "seeds = [0, 0]", "[budget", '"" = 1', "=",
    "budget = {steps = -1}", "version = 1", "test = {ways = 10000, shots = 1, queries = 1}", "a.b.c = 1",
    'expect = ["great"]', '[cells.sweep]\n"budget.steps" = [1, "x"]', "\x00", "#\ufffe",
    'backend = {name = "cpu", threads = 0}',
)  # fmt: skip


def _changed_line(draw: random.Random, text: str) -> str:
    lines = text.splitlines() or [""]
    at = draw.randrange(len(lines))
    name, equals, _ = lines[at].partition("=")
    kind = draw.choice(["value", "value", "value", "drop", "double", "insert", "swap", "key"])
    if kind == "value" and equals:
        lines[at] = f"{name}= {draw.choice(_LITERALS)}"
    elif kind == "drop":
        del lines[at]
    elif kind == "double":
        lines.insert(at, lines[at])
    elif kind == "swap":
        other = draw.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "key" and equals:
        lines[at] = f"{name.strip()}x ={lines[at].partition('=')[2]}"
    else:
        lines.insert(at, draw.choice(_LINES))
    return "\n".join(lines) + "\n"
