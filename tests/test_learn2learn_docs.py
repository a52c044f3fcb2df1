"""The page on learn2learn tells the truth: its examples run as they stand."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from metabench import Protocol, Workload
from metabench.device import Device
from metabench.settings import make
from metabench_plugins.learn2learn.install import REQUIREMENTS
from metabench_plugins.learn2learn.library import INSTALL, FromLibrary
from metabench_plugins.networks.mlp import Mlp

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "learn2learn.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def module_of(text: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as a module of a user's package."""
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def block(containing: str) -> str:
    (found,) = [one for one in BLOCKS if containing in one]
    return str(found)


def test_the_command_is_the_one_that_is_shown_to_users() -> None:
    assert INSTALL in PAGE
    assert "pip install" in PAGE


def test_the_extra_lists_what_the_installer_needs() -> None:
    import tomllib

    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert told["project"]["optional-dependencies"]["learn2learn"] == list(REQUIREMENTS)


@pytest.mark.skipif(
    FromLibrary.unavailable() is not None, reason=FromLibrary.unavailable() or "learn2learn is installed"
)
def test_the_examples_learn_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = module_of(block("ShrinkingMaml(CloneAdapt)"), "example_algorithm", tmp_path, monkeypatch)
    data = module_of(block("MyTasks(TasksetDataset)"), "example_data", tmp_path, monkeypatch)
    protocol, device = Protocol(ways=5, shots=1, queries=2), Device()
    dataset = make(data.MyTasks)
    source = dataset.load(device)
    workload = Workload(facts=dataset.describe(), train=protocol, test=protocol)
    torch.manual_seed(0)
    maml = make(algorithm.ShrinkingMaml, {"decay": 0.1, "inner_rate": 0.05})
    learner = maml.build(workload, Mlp(hidden=(16,)), device)
    before = [p.detach().clone() for p in learner.parameters()]
    losses = learner.learn(source.episodes("train", protocol, range(3), seed=0), 0, 1)
    learner.update(0, 1)
    assert losses.isfinite().all()
    assert len(losses) == 3
    assert all(not torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))
    test = source.episodes("test", protocol, range(2), seed=0)
    with torch.no_grad():
        assert learner.predict(learner.adapt(test.support), test.query.x).shape == (2, 10, 5)
