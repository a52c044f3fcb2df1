"""Settings: checked, filled and explained in one place."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from metabench import REQUIRED, SettingError, setting
from metabench.contracts import Component
from metabench.settings import explain, fill, make


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


def test_defaults_are_filled_in_and_integers_become_floats() -> None:
    filled = fill(Oven, {"heat": 200})
    assert filled == {
        "heat": 200.0,
        "mode": "air",
        "trays": [1],
        "timer": None,
        "lit": False,
        "tools": ["rack"],
    }
    assert type(filled["heat"]) is float


def test_unknown_setting_names_the_likely_and_the_known_ones() -> None:
    with pytest.raises(SettingError, match="'oven' has no setting 'haet'; did you mean 'heat'"):
        fill(Oven, {"haet": 1})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"heat": "hot"}, "'hot' is no float"),
        ({"heat": 0}, "0.0 is not above 0"),
        ({"heat": 301}, "301.0 is more than 300"),
        ({"heat": True}, "True is no float"),
        ({"mode": "steam"}, "'steam' is not one of air, grill"),
        ({"trays": [1, 0]}, "0 is less than 1"),
        ({"trays": 1}, "1 is no list of int"),
        ({"timer": "long"}, "'long' is no float or none"),
        ({"lit": 1}, "1 is no bool"),
        ({"heat": float("nan")}, "nan is not a finite number"),
        ({"timer": float("inf")}, "inf is not a finite number"),
        ({"heat": 10**400}, "is no float"),
        ({"tools": ["stone", "axe"]}, "'axe' is not one of rack, stone"),
    ],
)
def test_wrong_value_says_what_is_wrong(given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        fill(Oven, given)


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(SettingError) as caught:
        fill(Oven, {"haet": 1, "mode": "steam", "lit": 1})
    assert len(str(caught.value).splitlines()) == 3


def test_required_setting_is_asked_for_by_its_help() -> None:
    with pytest.raises(SettingError, match="'locked' needs the setting 'key': what opens it"):
        make(Locked)
    assert make(Locked, {"key": "a"}).key == "a"


def test_choices_hold_for_each_member_of_a_list() -> None:
    assert make(Oven, {"tools": ["stone", "rack"]}).tools == ("stone", "rack")


def test_lists_of_a_file_become_tuples_of_the_component() -> None:
    assert make(Oven, {"trays": [1, 3]}).trays == (1, 3)


def test_explain_tells_type_default_and_help() -> None:
    told = {one.name: one for one in explain(Oven)}
    assert told["timer"].type_text == "float or none"
    assert told["trays"].type_text == "list of int"
    assert told["heat"].help == "degrees Celsius"
