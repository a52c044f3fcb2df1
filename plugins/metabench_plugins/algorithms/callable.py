"""Callable: a function, an estimator or a module of anyone's, imported by its path, as a row of a table.

metabench run --with mypkg.mymod:predict --dataset glyphs --test 5w1s
metabench run --with sklearn.neighbors:KNeighborsClassifier,n_neighbors=1 --dataset glyphs --test 5w1s
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor, nn

from metabench import Algorithm, Examples, Invalid, Network, Protocol, Workload, setting
from metabench.device import Device
from metabench.errors import RequestError
from metabench.learning import UntrainedLearner, load_module, module_tensors
from metabench.records import DataKind, Outputs, content_of, module_of
from metabench_plugins.algorithms._calling import COUNTS, Answers, Call, Form, as_call, found_answers


@dataclass(frozen=True, kw_only=True)
class CallableAlgorithm(Algorithm):
    """What `--with` names: predicts a task's queries from its support set, by code that knows no metabench.

    A function or torch module takes (support_x, support_y, query_x): of one task [n, *input], [n] and
    [q, *input], or of a batch with a leading axis. It returns scores [q, ways], or class numbers [q]; in
    regression values. An estimator has fit and predict_proba, decision_function or predict, and gets flat
    inputs [n, d]. A module with process_support_set, as easyfsl's, is given the support set and called with
    the queries. The global generators of torch, numpy and Python are seeded by the cell's seed for each call.

    Before it is scored it must pass the contract's checks of predictions: a canary in the query labels,
    permuted queries, permuted and relabelled support sets, the same answer twice. A path in a suite or a
    result is imported only where the person who runs repeats it, by --allow-import.
    """

    name: ClassVar[str] = "callable"
    kinds: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})
    needs_network: ClassVar[bool] = False
    any_ways: ClassVar[bool] = True
    imported: ClassVar[tuple[str, ...]] = ("path",)

    path: str = setting("", "what is imported, as module:name")
    arguments: Any = setting(  # noqa: RUF009 - a field, as every setting
        None, "table of keyword arguments that it is made with, or called with"
    )
    takes: str = setting(
        "auto", "arrays that it takes, where nobody says found out", choices=["auto", "numpy", "torch"]
    )
    tasks: str = setting(
        "auto", "whether it takes one task or a batch of them", choices=["auto", "one", "batch"]
    )
    outputs: str = setting(
        "auto", "what its predictions are",
        choices=["auto", "scores", "logits", "log-probabilities", "probabilities"],
    )  # fmt: skip
    content: str = setting("", "digest or version of what is imported; filled in by `metabench run --with`")

    def train_protocol(self, test: Protocol) -> None:
        """Return None: nothing is trained."""

    def predicts(self, kind: DataKind) -> Outputs | None:
        """Return what `outputs` says, "values" in regression; None where it is found out."""
        if kind == "regression":
            return "values"
        named: Mapping[str, Outputs] = {
            "scores": "scores", "logits": "logits", "log-probabilities": "log-probabilities",
            "probabilities": "log-probabilities",
        }  # fmt: skip
        return named.get(self.outputs)

    def build(self, workload: Workload, network: Network | None, device: Device) -> CallableLearner:
        """Import it, find out how it is called, and check its predictions; raises Invalid with the reason."""
        from metabench.testing import ContractError, check_predictions  # of workers alone

        learner = self.unchecked(workload, device)
        try:
            check_predictions(
                f"callable {self.title!r}", lambda: self.unchecked(workload, device), workload, device
            )
        except ContractError as error:
            raise Invalid(str(error)) from error
        return learner

    def unchecked(self, workload: Workload, device: Device) -> CallableLearner:
        """Return the learner before its predictions are checked."""
        call = as_call(self.target(), self._arguments(), self.title, workload, device)
        form = Form(self.takes, self.tasks, self.outputs)
        return CallableLearner(call, found_answers(call, form, workload, device))

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.path

    def target(self) -> Any:
        """Return what is imported."""
        target = imported(self.path)
        here = content_of(self.path) if self.content else ""
        if self.content != here:
            raise Invalid(
                f"callable {self.path!r}: the cell names the source {self.content!r}, here is {here!r}: "
                "it is other code"
            )
        return target

    def _arguments(self) -> dict[str, Any]:
        if self.arguments is not None and not isinstance(self.arguments, Mapping):
            raise Invalid(f"callable {self.title!r}: arguments must be a table, got {self.arguments!r}")
        return dict(self.arguments or {})


class CallableLearner(UntrainedLearner):
    """Calls it for the queries of each task, or of a batch of tasks."""

    def __init__(self, call: Call, answers: Answers) -> None:
        self.call, self.answers = call, answers
        self.outputs = answers.outputs
        self.transductive = answers.transductive
        self.path = f"{answers.form.takes}, {COUNTS[answers.form.tasks]}, checked"

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of a torch module; of anything else none."""
        return module_tensors(self.call.owner) if isinstance(self.call.owner, nn.Module) else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the tensors of a torch module; raises Invalid where names or shapes differ."""
        if isinstance(self.call.owner, nn.Module):
            load_module(self.call.owner, state)
        else:
            super().load_state_dict(state)

    def adapt(self, support: Examples, steps: int | None = None) -> Examples:
        """Return the support set itself: x [T, n, *input], y [T, n] or [T, n, outputs]."""
        return support

    def predict(self, state: Examples, query_x: Tensor) -> Tensor:
        """Return its predictions [T, q, outputs] for query_x [T, q, *input]."""
        return self.answers.of(state, query_x)


def imported(path: str) -> Any:
    """Return what a path names, `module:name`; raises Invalid with what of it is absent."""
    try:
        module, name = module_of(path), path.partition(":")[2]
    except RequestError as error:
        raise Invalid(f"callable {error}") from error
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        parent = import_module(module)
    except Exception as error:  # of code that is not ours
        raise Invalid(
            f"callable {path!r}: importing {module!r} raised {type(error).__name__}: {error}"
        ) from error
    try:
        return reduce(getattr, name.split("."), parent)
    except AttributeError:
        close = get_close_matches(name, vars(parent), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise Invalid(f"callable {path!r}: {module!r} has no {name!r}{hint}") from None
