"""Several ranks for tests: a function run in processes that talk over gloo, without a torchrun each time.

The processes come from a fork server that has torch imported, so that four ranks are there within a second;
the test process holds the rendezvous, as torchrun's agent does.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch.distributed as dist

from metabench.device import Device
from metabench.device.ranks import Ranks


def on_ranks(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what `function(device, *arguments)` gives on each rank, in float64; raise what a rank raises.

    function: one of a test module's top level.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed", "torch._dynamo", "metabench.device"])
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with ProcessPoolExecutor(world_size, mp_context=context) as pool:
        ranks = [
            pool.submit(_on_rank, rank, world_size, store.port, _address(function), arguments)
            for rank in range(world_size)
        ]
        return [rank.result(timeout=120) for rank in ranks]


def _address(function: Callable[..., Any]) -> tuple[str, str, str]:
    """The function's module, file and name: pytest's name of a test module can be imported nowhere else."""
    file = sys.modules[function.__module__].__file__
    assert file is not None
    return function.__module__, file, function.__name__


def _load(module_name: str, file: str, name: str) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    function: Callable[..., Any] = getattr(module, name)
    return function


def _on_rank(
    rank: int, world_size: int, port: int, address: tuple[str, str, str], arguments: tuple[Any, ...]
) -> Any:
    import torch

    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True",
    )  # fmt: skip
    torch.set_num_threads(1)
    function = _load(*address)
    with Device(dtype=torch.float64, ranks=Ranks("gloo", timeout_seconds=60)) as device:
        return function(device, *arguments)
