"""Installs learn2learn 0.2.0 on Python 3.11 and later, from the package registry alone.

    python -m metabench_plugins.learn2learn.install                     into this Python
    python -m metabench_plugins.learn2learn.install --wheels folder     only builds the wheels

The source distribution holds C files that a Cython of 2022 and 2023 wrote; they do not compile against
CPython 3.11 or later. Three packages are therefore built here, from archives and
with build tools whose SHA-256 is pinned below: learn2learn with its C files generated from its own `.pyx`
files, and its two requirements that exist as source only. Two declared requirements are corrected on the
way, so that `pip check` passes and numpy is not downgraded: learn2learn asks for gsutil, which only the
download of Quickdraw calls, and qpth asks for numpy below 2, but works with numpy 2.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import click

from metabench.errors import MetabenchError

REQUIREMENTS = (
    "torchvision>=0.24",
    "cvxpy>=1.5",
    "cloudpickle>=1.2",
    "gym-notices>=0.0.8",
    "requests>=2.28",
    "tqdm>=4.64",
)
"""Requirements of the three packages besides metabench's own: the extra `metabench[learn2learn]`."""

UNCHANGED = ("torch", "torchvision", "numpy")
"""Packages that keep their version where they are installed."""


@dataclass(frozen=True)
class Pinned:
    """One file of the registry: its project, version and SHA-256; `edit` replaces a text in a file."""

    name: str
    version: str
    sha256: str
    edit: tuple[str, str, str] | None = None  # file, old text, new text

    @property
    def line(self) -> str:
        """Return the line of a requirements file with which pip accepts this file alone."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n"


TOOLS = (  # the wheels without compiled parts, one file for every platform
    Pinned("cython", "3.1.6", "91dcf7eb9b6a089ce4e9e1140e571d84c3bca834afb77ec269be7aa9d31a8157"),
    Pinned("setuptools", "80.9.0", "062d34222ad13e0cc312a4c02d73f059e86a4acbfbdea8f8f76b28c99f306922"),
)
SOURCES = (
    Pinned("gym", "0.26.2", "e0d882f4b54f0c65f203104c24ab8a38b039f1289986803c7d02cdbe214fbcc4"),
    Pinned(
        "qpth",
        "0.0.18",
        "ade478c6bf5ab60b7f86435c8893812c2c5938083fe8bccd775bb23d613fa3c5",
        edit=("setup.py", "'numpy>=1,<2'", "'numpy>=1'"),
    ),
    Pinned(
        "learn2learn",
        "0.2.0",
        "69f1d7cb0d0a6be7a2c6ad8e83e2ebbe70fb05e51d61e45e63078b40c75ea419",
        edit=("setup.py", "        'gsutil',\n", ""),
    ),
)


class InstallError(MetabenchError):
    """A step of the installation failed; the text names it and what to do."""


@click.command(
    epilog="""Other versions of learn2learn, gym and qpth are replaced. A package of the extra
    metabench[learn2learn], or one that it requires, is upgraded only where it is too old. torch, torchvision
    and numpy keep their versions where they are installed."""
)
@click.option(
    "--wheels",
    type=click.Path(file_okay=False, path_type=Path),
    help="Only build the wheels, into this folder, e.g. for a cluster without network.",
)
@click.option("--force", is_flag=True, help="Build and install these versions even where they are installed.")
def command(wheels: Path | None, force: bool) -> None:
    """Build learn2learn 0.2.0 with what it needs, and install it into this Python."""
    if wheels is None and not force and all(_version(pin.name) == pin.version for pin in SOURCES):
        click.echo("learn2learn 0.2.0 is installed already")
        return
    try:
        if wheels is not None:
            for wheel in build_wheels(wheels):
                click.echo(f"built {wheel}")
            return
        with tempfile.TemporaryDirectory(prefix="metabench-learn2learn-") as folder:
            install(build_wheels(Path(folder)), force)
    except MetabenchError as error:
        raise click.ClickException(str(error)) from error
    click.echo("learn2learn 0.2.0 is installed; `metabench list algorithms` shows the names l2l-*")


def build_wheels(folder: Path) -> list[Path]:
    """Build a wheel of each of `SOURCES` into `folder` and return them, in that order."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="metabench-build-") as name:
        scratch = Path(name)
        tools = _fetch_tools(scratch)
        archives = _fetch_sources(scratch, tools)
        return [_build(pin, archives[pin.name], scratch, tools, folder) for pin in SOURCES]


def install(wheels: Iterable[Path], force: bool = False) -> None:
    """Install `REQUIREMENTS` from the registry, then these wheels; raise InstallError.

    force: a wheel replaces an installed package of its own version too.
    """
    with tempfile.TemporaryDirectory() as name:
        constraints = Path(name) / "constraints.txt"
        constraints.write_text("".join(_unchanged_versions()), encoding="utf-8")
        click.echo(f"installing {', '.join(REQUIREMENTS)}")
        _pip("install", "--quiet", "--constraint", str(constraints), *REQUIREMENTS)
    click.echo("installing the wheels")
    folders = sorted({f"--find-links={wheel.parent}" for wheel in wheels})
    names = [f"{pin.name}=={pin.version}" for pin in SOURCES]
    again = ["--force-reinstall"] if force else []
    _pip("install", "--quiet", "--no-deps", "--no-index", *again, *folders, *names)
    _python("-c", "from metabench_plugins.learn2learn.importing import learn2learn; learn2learn()")


def check_digest(path: Path, pinned: str) -> None:
    """Raise InstallError where the file's SHA-256 is not the pinned one."""
    digest = sha256(path.read_bytes()).hexdigest()
    if digest != pinned:
        raise InstallError(
            f"{path.name} has SHA-256 {digest}, not the pinned {pinned}: nothing was installed"
        )


def _fetch_tools(scratch: Path) -> Path:
    """Return a folder for PYTHONPATH with the pinned Cython and setuptools."""
    click.echo("fetching build tools: " + ", ".join(f"{pin.name} {pin.version}" for pin in TOOLS))
    pins, tools = scratch / "tools.txt", scratch / "tools"
    pins.write_text("".join(pin.line for pin in TOOLS), encoding="utf-8")
    _pip("install", "--quiet", "--target", str(tools), "--no-deps", "--only-binary", ":all:",
         "--require-hashes", "-r", str(pins))  # fmt: skip
    return tools


def _fetch_sources(scratch: Path, tools: Path) -> dict[str, Path]:
    """Return the archive of each source by name. pip checks the hash before it runs code of an archive."""
    click.echo("fetching sources: " + ", ".join(f"{pin.name} {pin.version}" for pin in SOURCES))
    pins, folder = scratch / "sources.txt", scratch / "archives"
    pins.write_text("".join(pin.line for pin in SOURCES), encoding="utf-8")
    _pip("download", "--quiet", "--dest", str(folder), "--no-deps", "--no-binary", ":all:",
         "--no-build-isolation", "--require-hashes", "-r", str(pins), tools=tools)  # fmt: skip
    archives = {pin.name: folder / f"{pin.name}-{pin.version}.tar.gz" for pin in SOURCES}
    for pin in SOURCES:
        check_digest(archives[pin.name], pin.sha256)
    return archives


def _build(source: Pinned, archive: Path, scratch: Path, tools: Path, folder: Path) -> Path:
    click.echo(f"building {source.name} {source.version}")
    with tarfile.open(archive) as packed:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and later
            packed.extractall(scratch, filter="data")
        else:
            packed.extractall(scratch)
    root = scratch / f"{source.name}-{source.version}"
    if source.edit is not None:
        _edit(root, source.edit)
    stale = [str(path.relative_to(root)) for path in sorted(root.glob("*/data/*.pyx"))]
    if stale:
        options = ("-3", "--force", "-X", "embedsignature=True")
        _python("-m", "cython", *options, *stale, tools=tools, folder=root)
    _pip("wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
         "--wheel-dir", str(folder), str(root), tools=tools)  # fmt: skip
    return next(folder.glob(f"{source.name}-{source.version}-*.whl"))


def _edit(root: Path, edit: tuple[str, str, str]) -> None:
    name, old, new = edit
    path = root / name
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise InstallError(f"{path} does not hold {old!r}, which this installer replaces")
    path.write_text(text.replace(old, new), encoding="utf-8")


def _unchanged_versions() -> list[str]:
    versions = {name: _version(name) for name in UNCHANGED}
    return [f"{name}=={version}\n" for name, version in versions.items() if version]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _pip(*arguments: str, tools: Path | None = None) -> None:
    _python("-m", "pip", "--disable-pip-version-check", *arguments, tools=tools)


def _python(*arguments: str, tools: Path | None = None, folder: Path | None = None) -> None:
    """Run this Python; `tools`, where given, is the only folder on its PYTHONPATH."""
    environment: Mapping[str, str] = {**os.environ, **({"PYTHONPATH": str(tools)} if tools else {})}
    process = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True
    )
    if process.returncode:
        raise InstallError(_explain(arguments, process.stdout + process.stderr))


def _explain(arguments: Sequence[str], output: str) -> str:
    hint = ""
    if "No module named pip" in output:
        hint = f"this Python has no pip; add it with: {sys.executable} -m ensurepip\n"
    elif "Python.h" in output or "gcc" in output or "Visual C++" in output:
        hint = "learn2learn has compiled parts: install a C compiler and the headers of this Python\n"
    tail = "\n".join(output.strip().splitlines()[-15:])
    return f"failed: python {' '.join(arguments)}\n{hint}{tail}"


if __name__ == "__main__":
    command()
