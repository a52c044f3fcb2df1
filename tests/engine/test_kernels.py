"""The CPU kernels: values and derivatives of all orders, and how they are compiled."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from metabench.engine import lift
from metabench.engine.kernels import Kernels, binding, build, kernels_for, status
from metabench.engine.kernels.binding import Sliding
from metabench.engine.kernels.differentiable import batch_norm, convolve
from metabench_plugins.networks.conv4 import Conv4


@pytest.fixture(autouse=True)
def asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_KERNELS", "1")


SHAPES = {  # tasks, images, channels in and out, plane, kernel, sliding
    "one channel": (3, 2, 1, 5, (6, 5), (3, 3), Sliding((2, 2), (1, 1), (1, 1))),
    "padded": (2, 3, 9, 4, (5, 4), (3, 3), Sliding((1, 1), (1, 1), (1, 1))),
    "whole vectors": (2, 2, 16, 16, (4, 5), (3, 3), Sliding((2, 2), (1, 1), (1, 1))),
    "many columns": (1, 2, 7, 83, (4, 4), (3, 3), Sliding((2, 1), (0, 1), (1, 1))),
    "one tap": (3, 2, 5, 6, (3, 3), (1, 1), Sliding((1, 1), (0, 0), (1, 1))),
    "dilated": (2, 1, 8, 3, (9, 8), (3, 2), Sliding((1, 2), (2, 1), (2, 3))),
    "strides past taps": (2, 2, 8, 3, (8, 8), (2, 2), Sliding((3, 3), (0, 0), (1, 1))),
}


def kernels() -> Kernels:
    loaded = kernels_for(torch.zeros(1, dtype=torch.float64))
    assert loaded is not None, "these tests need a C++ compiler"
    return loaded


def problem(name: str, shared: bool = False) -> tuple[Tensor, Tensor, Sliding]:
    tasks, images, inputs, outputs, plane, kernel, sliding = SHAPES[name]
    torch.manual_seed(0)
    x = torch.randn(tasks, images, *plane, inputs, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(
        1 if shared else tasks, *kernel, inputs, outputs, dtype=torch.float64, requires_grad=True
    )
    return x, weight, sliding


def by_torch(x: Tensor, weight: Tensor, sliding: Sliding) -> Tensor:
    """Convolve task by task with torch's own operation."""
    weights = weight.expand(len(x), *weight.shape[1:])
    results = [
        F.conv2d(images.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), None, *sliding)
        for images, w in zip(x, weights, strict=True)
    ]
    return torch.stack(results).permute(0, 1, 3, 4, 2)


def close(values: Any, expected: Any, tolerance: float = 1e-12) -> bool:
    """Return whether tensors are equal up to rounding, relative to the largest element of each."""
    return all(
        v.shape == e.shape and largest(v - e) <= tolerance * max(1.0, largest(e))
        for v, e in zip(values, expected, strict=True)
    )


def largest(x: Tensor) -> float:
    return float(x.detach().abs().max())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_a_convolution_and_its_first_two_derivatives_equal_torchs(
    name: str, shared: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metabench.engine.kernels.binding.threads", lambda: threads)
    x, weight, sliding = problem(name, shared)
    results = []
    for function in (lambda x, w: convolve(kernels(), x, w, sliding), lambda x, w: by_torch(x, w, sliding)):
        y = function(x, weight)
        first = torch.autograd.grad(y.sin().sum(), (x, weight), create_graph=True)
        second = torch.autograd.grad(sum(g.cos().sum() for g in first), (x, weight))
        results.append((y, *first, *second))
    assert close(*results)


@pytest.mark.parametrize("name", ["one channel", "padded", "dilated"])
def test_gradients_of_gradients_of_a_convolution_agree_with_differences(name: str) -> None:
    x, weight, sliding = problem(name)
    small = (x[:1, :1].detach().requires_grad_(), weight[:1].detach().requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x, w: convolve(kernels(), x, w, sliding).sin(), small)


def test_tasks_with_the_very_same_kernels_have_gradients_of_their_own() -> None:
    x, weight, sliding = problem("padded", shared=True)
    start = weight[0].detach().expand(len(x), *weight.shape[1:]).requires_grad_()
    gradient = torch.autograd.grad(convolve(kernels(), x, start, sliding).sin().sum(), start)
    assert close(gradient, torch.autograd.grad(by_torch(x, start, sliding).sin().sum(), start))


def norm_by_torch(x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    axes = list(range(1, x.dim() - 1))
    variance, m = torch.var_mean(x, axes, correction=0, keepdim=True)
    shape = (len(x), *[1] * len(axes), -1)
    y = (x - m) / torch.sqrt(variance + 1e-5) * weight.view(shape) + bias.view(shape)
    return y.relu() if relu else y


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("channels", [3, 64, 70])
def test_batch_norm_and_its_first_three_derivatives_equal_torchs(channels: int, relu: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 9, channels, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(2, channels, dtype=torch.float64, requires_grad=True) for _ in range(2))
    leaves, results = (x, weight, bias), []
    for function in (
        lambda *leaves: batch_norm(kernels(), *leaves, 1e-5, relu),
        lambda *leaves: norm_by_torch(*leaves, relu),
    ):
        y = function(*leaves)
        first = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True)
        total = sum(g.cos().sum() for g in first)
        second = torch.autograd.grad(total, leaves, create_graph=True)
        without_graph = torch.autograd.grad(total, leaves, retain_graph=True)
        third = torch.autograd.grad(sum(g.sin().sum() for g in second), leaves)
        results.append((y, *first, *second, *without_graph, *third))
    assert close(*results, tolerance=1e-10)


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_of_gradients_of_batch_norm_agree_with_differences(relu: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, 2, 1, 3, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradgradcheck(
        lambda *leaves: batch_norm(kernels(), *leaves, 1e-2, relu).sin(), (x, weight, bias)
    )


def test_sums_of_many_rows_are_exact_in_float32() -> None:
    torch.manual_seed(0)
    x = 100 + torch.randn(1, 50, 60, 60, 4)
    loaded = kernels_for(x)
    assert loaded is not None
    y = batch_norm(loaded, x, torch.ones(1, 4), torch.zeros(1, 4), 0.0, False)
    assert float(y.double().mean((0, 1, 2, 3)).abs().max()) < 1e-5
    assert float((y.double().square().mean((0, 1, 2, 3)) - 1).abs().max()) < 1e-5


def test_a_nan_stays_a_nan_through_the_fused_relu() -> None:
    x = torch.full((1, 2, 1, 1, 3), torch.nan)
    loaded = kernels_for(x)
    assert loaded is not None
    assert bool(batch_norm(loaded, x, torch.ones(1, 3), torch.zeros(1, 3), 1e-5, True).isnan().all())


@pytest.fixture
def uncached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and a process that has loaded no kernels."""
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path))
    for memory in (build.compiler, binding._loaded):
        memory.cache_clear()
    yield tmp_path
    for memory in (build.compiler, binding._loaded):
        memory.cache_clear()


def outputs_of_conv4() -> tuple[Tensor, str]:
    torch.manual_seed(0)
    network = lift(Conv4(width=4).build((1, 14, 14), 3))
    with torch.no_grad():
        return network(torch.randn(2, 3, 1, 14, 14)), network.path


def test_without_a_compiler_torch_computes_and_the_log_says_so(
    uncached: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(uncached))
    monkeypatch.delenv("CXX", raising=False)
    with caplog.at_level(logging.WARNING):
        outputs, path = outputs_of_conv4()
    assert path == "batched"
    assert [record.message for record in caplog.records] == [
        "torch's own operations are used in place of the CPU kernels: no C++ compiler was found"
    ]
    assert status() == "off (no C++ compiler was found)"
    assert bool(outputs.isfinite().all())


def test_a_compiler_that_fails_is_named_with_its_first_error(
    uncached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = uncached / "broken-g++"
    compiler.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'x.cpp:1: error: no room' >&2\nexit 1\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert status() == f"off ({compiler} failed: x.cpp:1: error: no room)"


def test_kernels_compute_unless_they_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METABENCH_KERNELS")
    with_kernels, path = outputs_of_conv4()
    assert path == "batched, kernels"
    monkeypatch.setenv("METABENCH_KERNELS", "0")
    without, path = outputs_of_conv4()
    assert path == "batched"
    assert torch.allclose(with_kernels, without, atol=1e-5)
    assert status() == "off (METABENCH_KERNELS is 0)"


def test_processes_that_start_together_compile_once(uncached: Path) -> None:
    counted = uncached / "counting-g++"
    counted.write_text(
        f'#!/bin/sh\ncase "$*" in *-shared*) echo linked >> {uncached}/runs;; esac\nexec g++ -O0 "$@" -O0\n'
    )
    counted.chmod(0o755)
    program = "from metabench.engine.kernels.build import compiled; print(compiled('float'))"
    environment = {**os.environ, "CXX": str(counted)}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    paths = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(paths) == 1
    assert Path(paths.pop()).is_file()
    assert (uncached / "runs").read_text() == "linked\n"
