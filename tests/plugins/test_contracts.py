"""Every registered component keeps its contract: the checks that plugin authors call, over the registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.shell import ROOT
from metabench import Protocol
from metabench.plugins import load
from metabench.settings import make
from metabench.testing import (
    check_backend,
    check_dataset,
    check_executor,
    check_learner,
    check_logger,
    check_metric,
    check_network,
    check_report,
)
from metabench_plugins.networks.conv4 import Conv4

REGISTRY = load()

LEARNERS: Mapping[str, Mapping[str, Any]] = {
    # `.grad` is by design not the derivative of the losses that `learn` returns
    "reptile": {"exact_gradient": False},  # the displacement to where a task's training ended
    "imaml": {"exact_gradient": False},  # by the implicit function theorem, at an optimum that is not reached
    "maml++": {"exact_gradient": False},  # begins at first order
    "metalstm": {"exact_gradient": False},  # drops the gradients of its inputs, as the paper does
    # a solver that stops early
    "l2l-metaoptnet": {"tolerance": 1e-5, "exact_gradient": False},
}
VARIANTS: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
    ("maml", {"first_order": True}, {"exact_gradient": False}),
    ("maml", {"statistics": "support", "train_statistics": "support", "steps": 2, "chunk": 2}, {}),
    ("anil", {"statistics": "support", "train_statistics": "support"}, {}),
    ("boil", {"statistics": "support", "train_statistics": "support"}, {}),
    ("metasgd", {"statistics": "support", "train_statistics": "support"}, {}),
    ("protomaml", {"statistics": "support", "train_statistics": "support"}, {}),
    ("reptile", {"statistics": "support", "mini_batch": 2}, {}),
    ("reptile", {"inner_optimizer": "adam", "inner_rate": 0.01, "mini_batch": 2}, {}),
    ("imaml", {"statistics": "support", "train_statistics": "support"}, {}),
    ("metalstm", {"statistics": "support", "train_statistics": "support", "chunk": 2}, {}),
    ("maml++", {"statistics": "support", "train_statistics": "support"}, {}),
    ("maml++", {"first_order_share": 0.0}, {"exact_gradient": True}),
    ("protonet", {"statistics": "joined", "train_statistics": "joined", "halve_every": 1}, {}),
    ("protonet", {"statistics": "support", "train_statistics": "support", "train_ways": 5}, {}),
    ("matchingnet", {"statistics": "joined", "train_statistics": "joined", "context": True, "reads": 2}, {}),
    (
        "matchingnet",
        {"statistics": "support", "train_statistics": "support", "context": True, "reads": 2},
        {},
    ),
    ("maml", {"statistics": "joined", "train_statistics": "joined"}, {}),
    ("maml", {"statistics": "population"}, {}),
    ("relationnet", {"statistics": "population", "train_statistics": "support"}, {}),
    ("relationnet", {"statistics": "joined", "train_statistics": "joined"}, {}),
    ("relationnet", {"statistics": "support", "train_statistics": "support"}, {}),
    (
        "relationnet",
        {"module": "convolution", "hidden": 4},
        {"network": Conv4(width=3, halvings=0, readout="flatten")},
    ),
    ("r2d2", {"statistics": "joined", "train_statistics": "joined"}, {}),
    ("r2d2", {"statistics": "support", "train_statistics": "support"}, {}),
    ("cnp", {"statistics": "joined", "train_statistics": "joined"}, {}),
    ("cnp", {"statistics": "support", "train_statistics": "support"}, {}),
    ("simpleshot", {"statistics": "support", "transform": "UN"}, {}),
    ("simpleshot", {"statistics": "joined"}, {}),
    ("baseline", {"statistics": "joined"}, {}),
    ("baseline++", {"statistics": "support"}, {}),
    ("scratch", {"statistics": "support"}, {}),
    ("nearest-neighbour", {"distance": "cosine"}, {}),
    ("l2l-maml", {"first_order": True}, {"exact_gradient": False}),
    ("l2l-gbml", {"transform": "kronecker"}, {}),
    ("l2l-protonet", {"distance": "cosine"}, {}),
]
SMALL: Mapping[str, Mapping[str, Any]] = {  # settings that save time
    "conv4": {"width": 4}, "resnet12": {"width": 4}, "callable": {"path": "helpers.nearest:nearest"},
    "scratch": {"steps": 4}, "baseline": {"head_steps": 5}, "baseline++": {"head_steps": 5},
    "metalstm": {"steps": 2, "hidden": 4}, "imaml": {"steps": 3}, "maml++": {"steps": 2},
}  # fmt: skip
LARGE_INPUTS = {"l2l-resnet12": (3, 84, 84), "l2l-wrn28": (3, 84, 84)}
HIDING = {"cuda": {"CUDA_VISIBLE_DEVICES": ""}, "cuda-ranks": {"CUDA_VISIBLE_DEVICES": ""}}


def names(kind: str) -> list[str]:
    return REGISTRY.names(kind)


@pytest.mark.parametrize("name", names("algorithm"))
def test_learner_keeps_its_contract(name: str) -> None:
    algorithm = make(REGISTRY.find("algorithm", name).cls, SMALL.get(name))
    check_learner(algorithm, **LEARNERS.get(name, {}))


@pytest.mark.parametrize(("name", "settings", "options"), VARIANTS)
def test_learner_keeps_its_contract_in_other_settings(
    name: str, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    algorithm = make(REGISTRY.find("algorithm", name).cls, {**SMALL.get(name, {}), **settings})
    check_learner(algorithm, **{**LEARNERS.get(name, {}), **options})


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LARGE_INPUTS else n for n in names("network")],
)
def test_network_keeps_its_contract(name: str) -> None:
    network = make(REGISTRY.find("network", name).cls, SMALL.get(name))
    if name in LARGE_INPUTS:
        check_network(network, input_shapes=[LARGE_INPUTS[name]])
    else:
        check_network(network)


@pytest.mark.parametrize("name", names("dataset"))
def test_dataset_keeps_its_contract(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = ROOT.parent / "shared" / "data"
    if shared.is_dir():
        monkeypatch.setenv("METABENCH_DATA", str(shared))
    settings: dict[str, Any] = {}
    if name == "imagefolder":
        settings = {"path": str(pictures(tmp_path)), "size": 8}
    if name == "table":
        settings = {"path": str(features(tmp_path))}
    options: dict[str, Any] = {"test": Protocol(20, 1, 1), "tasks": 20} if name == "lake" else {}
    check_dataset(make(REGISTRY.find("dataset", name).cls, settings), **options)


@pytest.mark.parametrize("name", names("metric"))
def test_metric_keeps_its_contract(name: str) -> None:
    check_metric(REGISTRY.find("metric", name).cls)


@pytest.mark.parametrize("name", names("backend"))
def test_backend_keeps_its_contract(name: str) -> None:
    check_backend(REGISTRY.find("backend", name).cls, absent=HIDING.get(name))


@pytest.mark.parametrize("name", names("executor"))
def test_executor_keeps_its_contract(name: str) -> None:
    if name in ("ray", "slurm"):
        pytest.skip(f"tests/plugins/executors/test_{name}.py has its cluster")
    check_executor(REGISTRY.find("executor", name).cls)


@pytest.mark.filterwarnings("default::DeprecationWarning")  # of MLflow's own use of SQLAlchemy
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in ("mlflow", "wandb") else n for n in names("logger")],
)
def test_logger_keeps_its_contract(name: str) -> None:
    check_logger(make(REGISTRY.find("logger", name).cls, {"mode": "offline"} if name == "wandb" else {}))


@pytest.mark.parametrize("name", names("report"))
def test_report_keeps_its_contract(name: str) -> None:
    check_report(REGISTRY.find("report", name).cls)


def pictures(folder: Path) -> Path:
    """Twenty classes of four random images each."""
    generator = np.random.default_rng(0)
    for number in range(20):
        home = folder / "pictures" / f"class-{number:02d}"
        home.mkdir(parents=True)
        for image in range(4):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / f"{image}.png")
    return folder / "pictures"


def features(folder: Path) -> Path:
    """Twenty classes of four random vectors each, as CSV."""
    generator = np.random.default_rng(0)
    lines = ["a,b,c,label"]
    for number in range(80):
        lines.append(
            ",".join(f"{value:.6f}" for value in generator.normal(size=3)) + f",class-{number // 4:02d}"
        )
    path = folder / "features.csv"
    path.write_text("\n".join(lines) + "\n")
    return path
