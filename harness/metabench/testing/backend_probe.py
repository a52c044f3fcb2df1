"""Opens a backend and tests its device; `check_backend` runs it on each rank.

    python -m metabench.testing.backend_probe JOB.json

Writes `rank-<n>.json` beside the job, with the violations of the contract in "violations".
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metabench.contracts import Backend
from metabench.settings import make

if TYPE_CHECKING:
    from torch import Tensor

    from metabench.device import Device

CLOSE = 1e-2
"""The largest relative error of averaged gradients, which a backend may send in bfloat16 (8 bits: 4e-3)."""


def backend_of(job_file: str) -> Backend:
    """Return the backend that a job file names. torch is imported by the backend alone."""
    job = json.loads(Path(job_file).read_text())
    sys.path += [path for path in job["path"] if path not in sys.path]
    cls: Any = reduce(getattr, job["name"].split("."), import_module(job["module"]))
    backend: Backend = make(cls, job["settings"])
    return backend


def main(job_file: str) -> None:
    """Open the backend, test its device, and write the violations."""
    from metabench.device import Device

    backend = backend_of(job_file)
    with backend.open() as device:
        if not isinstance(device, Device):
            broken = [f"open() returned {device!r}; it must return a metabench.device.Device"]
            rank = int(os.environ.get("RANK", "0"))
        else:
            broken, rank = list(violations(device, backend.world_size)), device.rank
        report = json.dumps({"rank": rank, "violations": broken})
        Path(job_file).with_name(f"rank-{rank}.json").write_text(report)


def violations(device: Device, world_size: int) -> Iterator[str]:
    """Yield each violation of the contract by an open device."""
    if device.world_size != world_size or not 0 <= device.rank < world_size:
        yield f"the device has rank {device.rank} of {device.world_size}; world_size is {world_size}"
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

    device.synchronize = counted  # type: ignore[method-assign]  # restored below
    device.clock()
    del device.synchronize
    if not calls:
        yield (
            "clock() does not call synchronize(): work that is still queued would not be timed; wait for it "
            "before reading the clock"
        )


def _exchanges(device: Device) -> Iterator[str]:
    ranks = range(device.world_size)
    own = [float(device.rank), *[0.5] * device.rank]  # each rank has another number of values
    if device.gather(own) != [[float(r), *[0.5] * r] for r in ranks]:
        yield "gather(values) does not give each rank's values in the order of the ranks"
    if device.slowest(float(device.rank)) != float(ranks[-1]):
        yield "slowest(seconds) does not give the largest value of all ranks"
    if device.agree(device.rank == 0) is not True or device.agree(device.rank != 0) is not False:
        yield "agree(flag) does not give rank 0's flag on every rank"


def _gradients(device: Device) -> Iterator[str]:
    import torch

    shapes = [(3,), (2, 2), ()]
    parameters = [torch.zeros(s, device=device.torch, dtype=device.dtype, requires_grad=True) for s in shapes]
    size = device.world_size
    weights = [2 * (rank + 1) / (size * (size + 1)) for rank in range(size)]  # all different; their sum is 1
    yield from _weighted_sum(device, parameters, weights)
    yield from _absent_gradients(device, parameters, weights)


def _weighted_sum(device: Device, parameters: list[Tensor], weights: list[float]) -> Iterator[str]:
    import torch

    for number, parameter in enumerate(parameters, start=1):
        parameter.grad = torch.full_like(parameter, float((device.rank + 1) * number))
    device.average_gradients(parameters, weights[device.rank])
    for number, parameter in enumerate(parameters, start=1):
        expected = sum(weight * (rank + 1) * number for rank, weight in enumerate(weights))
        grad = parameter.grad
        if grad is None or not torch.allclose(grad, torch.full_like(grad, expected), rtol=CLOSE):
            value = None if grad is None else grad.flatten()[0].item()
            yield (
                f"average_gradients(parameters, weight) leaves {value} in .grad where the weighted sum over "
                f"the ranks is {expected:g}: replace each .grad by the sum of weight · .grad over all ranks"
            )
            return


def _absent_gradients(device: Device, parameters: list[Tensor], weights: list[float]) -> Iterator[str]:
    """Rank 0 alone has a gradient, of the first parameter alone."""
    import torch

    first, *others = parameters
    first.grad = torch.ones_like(first) if device.rank == 0 else None
    for parameter in others:
        parameter.grad = None
    device.average_gradients(parameters, weights[device.rank])
    if first.grad is None or not torch.allclose(
        first.grad, torch.full_like(first.grad, weights[0]), rtol=CLOSE
    ):
        yield "average_gradients does not count the .grad that a rank lacks as zeros"
    if any(parameter.grad is not None for parameter in others):
        yield "average_gradients makes a .grad that no rank has; leave None, which an optimizer skips"


def _meters(device: Device) -> Iterator[str]:
    import torch

    with device.numerics():
        x = torch.ones(8, 8, device=device.torch, dtype=device.dtype)
        if not torch.isfinite((x @ x).sum()):
            yield "a product of matrices of ones is not finite under numerics()"
    memory = device.peak_memory()
    if not memory.get("host", 0) > 0 or not all(isinstance(v, float) for v in memory.values()):
        yield f"peak_memory() gives {memory!r}; it must give bytes as floats, 'host' among them"
    if device.torch.type != "cpu" and "device" not in memory:
        yield "peak_memory() has no 'device', though the device has its own memory"
    before, after = device.energy(), device.energy()
    if set(before) != set(after) or any(after[name] < joules for name, joules in before.items()):
        yield f"energy() goes from {before!r} to {after!r}; it must count joules since it was opened"
    for name, document in (("environment", device.environment()), ("condition", device.condition())):
        try:
            json.dumps(document)
        except TypeError as error:
            yield f"{name}() cannot be stored: {error}; return plain JSON values"
    for name in ("device", "dtype"):
        if name not in device.environment():
            yield f"environment() has no {name!r}: add your entries to super().environment()"


if __name__ == "__main__":
    main(sys.argv[1])
