"""Settings: checked, completed and described in one place."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from metabench import REQUIRED, SettingError, setting
from metabench.contracts import Component
from metabench.settings import complete, describe_settings, make


@dataclass(frozen=True, kw_only=True)
class Oven(Component):
    """Bakes."""

    name: ClassVar[str] = "oven"
    heat: float = setting(180.0, "degrees Celsius", above=0, at_most=300)
    mode: str = setting("air", "how it heats", choices=("air", "grill"))
    trays: tuple[int, ...] = setting((1,), "levels in use", at_least=1)
    timer: float | None = setting(None, "minutes")
    lit: bool = setting(False, "light on")
    tools: tuple[str, ...] = setting(("rack",), "what lies in it", choices=("rack", "stone"))


@dataclass(frozen=True, kw_only=True)
class Locked(Component):
    """Needs a key."""

    name: ClassVar[str] = "locked"
    key: str = setting(REQUIRED, "what opens it")


def test_defaults_complete_the_settings_and_integers_become_floats() -> None:
    values = complete(Oven, {"heat": 200})
    assert values == {
        "heat": 200.0,
        "mode": "air",
        "trays": [1],
        "timer": None,
        "lit": False,
        "tools": ["rack"],
    }
    assert type(values["heat"]) is float


def test_unknown_setting_names_the_likely_and_the_known_ones() -> None:
    with pytest.raises(SettingError, match="'oven' has no setting 'haet'; did you mean 'heat'"):
        complete(Oven, {"haet": 1})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heat": "hot"}, "must be float, got 'hot'"),
        ({"heat": 0}, "must be > 0, got 0.0"),
        ({"heat": 301}, "must be ≤ 300, got 301.0"),
        ({"heat": True}, "must be float, got True"),
        ({"mode": "steam"}, "must be one of air, grill, got 'steam'"),
        ({"trays": [1, 0]}, "must be ≥ 1, got 0"),
        ({"trays": 1}, "must be list of int, got 1"),
        ({"timer": "long"}, "must be float or none, got 'long'"),
        ({"lit": 1}, "must be bool, got 1"),
        ({"heat": float("nan")}, "must be a finite number, got nan"),
        ({"timer": float("inf")}, "must be a finite number, got inf"),
        ({"heat": 10**400}, "must be float, got an integer of more than 20 digits"),
        ({"tools": ["stone", "axe"]}, "must be one of rack, stone, got 'axe'"),
    ],
)
def test_wrong_value_says_what_is_wrong(given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        complete(Oven, given)


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(SettingError) as caught:
        complete(Oven, {"haet": 1, "mode": "steam", "lit": 1})
    assert len(str(caught.value).splitlines()) == 3


def test_required_setting_is_asked_for_by_its_help() -> None:
    with pytest.raises(SettingError, match="'locked' needs the setting 'key': what opens it"):
        make(Locked)
    assert make(Locked, {"key": "a"}).key == "a"


def test_choices_hold_for_each_member_of_a_list() -> None:
    assert make(Oven, {"tools": ["stone", "rack"]}).tools == ("stone", "rack")


def test_lists_of_a_file_become_tuples_of_the_component() -> None:
    assert make(Oven, {"trays": [1, 3]}).trays == (1, 3)


def test_a_description_has_type_and_help() -> None:
    settings = {setting.name: setting for setting in describe_settings(Oven)}
    assert settings["timer"].type_text == "float or none"
    assert settings["trays"].type_text == "list of int"
    assert settings["heat"].help == "degrees Celsius"
