"""The table `tune` of a suite: rows whose settings are searched, and mistakes in it."""

import pytest

from helpers.suites import GLYPHS, HEAD, Reader, mistakes
from metabench.records.tuning import Tuning, row_cell

MAML = GLYPHS.replace('"maml"', '{name = "maml", inner_rate = 0.02}')


def test_without_a_space_each_rate_is_searched_around_its_value(suite_of: Reader) -> None:
    (row,) = suite_of(HEAD + MAML + "tune = {trials = 4}").cells
    tuning = Tuning.of(row)

    assert tuning is not None
    assert tuning.of_row
    assert tuning.space == {"inner_rate": [0.002, 0.2, "log"], "rate": [1e-4, 1e-2, "log"]}
    assert tuning.base == {"inner_rate": 0.02, "rate": 1e-3}
    assert row.algorithm.settings["inner_rate"] == 0.02
    assert row_cell(row) == row


def test_a_cell_without_a_search_keeps_its_digest(suite_of: Reader) -> None:
    (plain,) = suite_of(HEAD + GLYPHS).cells
    (off,) = suite_of(
        HEAD.replace("budget", "tune = {trials = 8}\nbudget") + GLYPHS + "tune = {trials = 0}"
    ).cells
    (nothing_to_search,) = suite_of(
        HEAD + GLYPHS.replace('"maml"', '"nearest-neighbour"') + "tune = {trials = 4}"
    ).cells

    assert off.digest == plain.digest
    assert nothing_to_search.tuning == {}


def test_a_stated_space_takes_ranges_and_choices(suite_of: Reader) -> None:
    text = (
        'tune = {trials = 3, space = {rate = [1e-4, 1e-2], steps = [1, 9, "log"], '
        "first_order = {choices = [true, false]}}}"
    )
    (row,) = suite_of(HEAD + MAML + text).cells

    assert row.tuning["space"] == {
        "rate": [1e-4, 1e-2, "linear"], "steps": [1, 9, "log"], "first_order": {"choices": [True, False]},
    }  # fmt: skip


def test_a_sweep_over_trials_gives_rows_that_differ_in_nothing_else(suite_of: Reader) -> None:
    rows = suite_of(HEAD + MAML + '[cells.sweep]\n"tune.trials" = [1, 4]').cells

    assert [row.tuning["trials"] for row in rows] == [1, 4]
    assert rows[0].key(["tuning"]) == rows[1].key(["tuning"])


@pytest.mark.parametrize(
    ("tune", "mistake"),
    [
        ("trials = 4, space = {rat = [0.1, 1.0]}", "'maml' has no setting 'rat'; did you mean 'rate'"),
        (
            "trials = 4, space = {rate = [1.0, 0.1]}",
            'tune.space.rate must be [low, high], [low, high, "log"]',
        ),
        ('trials = 4, space = {rate = [0.0, 0.1, "log"]}', 'with 0 < low < high for "log"'),
        ("trials = 4, space = {steps = [0.5, 2]}", "tune.space.steps must be"),
        ("trials = 4, space = {rate = [-1.0, 1.0]}", "setting 'rate': must be > 0"),
        ("trials = 4, space = {first_order = {choices = [true, false]}}", "tune.trials must be at most 2"),
        ("trials = 4, seed = 0", "must be none of the seeds of the cell"),
        ("trials = 4, patience = 2", "budget.validate_every must be ≥ 1 (tune.patience counts validations)"),
        ('trials = 4, sampler = "grid"', "must be one of sobol, halton, tpe, got 'grid'"),
        ("trial = 4", "unknown key 'trial' in 'cells[1].tune'; did you mean 'trials'"),
    ],
)
def test_a_mistake_in_it_names_the_rule(suite_of: Reader, tune: str, mistake: str) -> None:
    (text,) = mistakes(suite_of, f"{HEAD}{GLYPHS}tune = {{{tune}}}")

    assert mistake in text
