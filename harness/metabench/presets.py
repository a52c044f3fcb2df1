"""Presets: settings of a component under a name, such as those of the paper that a method is from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metabench.errors import SettingError, did_you_mean

KEY = "preset"


@dataclass(frozen=True)
class Preset:
    """Settings under a name: `{name = "protonet", preset = "snell2017"}` in a suite stands for them.

    source: where they are from, to a table or a file; settings: those that it fixes; cell:
    what else the source had, as the keys of a suite's cell, which are given beside the algorithm.
    """

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    cell: str = ""


def expand_preset(component: type, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the given settings, with those of their `preset` where they do not say otherwise.

    A component's presets are its class attribute `presets`. Where `preset` is one of its settings it is left
    alone. Raises SettingError for a preset that there is not, naming those that there are.
    """
    if KEY not in given or any(own.name == KEY for own in dataclasses.fields(component)):
        return given
    presets: Mapping[str, Preset] = getattr(component, "presets", {})
    name = given[KEY]
    if not isinstance(name, str) or name not in presets:
        title = getattr(component, "name", component.__name__)
        raise SettingError(f"{title!r} has no preset {name!r}; {did_you_mean(str(name), presets)}")
    own_settings = {key: value for key, value in given.items() if key != KEY}
    return {**presets[name].settings, **own_settings}
