"""Settings: one place that declares, checks, fills and explains the fields of any component.

A component is a frozen dataclass; each field made with `setting` is one of its settings:

    @dataclass(frozen=True, kw_only=True)
    class Ridge(Algorithm):
        '''Closed-form ridge regression on frozen features.'''
        name = "ridge"
        penalty: float = setting(1.0, "weight of the squared norm", above=0)

`fill(Ridge, {"penalty": 2})` checks and completes, `make(Ridge, …)` builds, `explain(Ridge)` lists.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field
from typing import Any, TypeVar, Union, get_args, get_origin

from metabench.errors import SettingError, known

T = TypeVar("T")
REQUIRED: Any = MISSING


def setting(
    default: Any,
    help: str,
    *,
    choices: Sequence[Any] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
) -> Any:
    """Declares one setting of a component: its default (`REQUIRED` for none), its help, its bounds."""
    rule = {"help": help, "choices": choices, "at_least": at_least, "above": above, "at_most": at_most}
    return field(default=default, metadata={"setting": rule})


@dataclass(frozen=True)
class Setting:
    """What is known of one setting: its name, type, default, help and bounds."""

    name: str
    type: Any
    default: Any
    help: str
    choices: Sequence[Any] | None
    at_least: float | None
    above: float | None
    at_most: float | None

    @property
    def type_text(self) -> str:
        """The type as a person writes it: `int`, `float or none`, `list of int`."""
        return _type_text(self.type)


def explain(component: type) -> list[Setting]:
    """Every setting of a component class, in the order of its fields."""
    return list(_settings(component))


def fill(component: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings, checked and completed by the defaults, as plain JSON values.

    Raises SettingError with one line per mistake, each naming the setting and what is possible.
    """
    wanted = {s.name: s for s in _settings(component)}
    title = getattr(component, "name", component.__name__)
    mistakes = [
        f"{title!r} has no setting {name!r}; {known(name, wanted)}" for name in given if name not in wanted
    ]
    filled: dict[str, Any] = {}
    for name, one in wanted.items():
        if name not in given and one.default is MISSING:
            mistakes.append(f"{title!r} needs the setting {name!r}: {one.help}")
            continue
        try:
            filled[name] = _checked(one, given.get(name, one.default))
        except SettingError as error:
            mistakes.append(f"{title!r}, setting {name!r}: {error}")
    if mistakes:
        raise SettingError("\n".join(mistakes))
    return filled


def make(component: type[T], given: Mapping[str, Any] | None = None) -> T:
    """An instance of a component with these settings; raises SettingError as `fill` does."""
    filled = fill(component, given or {})
    return component(**{k: tuple(v) if isinstance(v, list) else v for k, v in filled.items()})


def _settings(component: type) -> Iterator[Setting]:
    hints = typing.get_type_hints(component)
    for one in dataclasses.fields(component):
        rule = one.metadata.get("setting", {})
        yield Setting(
            name=one.name,
            type=hints[one.name],
            default=one.default if one.default_factory is MISSING else one.default_factory(),
            help=rule.get("help", ""),
            choices=rule.get("choices"),
            at_least=rule.get("at_least"),
            above=rule.get("above"),
            at_most=rule.get("at_most"),
        )


def _checked(one: Setting, value: Any) -> Any:
    value = _coerced(one.type, value)
    for member in value if isinstance(value, list) else [value]:
        if one.choices is not None and member is not None and member not in one.choices:
            listed = ", ".join(str(c) for c in one.choices)
            raise SettingError(f"{member!r} is not one of {listed}")
        if isinstance(member, (int, float)) and not isinstance(member, bool):
            _require_bounds(one, member)
    return value


def _require_bounds(one: Setting, number: float) -> None:
    if isinstance(number, float) and not math.isfinite(number):
        raise SettingError(f"{number} is not a finite number")
    if one.at_least is not None and number < one.at_least:
        raise SettingError(f"{number} is less than {one.at_least}")
    if one.above is not None and number <= one.above:
        raise SettingError(f"{number} is not above {one.above}")
    if one.at_most is not None and number > one.at_most:
        raise SettingError(f"{number} is more than {one.at_most}")


def _coerced(wanted: Any, value: Any) -> Any:
    """`value` as `wanted`, where no information is lost (an int for a float, a list for a tuple)."""
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(wanted):
            return None
        for option in get_args(wanted):
            if option is not type(None):
                try:
                    return _coerced(option, value)
                except SettingError:
                    continue
    elif origin in (tuple, list):
        if isinstance(value, (list, tuple)):
            return [_coerced(get_args(wanted)[0], item) for item in value]
    elif wanted is Any:
        return value
    elif wanted is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(OverflowError):  # of a whole number with more than 308 digits
            return float(value)
    elif wanted in (int, str, bool) and type(value) is wanted:  # True is no int here
        return value
    raise SettingError(f"{value!r} is no {_type_text(wanted)}")


def _type_text(wanted: Any) -> str:
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_text(a) for a in get_args(wanted))
    if origin in (tuple, list):
        return f"list of {_type_text(get_args(wanted)[0])}"
    names: dict[Any, str] = {str: "string", type(None): "none", Any: "value"}
    return names.get(wanted) or str(getattr(wanted, "__name__", wanted))
