"""Searched settings are verified: they are those of the best trial, and the trials lie beside."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.searches import searched_row, store_search
from helpers.submissions import edited, forged
from metabench.publishing import InstalledSuite, publish, verify
from metabench.publishing.installation import Installation
from metabench.publishing.members import member_of
from metabench.publishing.tuning_checks import tuning_findings
from metabench.records.files import read_result

Findings = Callable[[Path], list[str]]


@pytest.fixture(scope="module")
def findings() -> Iterator[Findings]:
    """Says what is wrong with the searches of the results in the folder of a file."""
    with Installation() as installation:

        def of_folder(path: Path) -> list[str]:
            members = [member_of(str(file), read_result(file)) for file in sorted(path.parent.glob("*.json"))]
            return [finding.what for finding in tuning_findings(members, installation)]

        yield of_folder


@pytest.fixture
def searched(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """The files of a searched row's two seeds, and of the four trials of its search."""
    return store_search(tmp_path / "local", [searched_row(), searched_row(1)])


def test_an_honest_search_passes_and_its_trials_are_published_along(
    searched: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    paths, trials = searched
    digest = str(read_result(paths[0]).environment["suite_digest"])
    suites = {"made-v1": InstalledSuite([searched_row(), searched_row(1)], digest)}
    verified = verify([paths[0].parent], suites, complete=True)
    new = publish(verified, tmp_path / "results")
    published = verify([tmp_path / "results"], suites, complete=True)

    assert (verified.errors, verified.missing) == ([], ())
    assert sorted(path.name for path in new) == sorted(path.name for path in (*paths, *trials))
    assert (published.errors, len(published.files)) == ([], 2)
    assert publish(verified, tmp_path / "results") == []


def test_settings_of_another_trial_than_the_best_are_named(
    searched: tuple[list[Path], list[Path]], findings: Findings
) -> None:
    def worse(document: dict[str, Any]) -> None:
        other = document["tuning"]["trials"][3]["settings"]
        document["cell"]["algorithm"]["settings"].update(other)
        document["cell"]["tuning"]["chosen"] = 3

    path = forged(searched[0][0], worse)

    best = read_result(searched[0][1]).cell.tuning["chosen"]
    assert findings(path) == [f"its settings are those of trial 3, the best trial is {best}"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("tuning"), "lacks the trials"),
        (lambda t: t["tuning"]["trials"].pop(), "has 3 trials, its search has 4"),
        (lambda t: t["tuning"]["trials"][0].update(score=0.1), "in maml-"),
        (lambda t: t["tuning"]["trials"][1]["settings"].update(inner_rate=0.8), "sobol draws"),
        (lambda t: t["tuning"]["trials"][1].update(cell="../../x"), "which no file of a cell can be"),
        (lambda t: t["cell"]["algorithm"]["settings"].update(inner_rate=0.9), "are not those of trial"),
        (lambda t: t["cell"]["tuning"].pop("chosen"), "must be those of a trial"),
        (lambda t: t["cell"]["tuning"].update(seed=7), "sobol draws"),
        (lambda t: t["cell"]["tuning"].update(space=3), "its search cannot be read"),
    ],
)
def test_what_contradicts_the_search_is_named(
    searched: tuple[list[Path], list[Path]],
    findings: Findings,
    change: Callable[[dict[str, Any]], Any],
    says: str,
) -> None:
    path = forged(searched[0][0], change)

    assert says in "\n".join(findings(path))


def test_a_trial_that_is_absent_edited_or_on_the_board_is_named(
    searched: tuple[list[Path], list[Path]], findings: Findings
) -> None:
    paths, trials = searched
    edited(trials[1], lambda document: document["scores"]["per_task"].__setitem__(0, 0.0), seal=False)
    moved = trials[2].rename(paths[0].parent / trials[2].name)

    listed = findings(paths[0])

    assert f"trial 2: tuning/{moved.name}: cannot be read: No such file or directory" in listed
    assert "the file was changed after metabench wrote it" in listed
    assert "is a trial of a search, scored on validation tasks: it belongs in the folder tuning" in listed
