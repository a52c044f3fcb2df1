"""Figures as text, and untrusted text made safe for a terminal or a Markdown page."""

import math
import re

ABSENT = "–"
"""What a table shows where there is nothing to show."""


def significant(value: float, digits: int = 3) -> str:
    """Return a figure with `digits` significant digits, without an exponent from 0.0001 to 10 million.

    >>> significant(1234.5), significant(0.012345), significant(2.0)
    ('1,234', '0.0123', '2.00')
    """
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return ABSENT
    size = math.floor(math.log10(abs(value)))
    if not -4 <= size < 7:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(digits - 1 - size, 0)}f}"


def score_text(mean: float | None, half_width: float | None, unit: str) -> str:
    """Return a score with its interval: fractions in per cent, others with the digits the interval allows.

    unit: "share" marks a fraction.

    >>> score_text(0.9731, 0.0042, "share"), score_text(1.2345, 0.021, "")
    ('97.31 ± 0.42 %', '1.234 ± 0.021')
    """
    if mean is None:
        return ABSENT
    scale, mark = (100.0, " %") if unit == "share" else (1.0, f" {unit}" if unit else "")
    mean, half = mean * scale, None if half_width is None else half_width * scale
    if half is None or not math.isfinite(half):
        return f"{mean:.2f} ± ?{mark}" if unit == "share" else f"{significant(mean)} ± ?{mark}"
    if unit == "share":
        return f"{mean:.2f} ± {half:.2f}{mark}"
    if half == 0:
        return f"{significant(mean, 4)} ± 0{mark}"
    digits = min(max(1 - math.floor(math.log10(half)), 0), 8)
    return f"{mean:.{digits}f} ± {half:.{digits}f}{mark}"


def half_text(half_width: float, unit: str) -> str:
    """Return half an interval as it stands beside a score.

    >>> half_text(0.0042, "share"), half_text(0.021, "")
    ('0.42', '0.021')
    """
    return f"{half_width * 100:.2f}" if unit == "share" else significant(half_width, 2)


def brief(value: str, length: int = 100) -> str:
    """Return the text on one line, cut at `length` characters."""
    flat = " ".join(value.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def markdown_text(value: str) -> str:
    """Return untrusted text as a Markdown page shows it literally: no markup, formula, link or mention."""
    flat = one_line(value)
    for mark, entity in _ENTITIES.items():
        flat = flat.replace(mark, entity)
    for mark in "\\`*_[]|~":
        flat = flat.replace(mark, f"\\{mark}")
    return _WWW.sub(r"\1&#46;", flat).replace("://", ":&#47;&#47;")


_ENTITIES = {"&": "&amp;", "#": "&#35;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "$": "&#36;"}
"""In this order, since entities have both of the first two; a page that renders math reads `$`."""

_WWW = re.compile(r"(www)\.", re.IGNORECASE)


def one_line(value: str) -> str:
    """Return untrusted text on one line, without control characters."""
    return " ".join(printable(value).split())


def printable(value: str) -> str:
    """Return untrusted text without control characters, which could move a terminal's cursor.

    Bytes of a file's name that are no UTF-8 are shown as `�`.
    """
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() or c == "\n" else _replacement(c) for c in value)


def _replacement(character: str) -> str:
    return "�" if "\ud800" <= character <= "\udfff" else " "
