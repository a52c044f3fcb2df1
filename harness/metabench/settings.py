"""Settings: one place that declares, checks, completes and describes the fields of any component.

A component is a frozen dataclass; each field made with `setting` is one of its settings:

    @dataclass(frozen=True, kw_only=True)
    class Ridge(Algorithm):
        '''Closed-form ridge regression on frozen features.'''
        name = "ridge"
        penalty: float = setting(1.0, "weight of the squared norm", above=0)

`complete(Ridge, {"penalty": 2})` checks values and adds defaults, `make(Ridge, …)` builds an instance,
`describe_settings(Ridge)` lists the fields.
"""

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field
from typing import Any, TypeVar, Union, get_args, get_origin

from metabench.errors import RequestError, SettingError, did_you_mean

T = TypeVar("T")
REQUIRED: Any = MISSING
"""The default of a setting that must be given."""


def setting(
    default: Any,
    help: str,
    *,
    choices: Sequence[Any] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
) -> Any:
    """Declare one setting of a component: its default (`REQUIRED` for none), its help, its bounds."""
    rule = {"help": help, "choices": choices, "at_least": at_least, "above": above, "at_most": at_most}
    return field(default=default, metadata={"setting": rule})


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting: its name, type, default, help and bounds."""

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


def describe_settings(component: type) -> list[Setting]:
    """Return the settings of a component class, in the order of its fields."""
    return list(_settings(component))


def complete(component: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given settings, checked and completed with the defaults, as plain JSON values.

    Raises SettingError with one line per mistake; each line names the setting and what is possible.
    """
    declared = {setting.name: setting for setting in _settings(component)}
    title = getattr(component, "name", component.__name__)
    mistakes = [
        f"{title!r} has no setting {name!r}; {did_you_mean(name, declared)}"
        for name in given
        if name not in declared
    ]
    values: dict[str, Any] = {}
    for name, setting in declared.items():
        if name not in given and setting.default is MISSING:
            mistakes.append(f"{title!r} needs the setting {name!r}: {setting.help}")
            continue
        try:
            values[name] = _checked(setting, given.get(name, setting.default))
        except SettingError as error:
            mistakes.append(f"{title!r}, setting {name!r}: {error}")
    if mistakes:
        raise SettingError("\n".join(mistakes))
    return values


def make(component: type[T], given: Mapping[str, Any] | None = None) -> T:
    """Return an instance of a component with these settings; raises SettingError as `complete` does."""
    values = complete(component, given or {})
    return component(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def at_default(component: type, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names, sorted, of those completed settings whose value is the component's default."""
    defaults = {
        setting.name: _checked(setting, setting.default)
        for setting in _settings(component)
        if setting.default is not MISSING
    }
    return tuple(sorted(n for n, value in values.items() if n in defaults and _same(value, defaults[n])))


def _same(value: Any, default: Any) -> bool:
    """Return whether two JSON values are the same; 1, 1.0 and True are not."""
    return type(value) is type(default) and bool(value == default)


def _settings(component: type) -> Iterator[Setting]:
    hints = typing.get_type_hints(component)
    for declared in dataclasses.fields(component):
        rule = declared.metadata.get("setting", {})
        factory = declared.default_factory
        yield Setting(
            name=declared.name,
            type=hints[declared.name],
            default=declared.default if factory is MISSING else factory(),
            help=rule.get("help", ""),
            choices=rule.get("choices"),
            at_least=rule.get("at_least"),
            above=rule.get("above"),
            at_most=rule.get("at_most"),
        )


def _checked(setting: Setting, value: Any) -> Any:
    value = _coerced(setting.type, value)
    for member in value if isinstance(value, list) else [value]:
        if setting.choices is not None and member is not None and member not in setting.choices:
            listed = ", ".join(str(choice) for choice in setting.choices)
            raise SettingError(f"must be one of {listed}, got {member!r}")
        if isinstance(member, (int, float)) and not isinstance(member, bool):
            _require_bounds(setting, member)
    return value


def _require_bounds(setting: Setting, number: float) -> None:
    if isinstance(number, float) and not math.isfinite(number):
        raise SettingError(f"must be a finite number, got {number}")
    if setting.at_least is not None and number < setting.at_least:
        raise SettingError(f"must be ≥ {setting.at_least}, got {number}")
    if setting.above is not None and number <= setting.above:
        raise SettingError(f"must be > {setting.above}, got {number}")
    if setting.at_most is not None and number > setting.at_most:
        raise SettingError(f"must be ≤ {setting.at_most}, got {number}")


def _coerced(expected: Any, value: Any) -> Any:
    """Return `value` as the expected type, if nothing is lost (an int for a float, a list for a tuple)."""
    origin = get_origin(expected)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(expected):
            return None
        for option in get_args(expected):
            if option is not type(None):
                try:
                    return _coerced(option, value)
                except SettingError:
                    continue
    elif origin in (tuple, list):
        if isinstance(value, (list, tuple)):
            return [_coerced(get_args(expected)[0], item) for item in value]
    elif expected is Any:
        return value
    elif expected is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(OverflowError):  # of an integer with more than 308 digits
            return float(value)
    elif expected in (int, str, bool) and type(value) is expected:  # True is no int here
        return value
    raise SettingError(f"must be {_type_text(expected)}, got {_short(value)}")


def _short(value: Any) -> str:
    """Return `value` as in source code, cut where it is very long."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return "an integer of more than 20 digits"  # Python refuses to print one of 4,300
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _type_text(declared: Any) -> str:
    origin = get_origin(declared)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_text(option) for option in get_args(declared))
    if origin in (tuple, list):
        return f"list of {_type_text(get_args(declared)[0])}"
    names: dict[Any, str] = {str: "string", type(None): "none", Any: "value"}
    return names.get(declared) or str(getattr(declared, "__name__", declared))


def parse_spec(text: str) -> dict[str, Any]:
    """Return `cpu:threads=2,affinity=[0,1]` from the command line as the table that a suite would have.

    Raises RequestError where a part is no setting.
    """
    name, _, rest = text.partition(":")
    table: dict[str, Any] = {"name": name}
    parts = [part for part in rest.split(",") if part]
    while parts:
        key, equals, value = parts.pop(0).partition("=")
        if not equals:
            raise RequestError(f"{text!r}: {key!r} is no setting; write NAME:setting=value,setting=value")
        while value.startswith(("[", '"')) and not _is_toml(value) and parts:
            value += f",{parts.pop(0)}"  # a comma inside of a list or a text
        table[key] = tomllib.loads(f"value = {value}")["value"] if _is_toml(value) else value
    return table


def parse_specs(text: str) -> list[dict[str, Any]]:
    """Return `ece:bins=5,nll` from the command line as the tables that a suite would have.

    Raises RequestError where a part is no setting.
    """
    texts: list[str] = []
    for part in text.split(","):
        name, colon, _ = part.partition(":")
        begins = "=" not in part or (colon and "=" not in name)
        if texts and not begins:
            texts[-1] += f",{part}"
        elif part:
            texts.append(part)
    return [parse_spec(spec) for spec in texts]


def _is_toml(value: str) -> bool:
    try:
        tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return False
    return True
