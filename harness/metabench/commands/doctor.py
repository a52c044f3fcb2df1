"""`metabench doctor`."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from pathlib import Path

import click

from metabench.commands.list import state
from metabench.device import host
from metabench.plugins import KINDS, load
from metabench.suite import installed_suites


@click.command(
    epilog="""\b
Example:
  metabench doctor
"""
)
def command() -> int:
    """Check this installation: versions, plugins, hardware, space for results.

    Exit status: 0 when nothing is wrong, 1 when something needs repair.
    """
    facts = host.provenance()
    for name, version in facts["packages"].items():
        click.echo(f"{name} {version}")
    click.echo(f"python {facts['python']} on {facts['system']}")
    click.echo(
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory_bytes'] / 2**30:.0f} GiB of memory"
    )
    computing, troubles = _computing()
    click.echo(computing)
    click.echo(f"machine name in results: {facts['machine']} (METABENCH_MACHINE changes it)")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    click.echo(f"free space for results here: {free:.1f} GiB")
    registry = load()
    click.echo("\nplugins")
    for plugin in registry.plugins.values():
        click.echo(f"  {plugin.name}: {plugin.module}, {plugin.distribution} {plugin.version}")
    click.echo("\nbackends")
    for entry in registry.entries("backend").values():
        click.echo(f"  {entry.name}: {state(entry)}")
    for kind in KINDS:
        registry.entries(kind)  # asks every plugin, so that every problem is known
    installed_suites(registry)
    troubles += [str(problem) for problem in registry.problems]
    if free < 0.1:
        troubles.append("less than 100 MiB are free here: results may not fit")
    troubles += _dependencies()
    click.echo(
        "\nproblems" + "".join(f"\n  {trouble}" for trouble in troubles) if troubles else "\nno problems"
    )
    return 1 if troubles else 0


_BLAS = {"mkl": "MKL", "open": "OpenBLAS", "accelerate": "Accelerate", "flexi": "FlexiBLAS", "nvpl": "NVPL"}
"""Names of the BLAS libraries by what torch's build calls them."""


def _computing() -> tuple[str, list[str]]:
    """Return lines on what computes on the processor, which decides how results round, and what is wrong."""
    try:
        import torch
    except (
        ImportError,
        OSError,
    ) as error:  # OSError: a library of torch's own is absent or of another system
        return "torch: cannot be imported", [f"torch cannot be imported ({error}): pip install -U torch"]
    capability = torch.backends.cpu.get_cpu_capability()
    products, convolutions = _libraries(torch.__config__.show())
    from metabench.engine.kernels import status  # imports torch

    return (
        f"processor capability: {capability} (torch's own kernels)\n"
        f"products: matrices by {products}, convolutions by {convolutions}\n"
        f"kernels for tasks with weights of their own: {status()}"
    ), []


def _libraries(build: str) -> tuple[str, str]:
    """Which libraries compute products of matrices and convolutions; build: `torch.__config__.show()`."""
    blas = re.search(r"\bBLAS_INFO=(\w+)", build)
    name = _BLAS.get(blas[1], blas[1]) if blas else "torch's own kernels"
    mkl = re.search(r"Math Kernel Library Version ([\d.]+)", build)
    onednn = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+)", build)
    return (
        f"{name} {mkl[1]}" if mkl and name == "MKL" else name,
        f"oneDNN {onednn[1]}" if onednn else "torch's own kernels",
    )


def _dependencies() -> list[str]:
    """The dependencies of metabench that are absent or older than it needs."""
    troubles = []
    for line in importlib.metadata.requires("metabench") or []:
        wanted, _, marker = (part.strip() for part in line.partition(";"))
        name, _, least = wanted.partition(">=")  # our own requirements have no other form
        if "extra" in marker:
            continue
        try:
            have = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            troubles.append(f"{name} is not installed: pip install '{wanted}'")
            continue
        if _numbers(have) < _numbers(least):
            troubles.append(f"{name} {have} is installed, {wanted} is needed: pip install '{wanted}'")
    return troubles


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, to be compared: 2.10.1+cpu → (2, 10, 1)."""
    release = re.match(r"[\d.]*", version)
    return tuple(int(part) for part in release[0].split(".") if part) if release else ()
