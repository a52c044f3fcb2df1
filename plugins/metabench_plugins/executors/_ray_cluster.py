"""A Ray cluster: joined for a while with the code at hand, and what its machines have."""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from metabench.errors import RequestError


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Join the cluster for the time of the block, with the code of metabench and of the plugins."""
    import ray

    if ray.is_initialized():
        raise RequestError("this process has joined a Ray cluster already: call ray.shutdown() first")
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(
        address=address or None, runtime_env={"py_modules": code_folders()}, log_to_driver=False,
        configure_logging=False,
    )  # fmt: skip
    if main:  # Ray puts its own in place, which does not end what was sent
        signal.signal(signal.SIGTERM, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def code_folders() -> list[str]:
    """Return the folders of the packages that travel: metabench, and those of the installed plugins."""
    names = {"metabench", *(entry.module.split(".")[0] for entry in entry_points(group="metabench"))}
    files = (importlib.import_module(name).__file__ for name in sorted(names))
    return [str(Path(file).parent) for file in files if file and Path(file).name == "__init__.py"]


def machines(ray: Any) -> list[tuple[float, float]]:
    """Return the cores and the GPUs of each machine that is up."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(machine.get("CPU", 0.0), machine.get("GPU", 0.0)) for machine in resources]
