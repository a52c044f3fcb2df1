"""How a callable is called: with numpy or torch, one task or a batch; declared, or found out by trying."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metabench import Episodes, Examples, Invalid, Workload
from metabench.device import Device
from metabench.learning import fixed_ways
from metabench.records import Outputs

Function = Callable[[Any, Any, Any], Any]
"""(support_x, support_y, query_x) → predictions."""

FORMS = (("numpy", "one"), ("torch", "one"), ("torch", "batch"), ("numpy", "batch"))
"""In the order in which they are tried."""
COUNTS = {"one": "one task", "batch": "a batch"}
"""The settings of `tasks` in words."""
SAME = 1e-4
"""Relative difference at which two ways of calling give the same predictions."""


@dataclass(frozen=True)
class Form:
    """How a function is called and what it returns, "auto" where that is to be found out."""

    takes: str = "auto"
    tasks: str = "auto"
    outputs: str = "auto"


@dataclass(frozen=True)
class Call:
    """A function of one task or of a batch. owner: what it belongs to; form: as far as its kind fixes it."""

    function: Function
    title: str
    owner: Any
    form: Form = Form()


@dataclass(frozen=True)
class Answers:
    """The predictions of a callable whose form is known."""

    call: Call
    form: Form
    workload: Workload
    outputs: Outputs
    transductive: bool = False

    def of(self, support: Examples, query_x: Tensor) -> Tensor:
        """Return predictions [T, q, outputs]; raises Invalid where they are of another shape."""
        prediction = predictions(self.call, self.form, support, query_x, self.workload)
        return prediction.log() if self.form.outputs == "probabilities" else prediction


def as_call(
    target: Any, arguments: Mapping[str, Any], title: str, workload: Workload, device: Device
) -> Call:
    """Return how to call what was imported: an estimator, a torch module, or a function."""
    if isinstance(target, type):
        with _seeded(workload.seed, device.torch), _named(title, "when it was made"):
            owner = target(**arguments)
        arguments = {}
    else:
        owner = target
    if hasattr(owner, "fit") and any(hasattr(owner, name) for name in _PREDICTIONS):
        if arguments and hasattr(owner, "set_params"):
            owner = copy.deepcopy(owner).set_params(**arguments)
        return _estimator_call(owner, title, workload)
    if isinstance(owner, nn.Module):
        owner = copy.deepcopy(owner).to(device.torch, device.dtype).eval()
        few_shot = hasattr(owner, "process_support_set")
        function = partial(_few_shot, owner) if few_shot else partial(owner, **arguments)
        return Call(function, title, owner, Form("torch", "one" if few_shot else "auto"))
    if not callable(owner):
        raise Invalid(
            f"callable {title!r} must be a function of (support_x, support_y, query_x), a torch module, or "
            f"an estimator with fit and predict, got {type(owner).__name__}"
        )
    return Call(partial(owner, **arguments), title, owner)


_PREDICTIONS = ("predict_proba", "decision_function", "predict")


def _few_shot(module: Any, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Any:
    module.process_support_set(support_x, support_y)
    return module(query_x)


def _estimator_call(estimator: Any, title: str, workload: Workload) -> Call:
    regression, fixed = workload.facts.kind == "regression", fixed_ways(workload)
    probable = not regression and hasattr(estimator, "predict_proba")

    def estimated(support_x: Any, support_y: Any, query_x: Any) -> Any:
        model = copy.deepcopy(estimator)
        x, queries = (values.reshape(len(values), -1) for values in (support_x, query_x))
        model.fit(x, support_y.ravel() if support_y.shape[1:] == (1,) else support_y)
        if regression:
            return model.predict(queries)
        ways = fixed or int(support_y.max()) + 1
        if probable:
            return _columns(model.predict_proba(queries), model.classes_, ways, absent=0.0)
        if hasattr(model, "decision_function"):
            scores = model.decision_function(queries)
            scores = np.stack([-scores, scores], 1) if scores.ndim == 1 else scores
            return _columns(scores, model.classes_, ways, absent=-np.inf)
        return model.predict(queries)

    outputs = "probabilities" if probable else "auto"
    return Call(estimated, title, estimator, Form("numpy", "one", outputs))


def _columns(scores: Any, classes: Any, ways: int, absent: float) -> Any:
    """Return scores [q, ways] from those of the classes that an estimator saw."""
    if len(classes) != scores.shape[1]:  # the shape is refused by its name
        return scores
    every = np.full((len(scores), ways), absent, dtype=scores.dtype)
    every[:, np.asarray(classes, int)] = scores
    return every


def found_answers(call: Call, asked: Form, workload: Workload, device: Device) -> Answers:
    """Return how a callable answers, found out on made-up tasks; raises Invalid where it does in no way."""
    from metabench.testing import example_tasks  # of workers alone

    tasks = example_tasks(workload, device)
    form = _known(call.form, asked)
    trials = _trials(call, form, tasks, workload)
    takes, count = _chosen(call.title, trials)
    form = replace(form, takes=takes, tasks=count)
    regression = workload.facts.kind == "regression"
    if form.outputs == "auto" and not regression and _are_probabilities(trials[takes, count]):
        form = replace(form, outputs="probabilities")
    outputs: Any = {"auto": "scores", "probabilities": "log-probabilities"}.get(form.outputs, form.outputs)
    answers = Answers(call, form, workload, "values" if regression else outputs)
    return replace(answers, transductive=_is_transductive(answers, tasks.support, tasks.query.x))


def _trials(call: Call, form: Form, tasks: Episodes, workload: Workload) -> dict[tuple[str, str], Tensor]:
    """Return the predictions of every form that gives some, up to a batch; raises Invalid where none does."""
    trials: dict[tuple[str, str], Tensor] = {}
    problems: list[str] = []
    for takes, count in FORMS:
        if form.takes not in ("auto", takes) or form.tasks not in ("auto", count):
            continue
        tried = replace(form, takes=takes, tasks=count)
        try:
            trials[takes, count] = predictions(call, tried, tasks.support, tasks.query.x, workload)
        except Invalid as error:
            reason = str(error).removeprefix(f"callable {call.title!r} ")
            problems.append(f"as {takes}, {COUNTS[count]}, it {reason}")
            continue
        if count == "batch" or form.tasks != "auto":
            break
    if not trials:
        raise Invalid(f"callable {call.title!r} answers in no way that is known: {'; '.join(problems)}")
    return trials


def _known(own: Form, asked: Form) -> Form:
    """Return what is asked, and where nothing is what the kind of callable fixes."""
    return Form(*(
        getattr(own, name) if getattr(asked, name) == "auto" else getattr(asked, name)
        for name in Form.__dataclass_fields__
    ))  # fmt: skip


def _chosen(title: str, trials: Mapping[tuple[str, str], Tensor]) -> tuple[str, str]:
    """Return the form to use: a batch where it gives what single tasks do, which is quicker."""
    (first, single), *others = trials.items()
    for other, prediction in others:
        if other[1] == first[1]:
            continue
        if not torch.allclose(single.double(), prediction.double(), SAME, SAME):
            raise Invalid(
                f"callable {title!r} gives one task and a batch of tasks other predictions: say which "
                "it takes, tasks=one or tasks=batch"
            )
        return other
    return first


def _are_probabilities(prediction: Tensor) -> bool:
    sums = prediction.sum(2)
    between = (prediction > 0) & (prediction < 1)  # what is only 0 and 1 are classes, and may be wrong
    return (
        bool(between.any())
        and bool((prediction >= 0).all())
        and torch.allclose(sums, torch.ones_like(sums), atol=SAME)
    )


def _is_transductive(answers: Answers, support: Examples, query_x: Tensor) -> bool:
    """Return whether queries alone are predicted otherwise than together."""
    if query_x.shape[1] < 2:
        return False
    whole = answers.of(support, query_x)
    parts = torch.cat(
        [answers.of(support, part) for part in torch.split(query_x, 1 + query_x.shape[1] // 3, 1)], 1
    )
    return not torch.allclose(whole.double(), parts.double(), SAME, SAME)


def predictions(call: Call, form: Form, support: Examples, query_x: Tensor, workload: Workload) -> Tensor:
    """Return predictions [T, q, outputs] on the device of the queries; raises Invalid for another shape."""
    ways = workload.outputs if workload.facts.kind == "regression" else fixed_ways(workload)
    width = ways or int(support.y.max()) + 1
    columns = [support.x, support.y, query_x]
    batches = [columns] if form.tasks == "batch" else zip(*columns, strict=True)
    shape = query_x.shape[:2] if form.tasks == "batch" else query_x.shape[1:2]
    outcomes = []
    with _seeded(workload.seed, query_x.device), torch.enable_grad():
        for arrays in batches:
            own = [tensor.detach().clone() for tensor in arrays]  # a label is not even in their storage
            inputs = own if form.takes == "torch" else [tensor.cpu().numpy() for tensor in own]
            with _named(call.title, "when it was called"):
                outcome = call.function(*inputs)
            outcomes.append(_shaped(call.title, outcome, tuple(shape), width, workload).to(query_x))
    return (outcomes[0] if form.tasks == "batch" else torch.stack(outcomes)).detach()


def _shaped(title: str, outcome: Any, shape: tuple[int, ...], width: int, workload: Workload) -> Tensor:
    """Return an outcome as a tensor [*shape, width]; class numbers become scores of 1 and -1."""
    named = f"callable {title!r}"
    try:
        tensor = outcome if isinstance(outcome, Tensor) else torch.as_tensor(np.asarray(outcome))
    except (TypeError, ValueError) as error:
        raise Invalid(f"{named} must return an array, got {type(outcome).__name__}") from error
    if tuple(tensor.shape) == shape:
        if workload.facts.kind == "regression" and width == 1:
            return tensor[..., None]
        if not tensor.is_floating_point() and int(tensor.min()) >= 0 and int(tensor.max()) < width:
            return 2 * torch.nn.functional.one_hot(tensor.long(), width).to(torch.get_default_dtype()) - 1
    if tuple(tensor.shape) != (*shape, width):
        raise Invalid(f"{named} must return {(*shape, width)}, got {tuple(tensor.shape)}")
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())


@contextmanager
def _named(title: str, what: str) -> Iterator[None]:
    """Turn what code that is not ours raises into an Invalid of one line."""
    try:
        yield
    except Exception as error:
        if isinstance(error, Invalid):
            raise
        text = (str(error).strip() or "no message").splitlines()[0]
        raise Invalid(f"callable {title!r} raised {type(error).__name__}: {text} {what}") from error


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python in the block, and restore them after it."""
    numbers, python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numbers)
            random.setstate(python)
