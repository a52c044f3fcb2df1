"""Compile the kernels with the machine's own C++ compiler, once for each source, compiler and processor."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

from filelock import FileLock

from metabench.folders import cache_folder

SOURCES = ("convolution.cpp", "norm.cpp", "perceptron.cpp", "plan.h", "vector.h", "parallel.h")
FLAGS = (
    "-O3", "-march=native", "-std=c++17", "-fno-math-errno", "-ffp-contract=fast", "-fvisibility=hidden",
    "-fPIC", "-pthread",
)  # fmt: skip
TIMEOUT_SECONDS = 300

log = logging.getLogger("metabench.engine")


class BuildError(Exception):
    """The kernels could not be compiled; the text gives the reason."""


@cache
def compiler() -> str | None:
    """Return the C++ compiler: what CXX names, else g++, c++ or clang++; None where there is none."""
    chosen = os.environ.get("CXX")
    names = [chosen] if chosen else ["g++", "c++", "clang++"]
    return next((path for path in map(shutil.which, names) if path), None)


def compiled(real: str) -> Path:
    """Return the shared library for `real`, "float" or "double"; compile it where the cache has none.

    One process compiles, those that ask meanwhile wait for it. Raises BuildError.
    """
    path = compiler()
    if path is None:
        raise BuildError("no C++ compiler was found")
    try:
        library = cache_folder() / "kernels" / f"{real}-{_key(path, real)}.so"
        if not library.exists():
            library.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(library.with_suffix(".lock")):
                if not library.exists():
                    _compile(path, real, library)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(_reason(error)) from error
    return library


def _compile(compiler: str, real: str, library: Path) -> None:
    log.warning("compiling the CPU kernels (%s) once for this machine, which takes seconds", real)
    started = time.monotonic()
    sources = [Path(__file__).parent / name for name in SOURCES if name.endswith(".cpp")]
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch, ThreadPoolExecutor() as threads:
        objects = [str(Path(scratch) / f"{source.stem}.o") for source in sources]
        list(threads.map(partial(_run, compiler, f"-DMETABENCH_REAL={real}", "-c"), sources, objects))
        output = Path(scratch) / library.name
        _run(compiler, "-shared", *objects, output)
        output.replace(library)
    log.warning("compiled the CPU kernels (%s) in %.0f s: %s", real, time.monotonic() - started, library)


def _run(compiler: str, *arguments: str | Path) -> None:
    """Run the compiler; the last argument is the file that it writes."""
    *rest, output = arguments
    argv = [compiler, *FLAGS, *map(str, rest), "-o", str(output)]
    subprocess.run(argv, check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)


def _key(compiler: str, real: str) -> str:
    """Return what the library depends on, as a short hash."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=60).stdout
    digest.update(version)
    digest.update(repr((FLAGS, real, _processor())).encode())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """Return what `-march=native` depends on: the processor's model and its features."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    fields = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(fields)))


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        output = (error.stderr or "").strip().splitlines()
        first = next((line for line in output if "error" in line), output[0] if output else "no output")
        return f"{error.cmd[0]} failed: {first}"
    return str(error)
