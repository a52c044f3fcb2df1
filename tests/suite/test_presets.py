"""Presets stand for settings, and networks get the settings that are usual for the data's inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest

from helpers.suites import GLYPHS, HEAD, Reader, mistakes
from metabench import Component, Preset, SettingError, Spec, setting
from metabench.plugins import KINDS, load
from metabench_plugins.networks.conv4 import Conv4

PROTONET = GLYPHS.replace('"maml"', '"protonet"')
NAMED = PROTONET.replace('"protonet"', '{name = "protonet", preset = "snell2017"}')
SPELLED = PROTONET.replace(
    '"protonet"', '{name = "protonet", train_ways = 60, train_queries = 5, halve_every = 2000}'
)


@dataclass(frozen=True, kw_only=True)
class Tuned(Component):
    """A third party's component."""

    name: ClassVar[str] = "tuned"
    presets: ClassVar[Mapping[str, Preset]] = {"paper": Preset("its paper", {"rate": 0.5})}
    rate: float = setting(0.1, "learning rate")


@dataclass(frozen=True, kw_only=True)
class Own(Tuned):
    """One that has a setting of that name."""

    preset: str = setting("", "which one")


def test_a_preset_and_the_settings_that_it_stands_for_are_the_same_cell(suite_of: Reader) -> None:
    (named,), (spelled,) = suite_of(HEAD + NAMED).cells, suite_of(HEAD + SPELLED).cells

    assert named == spelled
    assert named.digest == spelled.digest
    assert named.train is not None
    assert named.train == spelled.train == named.test.with_ways(60).with_queries(5)


def test_a_setting_beside_a_preset_wins_also_in_a_sweep(suite_of: Reader) -> None:
    sweep = '[cells.sweep]\n"algorithm.train_ways" = [20, 30]\n'
    cells = suite_of(HEAD + NAMED + sweep).cells
    assert [(c.algorithm.settings["train_ways"], c.algorithm.settings["halve_every"]) for c in cells] == [
        (20, 2000), (30, 2000),
    ]  # fmt: skip


def test_an_unknown_preset_names_those_that_there_are(suite_of: Reader) -> None:
    (mistake,) = mistakes(suite_of, HEAD + NAMED.replace("snell2017", "snell"))
    assert "'protonet' has no preset 'snell'; " in mistake
    assert "known: snell2017, snell2017-mini-imagenet-1shot, snell2017-mini-imagenet-5shot" in mistake
    (mistake,) = mistakes(suite_of, HEAD + GLYPHS.replace('"conv4"', '{name = "conv4", preset = 3}'))
    assert "'conv4' has no preset 3; known: none" in mistake


def test_a_class_attribute_brings_presets_and_a_setting_of_that_name_is_one() -> None:
    assert Spec.of(Tuned, {"preset": "paper"}) == Spec("tuned", {"rate": 0.5})
    assert Spec.of(Own, {"preset": "mine"}).settings == {"rate": 0.1, "preset": "mine"}
    with pytest.raises(SettingError, match="known: paper"):
        Spec.of(Tuned, {"preset": "papers"})


def test_every_preset_can_be_made_and_has_a_source() -> None:
    registry, count = load(), 0
    for entry in (entry for kind in KINDS for entry in registry.entries(kind).values()):
        for name, preset in entry.cls.presets.items():
            spec = Spec.of(entry.cls, {"preset": name})
            assert preset.source
            assert preset.settings.items() <= spec.settings.items()
            registry.make(entry.kind, spec)
            count += 1
    assert count > 20


@pytest.mark.parametrize("dataset", ["mini-imagenet", "cifar-fs"])
def test_conv4_pools_and_keeps_all_places_of_large_images(suite_of: Reader, dataset: str) -> None:
    text = HEAD + GLYPHS.replace("glyphs", dataset)
    (plain,) = suite_of(text).cells
    (spelled,) = suite_of(
        text.replace('"conv4"', '{name = "conv4", downsample = "pool", readout = "flatten"}')
    ).cells
    (strided,) = suite_of(
        text.replace('"conv4"', '{name = "conv4", downsample = "stride", readout = "mean"}')
    ).cells

    assert plain.digest == spelled.digest != strided.digest
    assert plain.network is not None
    assert plain.network.settings == {"downsample": "pool", "width": 64, "halvings": 4, "readout": "flatten"}
    assert plain.network.defaults == ("halvings", "width")


def test_conv4_strides_over_small_images(suite_of: Reader) -> None:
    (cell,) = suite_of(HEAD + GLYPHS).cells
    assert cell.network is not None
    assert cell.network.defaults == ("downsample", "halvings", "readout", "width")


def test_a_network_that_cannot_say_its_usual_settings_is_a_mistake_of_the_cell(
    suite_of: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(cls: type[Conv4], input_shape: tuple[int, ...]) -> Mapping[str, object]:
        raise KeyError(input_shape[0])

    monkeypatch.setattr(Conv4, "usual_settings", classmethod(torn))
    (mistake,) = mistakes(suite_of, HEAD + GLYPHS)
    assert "cells[1].network: usual_settings() of 'conv4' raised KeyError: 1" in mistake
