"""`check_backend`: opened as a worker opens it, in its own processes, and asked by the module `probe`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import SkipTest

from metabench.contracts import Backend
from metabench.settings import describe_settings
from metabench.testing.contract_error import ContractError, Subject, begin


def check_backend(
    backend: Backend | type[Backend], *, absent: Mapping[str, str] | None = None, timeout: float = 120.0
) -> None:
    """Checks a backend against its whole contract: opens it on all of its ranks and asks their devices.

    absent: environment variables that hide the hardware, e.g. {"CUDA_VISIBLE_DEVICES": ""}; with them
    `available` must give a reason; timeout: seconds until the ranks must have ended.

    Raises ContractError with what is wrong and what to do; SkipTest where the hardware is absent.
    """
    backend, subject = begin("backend", backend)
    subject.require(
        PROBING not in os.environ,
        "check_backend is called while a module is imported: put it into a test function, since each rank "
        "imports the backend's module",
    )
    reason = _available(backend, subject)
    if absent is not None:
        said = _elsewhere(backend, dict(absent))
        subject.require(
            bool(said and said.strip()),
            f"available() gives None where {dict(absent)} hides its hardware: look for the hardware, and say "
            "what is absent",
        )
    argv = [sys.executable, "-m", "metabench.testing.backend_probe"]
    with subject.doing("command(argv)"):
        command, environment = backend.command(argv)
    subject.require(
        isinstance(command, list) and all(isinstance(part, str) for part in command)
        and command[-2:] == argv[-2:],
        f"command(argv) gives {command!r}; it gives a list of texts that ends with the command it was given",
    )  # fmt: skip
    subject.require(
        isinstance(environment, dict) and all(isinstance(v, str) for v in environment.values()),
        f"command(argv) gives the environment {environment!r}; it is a dict of texts",
    )
    size = backend.world_size
    subject.require(isinstance(size, int) and size >= 1, f"world_size is {size!r}; it is 1 or more")
    if reason is not None:
        raise SkipTest(f"{subject.title}: {reason}")
    for rank in _probed(backend, subject, timeout):
        for what in rank["wrong"]:
            raise ContractError(f"{subject.title}, rank {rank['rank']} of {size}: {what}")


PROBING = "METABENCH_PROBING"

_AVAILABLE = """
import json, sys
from functools import reduce
from importlib import import_module
from metabench.settings import make
job = json.load(open(sys.argv[1]))
sys.path += job["path"]
backend = make(reduce(getattr, job["name"].split("."), import_module(job["module"])), job["settings"])
print(backend.available() or "", end="")
"""


def _available(backend: Backend, subject: Subject) -> str | None:
    with subject.doing("available()"):
        reason = backend.available()
    subject.require(
        reason is None or (isinstance(reason, str) and bool(reason.strip())),
        f"available() gives {reason!r}; it gives None, or the reason why this hardware cannot be used",
    )
    return reason


def _job(backend: Backend) -> dict[str, Any]:
    cls = type(backend)
    settings = {one.name: getattr(backend, one.name) for one in describe_settings(cls)}
    paths = [path for path in sys.path if path]  # a test's own module may be importable in this process alone
    return {"module": cls.__module__, "name": cls.__qualname__, "settings": settings, "path": paths}


def _elsewhere(backend: Backend, environment: dict[str, str]) -> str | None:
    """What `available` says in a process with these variables."""
    with TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(_job(backend)))
        done = subprocess.run(
            [sys.executable, "-c", _AVAILABLE, str(job)], env={**os.environ, **environment}, text=True,
            capture_output=True, check=True,
        )  # fmt: skip
    return done.stdout


def _probed(backend: Backend, subject: Subject, timeout: float) -> list[dict[str, Any]]:
    """What each rank found out about its device."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        job = folder / "job.json"
        job.write_text(json.dumps(_job(backend)))
        command, extra = backend.command([sys.executable, "-m", "metabench.testing.backend_probe", str(job)])
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **extra, PROBING: "1"},
                text=True,
                capture_output=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise ContractError(
                f"{subject.title}: its ranks have not ended after {timeout:g} s: one of them waits for an "
                "exchange that another does not take part in"
            ) from None
        told = [json.loads(path.read_text()) for path in sorted(folder.glob("rank-*.json"))]
        subject.require(
            done.returncode == 0 and len(told) == backend.world_size,
            f"available() gives None, but {len(told)} of {backend.world_size} ranks opened it and ended well "
            f"(exit status {done.returncode}): {_last(done.stderr)}",
        )
    return told


def _last(text: str) -> str:
    said = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in said if "Error" in line]
    return (errors or said or ["it said nothing"])[-1]
