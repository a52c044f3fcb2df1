"""`metabench doctor`."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import click

from metabench import environment
from metabench.commands.list import state
from metabench.plugins import KINDS, load


@click.command(
    epilog="""\b
Example:
  metabench doctor
"""
)
def command() -> int:
    """Check this installation: versions, plugins, hardware, space for results.

    Exit status: 0 when nothing is wrong, 1 when something needs mending.
    """
    facts = environment.provenance()
    for name, version in facts["packages"].items():
        click.echo(f"{name} {version}")
    click.echo(f"python {facts['python']} on {facts['system']}")
    click.echo(
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory_bytes'] / 2**30:.0f} GiB of memory"
    )
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
    registry.suite_folders()
    troubles = [str(problem) for problem in registry.problems]
    if free < 0.1:
        troubles.append("less than 100 MiB are free here: results may not fit")
    troubles += _dependencies()
    click.echo(
        "\nproblems" + "".join(f"\n  {trouble}" for trouble in troubles) if troubles else "\nno problems"
    )
    return 1 if troubles else 0


def _dependencies() -> list[str]:
    """The dependencies of metabench that are absent."""
    from packaging.requirements import Requirement

    troubles = []
    for line in importlib.metadata.requires("metabench") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            have = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            troubles.append(f"{wanted.name} is not installed: pip install '{wanted}'")
            continue
        if not wanted.specifier.contains(have, prereleases=True):
            troubles.append(f"{wanted.name} {have} is installed, {wanted} is needed: pip install '{wanted}'")
    return troubles
