"""Cells are selected by any axis of a suite, and a component is read from the command line."""

import pytest

from helpers.suites import GLYPHS, HEAD, Reader
from metabench.errors import RequestError
from metabench.plugins import Registry
from metabench.records.axes import select, values_of
from metabench.settings import parse_spec
from metabench.suite import read


def test_selection_keeps_and_drops_by_any_axis(suite_of: Reader) -> None:
    text = HEAD + GLYPHS + '[cells.sweep]\n"test.shots" = [1, 5]\n' + GLYPHS.replace('"maml"', '"reptile"')
    cells = suite_of(text).cells
    assert [c.algorithm.name for c in select(cells, ["algorithm=reptile"], [])] == ["reptile"]
    assert len(select(cells, ["algorithm=maml", "shots=5"], [])) == 1
    assert {c.test.shots for c in select(cells, [], ["shots=5"])} == {1}
    with pytest.raises(RequestError, match="no cell has algorithm 'mam'; did you mean 'maml'"):
        select(cells, ["algorithm=mam"], [])
    with pytest.raises(RequestError, match="'algoritm=maml' is not axis=value; did you mean 'algorithm'"):
        select(cells, ["algoritm=maml"], [])


def test_first_and_second_order_of_quick_are_told_apart_by_their_setting(registry: Registry) -> None:
    cells = read(registry, "quick").cells
    first = select(cells, ["algorithm.first_order=true"], [])
    second = select(
        cells, ["dataset=sinusoid", "steps=2000"], ["algorithm.first_order=true", "algorithm=reptile"]
    )
    assert [c.algorithm.settings["first_order"] for c in first] == [True]
    assert [c.algorithm.settings["first_order"] for c in second] == [False]
    with pytest.raises(RequestError, match=r"no cell has algorithm\.first_order 'True'; did you mean 'true'"):
        select(cells, ["algorithm.first_order=True"], [])


@pytest.mark.parametrize(
    ("axis", "kept"),
    [
        ("queries=10", {"sinusoid"}),
        ("train=10-shot", {"sinusoid"}),
        ("steps=60", {"glyphs"}),
        ("step_tasks=25", {"sinusoid"}),
        ("threads=1", {"glyphs"}),
        ("metric=mse", {"sinusoid"}),
        ("network=none", {"glyphs"}),
    ],
)
def test_cells_of_quick_are_selected_by_more_axes(registry: Registry, axis: str, kept: set[str]) -> None:
    cells = read(registry, "quick").cells
    chosen = select(cells, [axis], [])
    assert {cell.dataset.name for cell in chosen} == kept
    assert len(select(cells, [], [axis])) == len(cells) - len(chosen)


def test_value_with_a_comma_is_matched_whole_before_it_is_split(suite_of: Reader) -> None:
    text = (
        HEAD + GLYPHS + 'label = "slow, sure"\n' + GLYPHS.replace('"maml"', '"reptile"') + 'label = "quick"\n'
    )
    cells = suite_of(text).cells
    assert len(select(cells, ["label=slow, sure"], [])) == 1
    assert len(select(cells, ["label=slow, sure,quick"], [])) == 2
    assert values_of("a,b", {"b"}) == ["a", "b"]


def test_backend_from_the_command_line_is_read_like_toml() -> None:
    spec = parse_spec("cpu-ranks:ranks=2,deterministic=true,precision=float64")
    assert spec == {"name": "cpu-ranks", "ranks": 2, "deterministic": True, "precision": "float64"}
    assert parse_spec("cpu:affinity=[0,1],threads=2") == {"name": "cpu", "affinity": [0, 1], "threads": 2}
    assert parse_spec('x:a=["b,c","d"],e="f,g"') == {"name": "x", "a": ["b,c", "d"], "e": "f,g"}
    assert parse_spec("x:a=[1,b=2") == {"name": "x", "a": "[1,b=2"}
    with pytest.raises(RequestError, match="is no setting"):
        parse_spec("cpu:threads")
