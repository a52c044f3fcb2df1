"""The checks for plugin authors: each fault is found, and the message says what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest

import broken
from metabench import Metric
from metabench.results.table import Results
from metabench.testing import (
    ContractError,
    TinyClasses,
    TinyCurves,
    TinyNetwork,
    check_backend,
    check_dataset,
    check_executor,
    check_learner,
    check_metric,
    check_network,
    check_report,
    tiny_results,
)


def fails(message: str) -> Any:
    return pytest.raises(ContractError, match=re.escape(message))


def test_sound_components_pass() -> None:
    check_learner(broken.FaultyAlgorithm())
    check_dataset(broken.FaultyDataset())
    check_network(broken.FaultyNetwork())
    check_metric(broken.FaultyMetric())
    check_metric(broken.FaultyPooledMetric())
    check_backend(broken.FaultyBackend())
    check_executor(broken.FaultyExecutor(), timeout=1)


def test_fakes_keep_the_contracts_themselves() -> None:
    check_dataset(TinyClasses)
    check_dataset(TinyCurves)
    check_network(TinyNetwork)
    check_network(TinyNetwork(batch_norm=True))
    assert {row["status"] for row in Results.of(tiny_results()).rows} == {"ok", "failed"}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("AddsGradients", "overwrite .grad, never add to it"),
        ("SumsTasks", "is not the mean of the gradients of the same tasks one at a time"),
        ("DropsTerms", "the meta-gradient is wrong: along a random direction .grad has"),
        ("MeanLoss", "learn must return the loss of each of 3 tasks, [T], got shape ()"),
        ("NoGradient", "learn leaves no .grad in parameter 0, (6, 16)"),
        ("LearnsInLearn", "learn changes the learner's state"),
        ("NeverUpdates", "three updates changed no parameter"),
        ("GlobalChance", "torch's own generator"),
        ("MixesTasks", "a task's loss depends on the other tasks of its batch"),
        ("Unnormalised", "outputs is 'log-probabilities', but their exponentials sum to one only up to"),
        ("Probabilities", "outputs is 'logits', but predictions are probabilities, which sum to one"),
        ("CallsThemValues", "outputs is 'values' on data of classification"),
        (
            "OddOutputs",
            "outputs must be one of log-probabilities, logits, scores, values, got 'probabilities'",
        ),
        ("StatesOtherOutputs", "predicts('classification') of the algorithm states 'scores'"),
        ("AssumesOrder", "predictions do not change with the support set's labels"),
        ("ReadsPlaces", "a prediction depends on a query's place"),
        ("ReadsLabels", "a canary in the query labels changes predictions"),
        ("RemembersLabels", "a canary in the query labels changes predictions"),
        ("HidesTransduction", "transductive is False, but a query's prediction changes"),
        ("BoastsTransduction", "transductive is True, but queries alone are predicted as they are together"),
        ("LeavesGradients", "adapt or predict leaves a .grad behind"),
        ("KeepsGraph", "a prediction made under torch.no_grad() requires a gradient"),
        ("Drifts", "adapt or predict changes the learner"),
        ("NoSteps", "adapt(support, steps) raised TypeError"),
        ("TransposedPrediction", "predict must return [T, q, outputs] = (3, 9, 3)"),
        ("ForgetsState", "predicts otherwise: state_dict must hold all that adapt and predict need"),
        (
            "ForgetsFinish",
            "state_dict must hold all that adapt and predict need, what finish computed included",
        ),
        ("ComputesUndeclared", "it has 'computed.scale', which the learner lacks"),
        ("ForgetsOptimizer", "training_state must hold the optimizer with its moments"),
        ("ForgetsMoments", "training_state must hold the optimizer with its moments"),
        ("NestsState", "state_dict() must return tensors by name, in one flat dictionary"),
        ("PicklesState", "writing training_state() as tensors and plain values raised TypeError"),
        ("NewParameters", "parameters() returns other tensors at the second call"),
        ("OtherType", "call .to(device.torch, device.dtype)"),
        ("StaysOnCpu", "on a GPU it would fail: learners.py, line"),
        ("StaysOnCpu", "a tensor of the CPU, (3,), meets one of the device"),
        ("AnswersOnCpu", "predict must return a tensor on lazy, got one on cpu"),
        ("DrawsOnCpu", "samples on the device from an RNG of the CPU"),
        ("Counts", "a tensor of the device is converted to a numpy array; call .cpu() on it first"),
        ("TrainsNothing", "nothing is trained, but parameters() is not empty"),
        (
            "OddProtocol",
            "train_protocol must return a Protocol, Batches, or None without training, got '5-way'",
        ),
        ("NeedsNoNetwork", "build without a network raised AssertionError"),
        ("SwallowsInvalid", "build with a network that refuses the input was accepted"),
    ],
)
def test_fault_of_a_learner_is_named(fault: str, message: str) -> None:
    with fails(message) as caught:
        check_learner(broken.FaultyAlgorithm(fault=fault))
    assert str(caught.value).startswith("algorithm 'faulty'")


def test_what_is_drawn_from_the_seed_is_not_deterministic() -> None:
    with fails("it is said to be deterministic, but trains on tasks that the seed draws"):
        check_learner(broken.SeededAlgorithm())
    with fails("it is said to be deterministic, but another seed gives other predictions"):
        check_learner(broken.SeededProjection())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("odd kind", "describe().kind must be 'classification' or 'regression', got 'images'"),
        ("no images", "with images of []"),
        ("mute", "missing() must return None, or what is absent and the command that fetches it, got ''"),
        ("absent", "load(device) without its data was accepted"),
        ("moves on", "draws other tasks at the second call"),
        ("other load", "loaded twice, it draws other tasks"),
        ("slice", "changes when it is drawn in another slice or order"),
        ("no numbers", "tasks 0 and 1 of split 'train' have the same support set"),
        ("no seed", "draws the same tasks for another seed"),
        ("one split", "share an example: a test class in meta-train is a leak"),
        ("any size", "was accepted; split 'train' has 20 classes: raise metabench.Invalid"),
        ("float32", "support.x must be torch.float64 (6, 3, 1, 4, 4) on cpu, got torch.float32"),
        (
            "meta device",
            "query.x must be torch.float64 (6, 6, 1, 4, 4) on cpu, got torch.float64 (6, 6, 1, 4, 4) on meta",
        ),
        ("even", "the classes of a task must have [1, 2, 2] support examples"),
        ("shapes move on", "shape gives another one at the second call"),
        ("no shape", "shape must return numbers within the ranges of"),
        ("global labels", "labels count the task's own classes from 0"),
        ("shared example", "has the same example in its support and its query set"),
        ("chance", "advances a global RNG"),
        ("views", "return copies, not views of the data"),
        ("no batches", "batch raises Invalid (none), but meta-train has a finite number of classes"),
        ("batch", "a micro-batch is a pure function of its number and the seed"),
        ("mute manifest", "is the same for different tasks"),
        ("stray index", "index must be torch.int64 (6,) on lazy, got torch.int64 (6,) on cpu"),
        ("tensors", "manifest must return names with numpy arrays"),
        ("hash", "another process draws other tasks: the order of a set and hash() differ"),
        ("marked", "can be read from 1 places of the image alone, such as channel 0, row 0, column 0"),
        ("marked query", "can be read from 1 places of the image alone, such as channel 0, row 0, column 0"),
        ("near copies", "100% of the test images are near copies of training images"),
        ("other manifest", "describes other tasks than episodes draws: its 'classes' differ"),
        (
            "manifest without seed",
            "describes other tasks than episodes draws: it is the same for another seed",
        ),
        ("other images", "its 'query' names image"),
    ],
)
def test_fault_of_a_dataset_is_named(fault: str, message: str) -> None:
    with fails(message):
        check_dataset(broken.FaultyDataset(fault=fault))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("refuses", "it refuses every input shape"),
        ("crashes", "build((8,), 5) raised ValueError: boom"),
        ("own seed", "two builds after different torch.manual_seed have the same weights"),
        ("running", "keep no running statistics"),
        ("dropout", "the module's output must be .head(.features(x))"),
        ("unused", "have no part in the output"),
        ("narrow", "the module must return [batch, outputs]"),
        ("flat", "has no .features"),
        ("stray constant", "or register it as a buffer of the module"),
        ("keeps head", "the head must be nn.Identity()"),
    ],
)
def test_fault_of_a_network_is_named(fault: str, message: str) -> None:
    with fails(message):
        check_network(broken.FaultyNetwork(fault=fault))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("one number", "score must return a floating-point score for each of 4 tasks"),
        ("upside down", "higher_is_better or score has the wrong sign"),
        ("over tasks", "reduce over queries only, never over tasks"),
        ("order", "the score changes with the order of the queries"),
        ("in place", "score changes its arguments in place"),
        ("stray weights", "on a GPU it would fail: metrics.py, line"),
        ("on the cpu", "score must return a tensor on lazy for predictions there, got one on cpu"),
        ("praises nan", "predictions of NaN score [1.0"),
    ],
)
def test_fault_of_a_metric_is_named(fault: str, message: str) -> None:
    with fails(message):
        check_metric(broken.FaultyMetric(fault=fault))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("pools in score", "score of a pooled metric must return floating-point parts for each of 4 tasks"),
        ("over tasks", "reduce over queries only, never over tasks"),
        ("one number", "pool must return one score for each row of parts (1, 2), (1,), got ()"),
        ("means over rows", "reduce over the last axis only"),
        ("counts", "and bounds say 0.0 to 1.0"),
    ],
)
def test_fault_of_a_pooled_metric_is_named(fault: str, message: str) -> None:
    with fails(message):
        check_metric(broken.FaultyPooledMetric(fault=fault))


def test_pooled_metric_without_its_pooling_is_named() -> None:
    with fails("pool(parts) raised NotImplementedError: NeverPools is pooled, but has no method pool"):
        check_metric(broken.NeverPools)


def test_share_beyond_a_whole_is_named() -> None:
    with fails("and bounds say 0.0 to 1.0"):
        check_metric(broken.OverShare)


def test_metric_with_an_odd_need_is_named() -> None:
    with fails("needs must be one of classes, probabilities, scores, values, got 'softmax'"):
        check_metric(broken.OddNeed)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("mute", "available() gives ''; it gives None, or the reason"),
        ("command", "it gives a list of texts that ends with the command it was given"),
        ("ranks", "available() gives None, but 1 of 2 ranks opened it"),
        ("does not open", "OSError: no card in slot 3"),
    ],
)
def test_fault_of_a_backend_is_named(fault: str, message: str) -> None:
    with fails(message):
        check_backend(broken.FaultyBackend(fault=fault))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("queued", "clock() does not call synchronize()"),
        ("backwards", "clock() went backwards"),
        ("gradients", "replace each .grad by the sum of weight · .grad over all ranks"),
        ("zeros", "average_gradients makes a .grad that no rank has"),
        ("gather", "gather(values) does not give each rank's values"),
        ("memory", "peak_memory() gives {}"),
        ("facts", "environment() cannot be stored"),
    ],
)
def test_fault_of_a_device_is_named(fault: str, message: str) -> None:
    from metabench.testing.backend_probe import violations

    messages = list(violations(broken.FaultyDevice(fault), 1))
    assert any(message in message for message in messages), messages


def test_fault_of_a_device_reaches_the_author_through_the_backend() -> None:
    with fails("backend 'faulty', rank 0 of 1: clock() does not call synchronize()"):
        check_backend(broken.FaultyBackend(fault="queued"))


def test_backend_that_sees_hidden_hardware_is_named() -> None:
    with fails("available() gives None where {'HIDDEN': '1'} hides its hardware"):
        check_backend(broken.FaultyBackend(), absent={"HIDDEN": "1"})


def test_backend_that_is_checked_at_import_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_PROBING", "1")
    with fails("check_backend is called while a module is imported: put it into a test function"):
        check_backend(broken.FaultyBackend())


def test_absent_hardware_is_a_skip_with_the_reason() -> None:
    with pytest.raises(SkipTest, match="there is no such card"):
        check_backend(broken.FaultyBackend(fault="absent"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("loses", "each job has exactly one, however it ends"),
        ("codes", "they are 0, 3, and -9"),
        ("environment", "job.environment is added to its environment"),
        ("timed out", "timed_out is not True for the job that exceeded its timeout"),
        ("orphans", "a job that exceeded its timeout leaves processes behind"),
        ("leaves children", "a job that ended well leaves a child of its command behind"),
        ("list", "run gives no generator"),
    ],
)
def test_fault_of_an_executor_is_named(fault: str, message: str) -> None:
    with fails(message):
        check_executor(broken.FaultyExecutor(fault=fault), timeout=1, patience=2)


@pytest.mark.parametrize(
    ("suffix", "fault", "message"),
    [
        ("html", "", "a name from the results became"),
        ("md", "", "a name from the results"),
        ("tex", "", "a name from the results became a command"),
        ("csv", "", "is a formula to a spreadsheet"),
        ("json", "", "it is no JSON: NaN is no JSON"),
        ("tex", "fails when empty", "write(content, folder) of 0 results (empty) raised IndexError"),
        ("tex", "tells nothing", "write must return at least one file"),
        ("json", "path of a name", "NaN"),
    ],
)
def test_fault_of_a_report_is_named(suffix: str, fault: str, message: str) -> None:
    with fails(message):
        check_report(broken.FaultyReport(suffix=suffix, fault=fault))


def test_report_that_makes_paths_of_names_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metabench.testing.reports._READERS", {})
    with fails("it writes outside of the folder it was given"):
        check_report(broken.FaultyReport(fault="path of a name"))


def test_class_that_is_no_component_is_named() -> None:
    class Local(Metric):
        """A metric inside a function."""

        name = "local"

        def score(self, prediction: Any, target: Any) -> Any:
            return prediction

    with fails("metric 'local': its class Local is defined inside a function"):
        check_metric(Local)
    with fails("is no subclass of metabench.Metric"):
        check_metric(Path)  # type: ignore[arg-type]
