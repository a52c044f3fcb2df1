"""What `check_backend` runs on each rank: opens the backend and looks at what its device does.

    python -m metabench.testing.backend_probe JOB.json

Writes `rank-<n>.json` beside the job, with everything that is wrong in "wrong".
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from metabench.contracts import Backend
from metabench.device.device import Device
from metabench.settings import make

CLOSE = 1e-2
"""Largest relative error of an average of gradients, which a backend may send in bfloat16 (8 bits: 4e-3)."""


def backend_of(job_file: str) -> Backend:
    """The backend that a job file names."""
    job = json.loads(Path(job_file).read_text())
    sys.path += [path for path in job["path"] if path not in sys.path]
    found: Any = import_module(job["module"])
    for part in job["name"].split("."):
        found = getattr(found, part)
    backend: Backend = make(found, job["settings"])
    return backend


def main(job_file: str) -> None:
    """Opens the backend, asks its device, writes down what is wrong."""
    backend = backend_of(job_file)
    with backend.open() as device:
        if not isinstance(device, Device):
            wrong = [f"open() gives {device!r}; it gives a metabench.device.device.Device"]
            rank = int(os.environ.get("RANK", "0"))
        else:
            wrong, rank = list(faults(device, backend.world_size)), device.rank
        told = json.dumps({"rank": rank, "wrong": wrong})
        Path(job_file).with_name(f"rank-{rank}.json").write_text(told)


def faults(device: Device, world_size: int) -> Iterator[str]:
    """Everything that is wrong with an open device."""
    if device.world_size != world_size or not 0 <= device.rank < world_size:
        yield f"the device says rank {device.rank} of {device.world_size}; world_size is {world_size}"
        return
    yield from _clock(device)
    yield from _exchanges(device)
    yield from _gradients(device)
    yield from _meters(device)


def _clock(device: Device) -> Iterator[str]:
    readings = [device.clock() for _ in range(50)]
    if any(later < earlier for earlier, later in pairwise(readings)):
        yield "clock() went backwards: read a monotonic clock (time.perf_counter)"
    calls = 0
    wait = device.synchronize

    def counted() -> None:
        nonlocal calls
        calls += 1
        wait()

    device.synchronize = counted  # type: ignore[method-assign]  # only for this look
    device.clock()
    del device.synchronize
    if not calls:
        yield (
            "clock() does not call synchronize(): work that is still queued would not be timed; wait for it "
            "before reading the clock"
        )


def _exchanges(device: Device) -> Iterator[str]:
    ranks = range(device.world_size)
    own = [float(device.rank), *[0.5] * device.rank]  # each rank another number of values
    if device.gather(own) != [[float(r), *[0.5] * r] for r in ranks]:
        yield "gather(values) does not give each rank's values in the order of the ranks"
    if device.slowest(float(device.rank)) != float(ranks[-1]):
        yield "slowest(seconds) does not give the largest value of all ranks"
    if device.agree(device.rank == 0) is not True or device.agree(device.rank != 0) is not False:
        yield "agree(flag) does not give rank 0's flag on every rank"


def _gradients(device: Device) -> Iterator[str]:
    import torch

    size = device.world_size
    weights = [
        2 * (rank + 1) / (size * (size + 1)) for rank in range(size)
    ]  # uneven slices; they add up to 1
    shapes = [(3,), (2, 2), ()]
    parameters = [torch.zeros(s, device=device.torch, dtype=device.dtype, requires_grad=True) for s in shapes]
    for number, one in enumerate(parameters):
        one.grad = torch.full_like(one, float((device.rank + 1) * (number + 1)))
    device.average_gradients(parameters, weights[device.rank])
    for number, one in enumerate(parameters):
        wanted = sum(w * (rank + 1) * (number + 1) for rank, w in enumerate(weights))
        if one.grad is None or not torch.allclose(one.grad, torch.full_like(one, wanted), rtol=CLOSE):
            found = None if one.grad is None else one.grad.flatten()[0].item()
            yield (
                f"average_gradients(parameters, weight) leaves {found} in .grad where the weighted sum over "
                f"the ranks is {wanted:g}: replace each .grad by the sum of weight · .grad over all ranks"
            )
            return
    parameters[0].grad = torch.ones_like(parameters[0]) if device.rank == 0 else None
    for one in parameters[1:]:
        one.grad = None
    device.average_gradients(parameters, weights[device.rank])
    grad = parameters[0].grad
    if grad is None or not torch.allclose(grad, torch.full_like(grad, weights[0]), rtol=CLOSE):
        yield "average_gradients does not count the .grad that a rank lacks as zeros"
    if any(one.grad is not None for one in parameters[1:]):
        yield "average_gradients makes a .grad that no rank has; leave None, which an optimizer passes over"


def _meters(device: Device) -> Iterator[str]:
    import torch

    with device.numerics():
        x = torch.ones(8, 8, device=device.torch, dtype=device.dtype)
        if not torch.isfinite((x @ x).sum()):
            yield "a product of matrices of ones is no finite number under numerics()"
    memory = device.peak_memory()
    if not memory.get("host", 0) > 0 or not all(isinstance(v, float) for v in memory.values()):
        yield f"peak_memory() gives {memory!r}; it gives bytes as floats, 'host' among them"
    if device.torch.type != "cpu" and "device" not in memory:
        yield "peak_memory() has no 'device' though the tensors lie in a memory of their own"
    before, after = device.energy(), device.energy()
    if set(before) != set(after) or any(after[name] < joules for name, joules in before.items()):
        yield f"energy() goes from {before!r} to {after!r}; it counts joules since the device was opened"
    for name, told in (("environment", device.environment()), ("condition", device.condition())):
        try:
            json.dumps(told)
        except TypeError as error:
            yield f"{name}() cannot be stored: {error}; give plain JSON values"
    for name in ("device", "dtype"):
        if name not in device.environment():
            yield f"environment() does not say {name!r}: add yours to super().environment()"


if __name__ == "__main__":
    main(sys.argv[1])
