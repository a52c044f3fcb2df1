"""Suites: sweeps become cells, and every mistake is reported before anything runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from metabench.errors import RequestError, SuiteError
from metabench.plugins import Registry, load
from metabench.records import Cell
from metabench.selection import parse_spec, select, values_of
from metabench.suite import Suite, read

HEAD = """
name = "s"
version = 1
[defaults]
test = {ways = 5, shots = 1, queries = 5}
budget = {steps = 10, tasks = 4}
"""

GLYPHS = """
[[cells]]
algorithm = "maml"
network = "conv4"
dataset = "glyphs"
"""

Reader = Callable[[str], Suite]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load()


@pytest.fixture
def suite_of(tmp_path: Path, registry: Registry) -> Reader:
    def make(text: str) -> Suite:
        path = tmp_path / "s.toml"
        path.write_text(text)
        return read(registry, str(path))

    return make


def mistakes(suite_of: Reader, text: str) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        suite_of(text)
    return caught.value.mistakes


def test_sweep_makes_every_combination_for_every_seed(suite_of: Reader) -> None:
    sweep = '[cells.sweep]\n"algorithm.first_order" = [true, false]\n"test.shots" = [1, 5]\n'
    cells = suite_of(HEAD.replace("[defaults]", "[defaults]\nseeds = [0, 1, 2]") + GLYPHS + sweep).cells
    assert len({cell.digest for cell in cells}) == len(cells) == 12
    assert {(c.algorithm.settings["first_order"], c.test.shots, c.seed) for c in cells} == {
        (f, k, s) for f in (True, False) for k in (1, 5) for s in (0, 1, 2)
    }


def test_defaults_merge_key_by_key_into_protocol_and_budget(suite_of: Reader) -> None:
    (cell,) = suite_of(HEAD + GLYPHS + "budget = {tasks = 7}\n").cells
    assert (cell.budget.steps, cell.budget.tasks) == (10, 7)


def test_cell_reads_back_from_its_json(suite_of: Reader) -> None:
    (cell,) = suite_of(HEAD + GLYPHS).cells
    again = Cell.from_json(cell.to_json())
    assert again == cell
    assert again.digest == cell.digest


def test_label_group_and_expectation_change_no_digest_but_a_setting_does(suite_of: Reader) -> None:
    (plain,) = suite_of(HEAD + GLYPHS).cells
    (told,) = suite_of(HEAD + GLYPHS + 'label = "x"\ngroup = "g"\nexpect = ["diverged"]\n').cells
    (other,) = suite_of(HEAD + GLYPHS + "evaluation = {seed = 1}\n").cells
    assert plain.digest == told.digest != other.digest


def test_filled_in_default_and_the_same_value_said_are_one_cell(suite_of: Reader) -> None:
    (silent,) = suite_of(HEAD + GLYPHS).cells
    (said,) = suite_of(HEAD + GLYPHS.replace('"maml"', '{name = "maml", first_order = false}')).cells
    assert silent.digest == said.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            GLYPHS.replace('"maml"', '"mamml"'),
            "cells[1].algorithm: no algorithm is called 'mamml'; did you mean",
        ),
        (
            GLYPHS.replace('"glyphs"', '"glyfs"'),
            "cells[1].dataset: no dataset is called 'glyfs'; did you mean",
        ),
        (
            GLYPHS.replace('"maml"', '{name = "maml", stepz = 1}'),
            "'maml' has no setting 'stepz'; did you mean",
        ),
        (GLYPHS.replace('"glyphs"', '{name = "glyphs", sise = 1}'), "'glyphs' has no setting 'sise'"),
        (
            GLYPHS + 'backend = "tpu"\n',
            "cells[1].backend: no backend is called 'tpu'; did you mean 'cpu'? known: cpu, cpu-ranks",
        ),
        (
            GLYPHS + "bugdet = {steps = 1}\n",
            "cells[1].bugdet: is no key of a suite file; did you mean 'budget'",
        ),
        (
            GLYPHS + "budget = {stps = 1}\n",
            "cells[1].budget: 'Budget' has no setting 'stps'; did you mean 'steps'",
        ),
        (GLYPHS + "test = {ways = 200}\n", "cells[1].test.ways: is 200; the split 'test' has"),
        (
            GLYPHS + "budget = {steps = 0}\ntest = {queries = 500}\n",
            "1 shots + 500 queries are more than the 24 images of a class in split 'test'",
        ),
        (GLYPHS.replace('network = "conv4"', ""), "algorithm 'maml' needs one; known: conv4"),
        (GLYPHS + 'expect = ["oom"]\n', "cells[1].expect: 'oom' is no status"),
        (GLYPHS + "seeds = [-1]\n", "cells[1].seeds: is [-1]"),
        (GLYPHS + 'evaluation = {metric = "mse"}\n', "'mse' scores regression; the data is classification"),
        (GLYPHS + '[cells.sweep]\n"algorithm.steps" = 3\n', "a sweep lists the values to try"),
        (
            '[[cells]]\nalgorithm = "protonet"\nnetwork = "mlp"\ndataset = "sinusoid"\ntest = {ways = 1}\n',
            "algorithm 'protonet' learns classification; its data set is regression",
        ),
    ],
)
def test_mistake_names_the_file_the_key_and_the_known_ones(suite_of: Reader, text: str, said: str) -> None:
    (mistake,) = mistakes(suite_of, HEAD + text)
    assert "s.toml: " in mistake
    assert said in mistake


def test_all_mistakes_are_reported_at_once(suite_of: Reader) -> None:
    text = HEAD + GLYPHS.replace('"maml"', '"mamml"') + "bugdet = {}\n" + GLYPHS + "test = {ways = 500}\n"
    assert len(mistakes(suite_of, text)) == 4  # one more: the training protocol has too many ways as well


def test_file_that_is_no_toml_says_where(suite_of: Reader) -> None:
    (mistake,) = mistakes(suite_of, "name = ")
    assert "not a TOML file" in mistake


def test_suite_named_unlike_its_file_is_refused(suite_of: Reader) -> None:
    (mistake,) = mistakes(suite_of, HEAD.replace('"s"', '"t"') + GLYPHS)
    assert "a suite is named like its file, 's'" in mistake


def test_shipped_suites_are_free_of_mistakes(registry: Registry) -> None:
    from metabench.suite import installed

    for name, path in installed(registry).items():
        if path.parent.name == "suites" and "quick" in [p.stem for p in path.parent.glob("*.toml")]:
            assert read(registry, name).cells


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
    told = parse_spec("cpu-ranks:ranks=2,deterministic=true,precision=float64")
    assert told == {"name": "cpu-ranks", "ranks": 2, "deterministic": True, "precision": "float64"}
    with pytest.raises(RequestError, match="is no setting"):
        parse_spec("cpu:threads")
