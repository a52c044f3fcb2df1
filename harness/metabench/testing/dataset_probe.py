"""Draw a data set's tasks in a process of its own, whose hashes of strings differ.

    python -m metabench.testing.dataset_probe < request.json

prints the digest of the tasks. Sets and `hash()` have another order and other values in each process, unless
PYTHONHASHSEED fixes them: tasks that depend on them differ between two runs, and between two ranks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from metabench.contracts import Dataset, Source
from metabench.records.cell import Split
from metabench.records.protocol import Protocol

NUMBERS = range(6)
SEED = 4
TIMEOUT_SECONDS = 300


def digest_of_tasks(source: Source, protocol: Protocol, splits: Sequence[Split]) -> str:
    """Return the SHA-256 of the first tasks of these splits and of their manifests."""
    sha = hashlib.sha256()
    for split in splits:
        drawn = source.episodes(split, protocol, NUMBERS, SEED)
        for tensor in (*drawn.support, *drawn.query, drawn.classes, drawn.index):
            sha.update(tensor.cpu().contiguous().numpy().tobytes())
        for name, values in sorted(source.manifest(split, protocol, NUMBERS, SEED).items()):
            sha.update(name.encode() + values.tobytes())
    return sha.hexdigest()


def digest_in_another_process(dataset: Dataset, protocol: Protocol, splits: Sequence[Split]) -> str | None:
    """Return `digest_of_tasks` as another process computes it.

    None if that process cannot make the data set, such as one that is defined inside a function.
    """
    cls = type(dataset)
    fields = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    try:
        request = json.dumps({
            "path": sys.path, "module": cls.__module__, "file": inspect.getsourcefile(cls),
            "name": cls.__qualname__, "settings": fields, "protocol": dataclasses.asdict(protocol),
            "splits": list(splits),
        })  # fmt: skip
    except (TypeError, OSError):
        return None
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=request, env=environment, capture_output=True, text=True,
        timeout=TIMEOUT_SECONDS, check=False,
    )  # fmt: skip
    return done.stdout.split()[-1] if done.returncode == 0 and done.stdout.strip() else None


def main() -> None:
    """Read a request from standard input and print the digest."""
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    import torch

    from metabench.device.device import Device
    from metabench.settings import make

    component: Any = _module(request["module"], request["file"])
    for part in request["name"].split("."):
        component = getattr(component, part)
    dataset: Dataset = make(component, request["settings"])
    source = dataset.load(Device(dtype=torch.float64))
    print(digest_of_tasks(source, Protocol(**request["protocol"]), request["splits"]))


def _module(name: str, file: str) -> Any:
    """The module of this name, or else the one in this file (a script, a test module)."""
    if name != "__main__":
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    spec = importlib.util.spec_from_file_location("probed", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["probed"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
