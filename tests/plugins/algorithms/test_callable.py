"""Functions, estimators and modules that know no metabench: how each is called, and what is refused."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from metabench import Facts, Invalid, Protocol, Workload
from metabench.data.order import draw_episodes
from metabench.device import Device
from metabench.testing import TinyClasses, TinyCurves
from metabench_plugins.algorithms.callable import CallableAlgorithm, CallableLearner

MODULE = '''
import sys
import numpy as np, torch
from torch import nn

def one_numpy(support_x, support_y, query_x):
    """Minus the distance to the mean of each class."""
    s, q = (np.reshape(a, (len(a), -1)) for a in (support_x, query_x))
    means = np.stack([s[support_y == c].mean(0) for c in np.unique(support_y)])
    return -((q[:, None] - means[None]) ** 2).sum(-1)

def one_torch(support_x, support_y, query_x):
    means = torch.stack([support_x[support_y == c].flatten(1).mean(0) for c in support_y.unique()])
    return -torch.cdist(query_x.flatten(1), means) ** 2

def batch_torch(support_x, support_y, query_x):
    onto = nn.functional.one_hot(support_y).to(support_x).transpose(1, 2)
    means = onto @ support_x.flatten(2) / onto.sum(2, keepdim=True)
    return -torch.cdist(query_x.flatten(2), means) ** 2

def fine_tuned(support_x, support_y, query_x):
    """A linear classifier, drawn and trained for each task: by torch's global generator."""
    head = nn.Linear(support_x[0].numel(), int(support_y.max()) + 1)
    optimizer = torch.optim.SGD(head.parameters(), 0.5)
    for _ in range(20):
        loss = nn.functional.cross_entropy(head(support_x.flatten(1).float()), support_y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    return head(query_x.flatten(1).float()).softmax(1)

def numbers(support_x, support_y, query_x):
    return np.argmax(one_numpy(support_x, support_y, query_x), 1)

def mean_value(support_x, support_y, query_x):
    return np.full(len(query_x), support_y.mean())

def normalised(support_x, support_y, query_x):
    return one_numpy(support_x, support_y, query_x - query_x.mean(0))

def by_place(support_x, support_y, query_x):
    return np.eye(3)[np.arange(len(query_x)) % 3]

def by_order(support_x, support_y, query_x):
    return one_numpy(support_x, np.arange(len(support_x)) % 3, query_x)

class Counter:
    calls = 0
    def __call__(self, support_x, support_y, query_x):
        self.calls += 1
        return one_numpy(support_x, support_y, query_x) * self.calls

def peeping(support_x, support_y, query_x):
    frame = sys._getframe()
    while frame := frame.f_back:
        tasks = frame.f_locals.get("view") or frame.f_locals.get("tasks")
        if tasks is not None:
            return np.eye(3)[tasks.query.y[0].numpy() % 3][: len(query_x)] + 0.1 * tasks.query.y[0, 0].item()
    return one_numpy(support_x, support_y, query_x)

def too_few(support_x, support_y, query_x):
    return np.zeros((len(query_x), 1))

def broken(support_x, support_y, query_x):
    raise KeyError("nothing here")

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.embed = nn.Linear(16, width)
    def forward(self, support, labels, query):
        return one_torch(self.embed(support.flatten(1)), labels, self.embed(query.flatten(1)))

class FewShot(nn.Module):
    """As easyfsl's classifiers."""
    def process_support_set(self, support_images, support_labels):
        self.support = support_images, support_labels
    def forward(self, query_images):
        return one_torch(*self.support, query_images)
'''

TEST = Protocol(3, 2, 4)
FACTS = TinyClasses().describe()


@pytest.fixture(autouse=True)
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of anyone's in the folder where one is."""
    (tmp_path / "theirs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("theirs", None)


def built(path: str, facts: Facts = FACTS, test: Protocol = TEST, **settings: Any) -> CallableLearner:
    workload = Workload(facts, None, test, seed=3)
    return CallableAlgorithm(path=path, **settings).build(workload, None, Device())


def scores(learner: CallableLearner) -> tuple[Tensor, Tensor]:
    """The predictions for tasks of `TinyClasses`, and the classes."""
    tasks = draw_episodes(TinyClasses().load(Device()), "test", TEST, range(6), seed=1)
    with torch.no_grad():
        return learner.predict(learner.adapt(tasks.support), tasks.query.x), tasks.query.y


@pytest.mark.parametrize(
    ("path", "form", "outputs"),
    [
        ("theirs:one_numpy", "numpy, one task, checked", "scores"),
        ("theirs:one_torch", "torch, one task, checked", "scores"),
        ("theirs:batch_torch", "torch, a batch, checked", "scores"),
        ("theirs:fine_tuned", "torch, one task, checked", "log-probabilities"),
        ("theirs:numbers", "numpy, one task, checked", "scores"),
        ("theirs:Net", "torch, one task, checked", "scores"),
        ("theirs:FewShot", "torch, one task, checked", "scores"),
        ("sklearn.neighbors:KNeighborsClassifier", "numpy, one task, checked", "log-probabilities"),
        ("sklearn.svm:LinearSVC", "numpy, one task, checked", "scores"),
        ("sklearn.linear_model:RidgeClassifier", "numpy, one task, checked", "scores"),
        ("sklearn.linear_model:LogisticRegression", "numpy, one task, checked", "log-probabilities"),
    ],
)
def test_it_is_called_as_it_wants_and_classifies(path: str, form: str, outputs: str) -> None:
    arguments = {"n_neighbors": 1} if "Neighbors" in path else {"width": 32} if "Net" in path else None
    learner = built(path, arguments=arguments)
    assert (learner.path, learner.outputs, learner.transductive) == (form, outputs, False)
    prediction, classes = scores(learner)
    assert prediction.shape == (6, 12, 3)
    assert float((prediction.argmax(2) == classes).double().mean()) > 0.8


def test_a_function_and_its_batched_twin_give_the_same() -> None:
    assert torch.allclose(
        scores(built("theirs:one_torch"))[0], scores(built("theirs:batch_torch"))[0], atol=1e-4
    )


def test_methods_of_easyfsl_are_rows_and_the_transductive_ones_are_seen() -> None:
    pytest.importorskip("easyfsl")
    facts = Facts("classification", (16,), None, FACTS.classes, FACTS.images)
    prototypes = built("easyfsl.methods:PrototypicalNetworks", facts)
    assert (prototypes.path, prototypes.transductive) == ("torch, one task, checked", False)
    assert built("easyfsl.methods:TIM", facts).transductive
    tasks = draw_episodes(TinyClasses(shape=(16,)).load(Device()), "test", TEST, range(6), seed=1)
    own, theirs = (
        learner.predict(tasks.support, tasks.query.x)
        for learner in (built("theirs:one_torch", facts), prototypes)
    )
    assert torch.equal(own.argmax(2), theirs.argmax(2))


def test_values_are_predicted_in_regression() -> None:
    learner = built("theirs:mean_value", TinyCurves().describe(), Protocol(1, 4, 6))
    assert learner.outputs == "values"
    tree = built("sklearn.tree:DecisionTreeRegressor", TinyCurves().describe(), Protocol(1, 4, 6))
    tasks = draw_episodes(TinyCurves().load(Device()), "test", Protocol(1, 4, 6), range(2), seed=1)
    assert torch.equal(tree.predict(tree.adapt(tasks.support), tasks.support.x), tasks.support.y)


def test_use_of_the_other_queries_is_found_out() -> None:
    assert built("theirs:normalised").transductive


def test_a_module_has_a_learned_state_that_can_be_loaded() -> None:
    learner = built("theirs:Net")
    state = {name: tensor + 1 for name, tensor in learner.state_dict().items()}
    assert sorted(state) == ["embed.bias", "embed.weight"]
    learner.load_state_dict(state)
    assert torch.equal(learner.state_dict()["embed.bias"], state["embed.bias"])


@pytest.mark.parametrize(
    ("path", "settings", "message"),
    [
        ("theirs:by_place", {}, "permuted queries do not have permuted predictions"),
        ("theirs:by_order", {}, "predictions do not change with the support set's labels"),
        ("theirs:Counter", {}, "the same tasks have other predictions when asked again"),
        ("theirs:peeping", {}, "a canary in the query labels changes predictions"),
        ("theirs:too_few", {}, r"in no way that is known: as numpy, one task, it must return \(12, 3\), got"),
        ("theirs:broken", {}, "raised KeyError: 'nothing here' when it was called"),
        ("theirs:one_torch", {"takes": "numpy"}, "raised AttributeError"),
        ("theirs:one_numpi", {}, "'theirs' has no 'one_numpi'; did you mean 'one_numpy'?"),
        ("their:one_numpy", {}, "importing 'their' raised ModuleNotFoundError"),
        ("theirs", {}, "must be like mypkg.mymod:predict"),
        ("theirs:__name__", {}, "must be a function of .*, got str"),
        ("theirs:Net", {"arguments": {"widht": 3}}, "raised TypeError: .* when it was made"),
        ("theirs:Net", {"arguments": 3}, "arguments must be a table, got 3"),
        ("theirs:one_numpy", {"content": "0" * 16}, "the cell names the source '0{16}', here is"),
    ],
)  # fmt: skip
def test_what_breaks_the_contract_is_refused_by_name(
    path: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        built(path, **settings)
    assert path in str(caught.value)
