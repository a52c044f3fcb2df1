"""Suites: sweeps become cells, and every mistake is reported before anything runs."""

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from helpers.suites import GLYPHS, HEAD, Reader, mistakes
from metabench.errors import SuiteError
from metabench.plugins import Registry, load
from metabench.records import Batches, Cell
from metabench.suite import installed_suites, read


def test_supervised_training_asks_for_whole_micro_batches(suite_of: Reader) -> None:
    text = HEAD.replace("tasks = 4", "tasks = 40") + GLYPHS.replace("maml", "baseline")

    (mistake,) = mistakes(suite_of, text)

    assert "cells[1].budget.tasks must be a multiple of 16 (algorithm 'baseline' trains" in mistake
    (cell,) = suite_of(text.replace("tasks = 40", "tasks = 48")).cells
    assert cell.train == Batches(48, 16)


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


METRICS = 'evaluation = {metrics = ["accuracy", {name = "ece", bins = 5}, "nll"]}\n'


def test_first_metric_ranks_and_the_others_are_further_ones_with_settings(suite_of: Reader) -> None:
    (cell,) = suite_of(HEAD + GLYPHS + METRICS).cells

    assert cell.evaluation.metric == "accuracy"
    assert [(spec.name, spec.settings) for spec in cell.evaluation.metrics] == [
        ("ece", {"bins": 5}), ("nll", {}),
    ]  # fmt: skip
    slots = {"metric", "metric:ece:bins=5", "metric:nll"}
    assert {cell.plugins[slot] for slot in slots} == {"metabench 0.1.0"}
    assert Cell.from_json(cell.to_json()).digest == cell.digest


def test_settings_of_further_metrics_are_part_of_the_digest_and_a_list_of_one_is_that_metric(
    suite_of: Reader,
) -> None:
    alone = suite_of(HEAD + GLYPHS).cells[0].digest
    listed = suite_of(HEAD + GLYPHS + 'evaluation = {metrics = ["accuracy"]}\n').cells[0].digest
    five, fifteen = (
        suite_of(HEAD + GLYPHS + METRICS.replace("bins = 5", bins)).cells[0].digest
        for bins in ("bins = 5", "bins = 15")
    )

    assert listed == alone
    assert (
        fifteen
        == suite_of(HEAD + GLYPHS + METRICS.replace('{name = "ece", bins = 5}', '"ece"')).cells[0].digest
    )
    assert len({alone, five, fifteen}) == 3


def test_cell_reads_back_from_its_json(suite_of: Reader) -> None:
    (cell,) = suite_of(HEAD + GLYPHS).cells
    again = Cell.from_json(cell.to_json())
    assert again == cell
    assert again.digest == cell.digest


def test_label_group_and_expectation_change_no_digest_but_a_setting_does(suite_of: Reader) -> None:
    (plain,) = suite_of(HEAD + GLYPHS).cells
    (described,) = suite_of(HEAD + GLYPHS + 'label = "x"\ngroup = "g"\nexpect = ["diverged"]\n').cells
    (other,) = suite_of(HEAD + GLYPHS + "evaluation = {seed = 1}\n").cells
    assert plain.digest == described.digest != other.digest


def test_filled_in_default_and_the_same_value_said_are_one_cell(suite_of: Reader) -> None:
    (silent,) = suite_of(HEAD + GLYPHS).cells
    (explicit,) = suite_of(HEAD + GLYPHS.replace('"maml"', '{name = "maml", first_order = false}')).cells
    assert silent.digest == explicit.digest


@pytest.mark.parametrize(
    ("text", "message"),
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
            "unknown key 'bugdet' in 'cells[1]'; did you mean 'budget'",
        ),
        (
            GLYPHS + "budget = {stps = 1}\n",
            "unknown key 'stps' in 'cells[1].budget'; did you mean 'steps'",
        ),
        (
            GLYPHS + "test = {ways = 200}\n",
            "cells[1].test.ways must be at most 118, the number of classes in split 'test', got 200",
        ),
        (
            GLYPHS + "budget = {steps = 0}\ntest = {queries = 500}\n",
            "shots + queries of at most 24, the images of a class in split 'test', got 1 + 500",
        ),
        (
            GLYPHS.replace('network = "conv4"', ""),
            "cells[1].network is missing (algorithm 'maml' needs a network); known: conv4",
        ),
        (GLYPHS + 'expect = ["oom"]\n', "unknown status 'oom' in 'cells[1].expect'"),
        (GLYPHS + "seeds = [-1]\n", "cells[1].seeds must be a list of integers ≥ 0, got [-1]"),
        (
            GLYPHS.replace("maml", "simpleshot") + 'evaluation = {metric = "nll"}\n',
            "cells[1].evaluation.metric: metric 'nll' needs probabilities; algorithm 'simpleshot' predicts "
            "scores without a scale",
        ),
        (
            GLYPHS + "evaluation = {metrics = []}\n",
            "cells[1].evaluation.metrics must be a list of metrics, of which the first ranks, got []",
        ),
        (
            GLYPHS + 'evaluation = {metric = "nll", metrics = ["accuracy"]}\n',
            "cells[1].evaluation must have metric or metrics, got both",
        ),
        (
            GLYPHS + 'evaluation = {metrics = [{name = "accuracy", k = 1}]}\n',
            "cells[1].evaluation.metrics[1] must be the name of a metric: the one that ranks has no settings",
        ),
        (
            GLYPHS + 'evaluation = {metrics = ["accuracy", {name = "ece", bin = 5}]}\n',
            "cells[1].evaluation.metrics[2]: 'ece' has no setting 'bin'; did you mean 'bins'?",
        ),
        (
            GLYPHS + 'evaluation = {metrics = ["accuracy", "nll", "nll"]}\n',
            "cells[1].evaluation.metrics[3]: metric 'nll' is listed twice",
        ),
        (
            GLYPHS + 'evaluation = {metrics = ["accuracy", "mae"]}\n',
            "cells[1].evaluation.metrics: metric 'mae' needs a data set of regression, got one of",
        ),
        (
            GLYPHS.replace("maml", "simpleshot") + 'evaluation = {metrics = ["accuracy", "ece"]}\n',
            "cells[1].evaluation.metrics: metric 'ece' needs probabilities; algorithm 'simpleshot' predicts",
        ),
        (
            GLYPHS + 'evaluation = {metrics = ["ece", "accuracy"]}\n',
            "cells[1].evaluation.metrics: metric 'ece' scores all test tasks together, so it selects",
        ),
        (
            GLYPHS + 'evaluation = {metric = "ece"}\n',
            "cells[1].evaluation.metric: metric 'ece' scores all test tasks together, so it selects",
        ),
        (
            GLYPHS + 'evaluation = {metric = "mse"}\n',
            "metric 'mse' needs a data set of regression, got one of classification",
        ),
        (
            GLYPHS + '[cells.sweep]\n"algorithm.steps" = 3\n',
            "cells[1].sweep.algorithm.steps must be a list of the values to try, got 3",
        ),
        (
            '[[cells]]\nalgorithm = "protonet"\nnetwork = "mlp"\ndataset = "sinusoid"\ntest = {ways = 1}\n',
            "algorithm 'protonet' needs a data set of classification, got one of regression",
        ),
    ],
)
def test_mistake_names_the_file_the_key_and_the_known_ones(suite_of: Reader, text: str, message: str) -> None:
    (mistake,) = mistakes(suite_of, HEAD + text)
    assert "s.toml: " in mistake
    assert message in mistake


def test_all_mistakes_are_reported_at_once(suite_of: Reader) -> None:
    text = HEAD + GLYPHS.replace('"maml"', '"mamml"') + "bugdet = {}\n" + GLYPHS + "test = {ways = 500}\n"
    assert len(mistakes(suite_of, text)) == 4  # one more: the training protocol has too many ways as well


def test_every_mistake_of_one_cell_is_reported_that_needs_no_other_to_be_right(suite_of: Reader) -> None:
    text = GLYPHS.replace('"maml"', '"mamml"') + "test = {ways = 500}\nseeds = [-1]\n"
    messages = mistakes(suite_of, HEAD + text)
    for key in (
        "cells[1].algorithm: ",
        "cells[1].test.ways must be at most",
        "cells[1].seeds must be a list of integers ≥ 0, got [-1]",
    ):
        assert sum(key in mistake for mistake in messages) == 1
    assert len(messages) == 3


def test_wrong_backend_hides_neither_a_wrong_metric_nor_a_learner_of_another_kind(suite_of: Reader) -> None:
    text = """
[[cells]]
algorithm = "protonet"
network = "mlp"
dataset = "sinusoid"
backend = "tpu"
test = {ways = 1}
train = {weys = 1}
evaluation = {metric = "accuracy"}
"""
    text_of_all = "\n".join(mistakes(suite_of, HEAD + text))
    assert "cells[1].backend: no backend is called 'tpu'" in text_of_all
    assert "algorithm 'protonet' needs a data set of classification, got one of regression" in text_of_all
    assert "metric 'accuracy' needs a data set of classification, got one of regression" in text_of_all
    assert "unknown key 'weys' in 'cells[1].train'" in text_of_all
    assert len(text_of_all.splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + GLYPHS.replace("[[cells]]", "[cells]"),
            "cells must be a list, written as [[cells]] before the keys of an entry, got a table",
        ),
        (
            HEAD.replace("[defaults]\n", "cells = [3]\n[defaults]\n"),
            "cells[1] must be a table of keys and values, got 3",
        ),
        (
            HEAD.replace("[defaults]\n", "defaults = 3\n[other]\n") + GLYPHS,
            "defaults must be a table of keys and values, got 3",
        ),
        (HEAD + GLYPHS + "sweep = 3\n", "cells[1].sweep must be a table of keys and values, got 3"),
        (HEAD + GLYPHS + "train = 3\n", "cells[1].train must be a table with ways, shots, queries, got 3"),
        (
            HEAD + GLYPHS + 'test = "5w1s"\n',
            "cells[1].test must be a table with ways, shots, queries, got '5w1s'",
        ),
        (
            HEAD + GLYPHS + 'expect = "out-of-memory"\n',
            "must be a list of statuses, such as [\"out-of-memory\"], got 'out-of-memory'",
        ),
        (HEAD + GLYPHS + "expect = [{a = 1}]\n", "unknown status {'a': 1} in 'cells[1].expect'"),
        (HEAD + GLYPHS + "label = 3\n", "cells[1].label must be a text in quotes, got 3"),
        (
            HEAD + GLYPHS.replace('"conv4"', "3"),
            'cells[1].network must be a name, or {name = "…", setting = …}, got 3',
        ),
        (
            HEAD + GLYPHS.replace('"conv4"', "3") + '[cells.sweep]\n"network.width" = [8]\n',
            'cells[1].network must be a name, or {name = "…", setting = …}, got 3',
        ),
        (
            HEAD + GLYPHS + '[cells.sweep]\n"seeds.x" = [8]\n',
            "unknown key 'seeds.x' in 'cells[1].sweep'; 'seeds' has no keys of its own",
        ),
        (HEAD.replace("version = 1", "version = 0") + GLYPHS, "version must be an integer ≥ 1, got 0"),
        (
            HEAD.replace("version = 1", "version = 1\nminutes = nan") + GLYPHS,
            "minutes must be a number > 0, got nan",
        ),
        (
            HEAD.replace("version = 1", 'version = 1\nearlier_texts = ["abc"]') + GLYPHS,
            "earlier_texts must be a list of SHA-256 digests of suite files, got ['abc']",
        ),
    ],
)
def test_malformed_shape_is_a_mistake_with_the_right_form(suite_of: Reader, text: str, message: str) -> None:
    messages = mistakes(suite_of, text)
    assert any("s.toml: " in mistake and message in mistake for mistake in messages), messages


@pytest.mark.parametrize("algorithm", ["baseline", "nearest-neighbour"])
def test_training_protocol_that_nothing_uses_is_a_mistake(suite_of: Reader, algorithm: str) -> None:
    text = HEAD + GLYPHS.replace("maml", algorithm) + "train = {queries = 1}\n"
    (mistake,) = mistakes(suite_of, text)
    assert "cells[1].train has no effect: no algorithm of this entry trains on tasks" in mistake
    swept = text.replace(f'algorithm = "{algorithm}"\n', "")
    assert suite_of(swept + f'[cells.sweep]\nalgorithm = ["{algorithm}", "maml"]\n').cells


def test_mistake_of_an_option_names_the_option_and_hides_no_mistake_of_the_file(
    suite_of: Reader, registry: Registry, tmp_path: Path
) -> None:
    suite_of(HEAD + GLYPHS)
    with pytest.raises(SuiteError) as caught:
        read(registry, str(tmp_path / "s.toml"), seeds=[-1], backend={"name": "tpu"})
    assert caught.value.mistakes[0] == "--seeds must be a list of integers ≥ 0, got [-1]"
    assert caught.value.mistakes[1].startswith("--backend: no backend is called 'tpu'")
    assert len(caught.value.mistakes) == 2
    (tmp_path / "s.toml").write_text(HEAD + GLYPHS.replace("glyphs", "glyfs"))
    with pytest.raises(SuiteError) as caught:
        read(registry, str(tmp_path / "s.toml"), seeds=[-1])
    assert len(caught.value.mistakes) == 2


def test_suite_that_two_plugins_bring_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "quick.toml").write_text("")
        (tmp_path / name / "twice.toml").write_text(HEAD)
        text = "from metabench import hookimpl\nfrom pathlib import Path\n@hookimpl\n"
        text += f"def metabench_suites(): return [Path({str(tmp_path / name)!r})]\n"
        (tmp_path / f"suites_{name}.py").write_text(text)
        points.append(EntryPoint(name, f"suites_{name}", "metabench"))
    monkeypatch.syspath_prepend(tmp_path)
    registry = load([*points, *entry_points(group="metabench", name="suites")])
    for _ in range(2):  # asking again reports nothing again
        assert installed_suites(registry)["twice"].path == tmp_path / "one" / "twice.toml"
    assert installed_suites(registry)["quick"].path.parent not in (tmp_path / "one", tmp_path / "two")
    problems = [str(problem) for problem in registry.problems]
    assert len(problems) == 3
    assert "suite 'twice' is already provided by plugin 'one'" in "\n".join(problems)


def test_a_deterministic_algorithm_runs_with_its_first_seed_alone(suite_of: Reader) -> None:
    text = HEAD + "seeds = [3, 4]" + GLYPHS + GLYPHS.replace("maml", "nearest-neighbour")

    assert [(cell.algorithm.name, cell.seed) for cell in suite_of(text).cells] == [
        ("maml", 3), ("maml", 4), ("nearest-neighbour", 3),
    ]  # fmt: skip


def test_file_that_is_no_toml_says_where(suite_of: Reader) -> None:
    (mistake,) = mistakes(suite_of, "name = ")
    assert "not a TOML file" in mistake


def test_suite_named_unlike_its_file_is_refused(suite_of: Reader) -> None:
    (mistake,) = mistakes(suite_of, HEAD.replace('"s"', '"t"') + GLYPHS)
    assert "name must be that of the file, 's', got 't'" in mistake


def test_shipped_suites_are_free_of_mistakes(registry: Registry) -> None:
    for name, path in ((name, suite.path) for name, suite in installed_suites(registry).items()):
        if path.parent.name == "suites" and "quick" in [p.stem for p in path.parent.glob("*.toml")]:
            assert read(registry, name).cells
