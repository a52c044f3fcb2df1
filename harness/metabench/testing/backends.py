"""`check_backend`: opens a backend as a worker does, in processes of its own that run `backend_probe`."""

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
    """Check a backend against its whole contract: open it on all of its ranks and test their devices.

    absent: environment variables that hide the hardware, e.g. {"CUDA_VISIBLE_DEVICES": ""}; with them
    `available` must return a reason; timeout: seconds until the ranks must have finished.

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
        hidden_reason = _reason_without_hardware(backend, dict(absent))
        subject.require(
            bool(hidden_reason.strip()),
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
    for report in _probe_ranks(backend, subject, timeout):
        for violation in report["violations"]:
            raise ContractError(f"{subject.title}, rank {report['rank']} of {size}: {violation}")


PROBING = "METABENCH_PROBING"

_AVAILABLE = """
import sys
from metabench.testing.backend_probe import backend_of
print(backend_of(sys.argv[1]).available() or "", end="")
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
    settings = {option.name: getattr(backend, option.name) for option in describe_settings(cls)}
    paths = [path for path in sys.path if path]  # a test module may be importable in this process alone
    return {"module": cls.__module__, "name": cls.__qualname__, "settings": settings, "path": paths}


def _reason_without_hardware(backend: Backend, environment: dict[str, str]) -> str:
    """What `available` returns in a process with these variables; "" for None."""
    with TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(_job(backend)))
        completed = subprocess.run(
            [sys.executable, "-c", _AVAILABLE, str(job)], env={**os.environ, **environment}, text=True,
            capture_output=True, check=True,
        )  # fmt: skip
    return completed.stdout


def _probe_ranks(backend: Backend, subject: Subject, timeout: float) -> list[dict[str, Any]]:
    """The report of each rank on its device."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        job = folder / "job.json"
        job.write_text(json.dumps(_job(backend)))
        command, extra = backend.command([sys.executable, "-m", "metabench.testing.backend_probe", str(job)])
        try:
            completed = subprocess.run(
                command,
                env={**os.environ, **extra, PROBING: "1"},
                text=True,
                capture_output=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise ContractError(
                f"{subject.title}: its ranks have not finished after {timeout:g} s: one of them waits for an "
                "exchange that another does not take part in"
            ) from None
        reports = [json.loads(path.read_text()) for path in sorted(folder.glob("rank-*.json"))]
        subject.require(
            completed.returncode == 0 and len(reports) == backend.world_size,
            f"available() gives None, but {len(reports)} of {backend.world_size} ranks opened it and passed "
            f"(exit status {completed.returncode}): {_last_error(completed.stderr)}",
        )
    return reports


def _last_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["it printed nothing"])[-1]
