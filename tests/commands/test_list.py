"""`metabench list` and `doctor`: what is installed, and what keeps the rest from being used."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import metabench_suites
import pytest

import metabench
import metabench_plugins
from helpers.shell import Shell, shell_environment, with_package
from metabench_plugins.learn2learn.importing import INSTALL

ODD = """
from dataclasses import dataclass
from metabench import REQUIRED, Backend, Dataset, hookimpl, setting

class Odd(Backend):
    def open(self): ...

@dataclass(frozen=True, kw_only=True)
class Choosy(Odd):
    "Needs a card."
    name = "choosy"
    card: str = setting(REQUIRED, "which card")

class Grumpy(Odd):
    "Raises when it is asked."
    name = "grumpy"
    def available(self): raise OSError("no driver")

class Torn(Dataset):
    "Cannot describe itself."
    name = "torn"
    folder = "a setting, not a method"
    def describe(self): raise KeyError("torn")
    def load(self, device): ...

class Away(Dataset):
    "Must be brought by hand."
    name = "away"
    def describe(self):
        from metabench import Facts
        return Facts("classification", (1, 8, 8), None, {"train": 3, "test": 2})
    def missing(self): return "away: ask its author"
    def load(self, device): ...

@hookimpl
def metabench_backends(): return [Choosy, Grumpy]

@hookimpl
def metabench_datasets(): return [Torn, Away]

@hookimpl
def metabench_suites(): return [3]
"""


@pytest.fixture
def odd(tmp_path: Path) -> Shell:
    """The real command with a package installed whose components raise in every way."""
    return Shell(tmp_path, shell_environment(with_package(tmp_path / "site", "odd_package", ODD)))


def python_without_learn2learn(folder: Path) -> Path:
    """The interpreter of a virtual environment that has every package of ours but learn2learn."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in (metabench, metabench_plugins, metabench_suites):
        (site / package.__name__).symlink_to(Path(str(package.__path__[0])))
    there = [path for place in sys.path if "-packages" in place for path in Path(place).iterdir()]
    for path in there:
        link = site / path.name
        left_out = path.name.startswith(("learn2learn", "__editable__")) or path.suffix == ".pth"
        if not left_out and not link.exists():
            link.symlink_to(path)
    return folder / "bin" / "python"


def test_command_that_installs_learn2learn_stands_whole_and_once(tmp_path: Path) -> None:
    command = [str(python_without_learn2learn(tmp_path / "venv")), "-m", "metabench.cli"]
    environment = {**os.environ, "PYTHONPATH": "", "COLUMNS": "80"}

    def run(*arguments: str) -> str:
        return subprocess.run(
            [*command, *arguments], check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
        ).stdout

    listed = run("list", "algorithms")
    lines = listed.splitlines()
    (row,) = [line for line in lines if line.startswith("l2l-maml ")]
    assert "unavailable" in row
    assert "unavailable" not in next(line for line in lines if line.startswith("maml "))
    at = lines.index(f"  learn2learn is not installed; install it with: {INSTALL}")
    assert lines[at - 1].startswith("unavailable: l2l-anil, l2l-gbml, l2l-maml")
    assert listed.count(INSTALL) == 1
    assert f"install it with: {INSTALL}" in run("show", "l2l-maml")


def test_an_algorithm_is_shown_with_its_presets_and_their_sources(shell: Shell) -> None:
    shown = shell.run("show", "protonet").stdout
    assert 'Presets, such as algorithm = {name = "protonet", preset = "snell2017"}:' in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("snell2017 ")]
    assert "train_ways = 60" in row
    assert "Snell et al. 2017" in row
    assert "Presets" not in shell.run("show", "scratch").stdout


def test_suites_are_listed_with_their_package(shell: Shell) -> None:
    lines = {line.split()[0]: line for line in shell.run("list", "suites").stdout.splitlines() if line}
    assert lines["quick"].endswith("metabench 0.1.0")
    assert lines["toy"].endswith("toy-metabench 1.2.3")


def test_list_goes_on_past_components_that_raise(odd: Shell) -> None:
    done = odd.run("list", "backends")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert "needs settings" in rows["choosy"]
    assert "unavailable" in rows["grumpy"]
    assert "  its state is unknown, asking for it raised OSError: no driver" in done.stdout.splitlines()
    assert "available" in rows["cpu"]


def test_doctor_goes_on_past_plugins_that_raise(odd: Shell) -> None:
    done = odd.run("doctor", check=1)
    assert "grumpy: unavailable: its state is unknown, asking for it raised OSError: no driver" in done.stdout
    assert "its hook metabench_suites must give paths, got 3" in done.stdout
    assert "is needed: pip install" not in done.stdout


def test_data_commands_go_on_past_data_sets_that_raise(odd: Shell) -> None:
    done = odd.run("data", "list")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert rows["torn"].endswith("unusable: its description raised KeyError: 'torn'")
    assert rows["away"].endswith("away: ask its author")
    assert rows["glyphs"].endswith("ready")
    assert odd.run("data", "path", "torn").stderr.strip() == "torn needs no files"


def test_fetching_what_no_download_brings_says_so(odd: Shell) -> None:
    assert "away: ask its author" in odd.run("data", "fetch", "away", check=1).stderr
    assert odd.run("data", "fetch", "sinusoid").stderr.strip() == "sinusoid needs no files"


def test_doctor_names_what_computes_on_the_processor(shell: Shell) -> None:
    import torch

    lines = shell.run("doctor", check=None).stdout.splitlines()
    assert f"processor capability: {torch.backends.cpu.get_cpu_capability()} (torch's own kernels)" in lines
    (products,) = [line for line in lines if line.startswith("products: matrices by ")]
    assert ("by MKL" in products) == torch.backends.mkl.is_available()
    assert ("by oneDNN" in products) == torch.backends.mkldnn.is_available()

    lowered = replace(shell, environment={**shell.environment, "ATEN_CPU_CAPABILITY": "default"})
    assert "processor capability: DEFAULT (torch's own kernels)" in lowered.run("doctor", check=None).stdout


@pytest.mark.parametrize(
    ("build", "libraries"),
    [
        (
            "  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for Intel(R) 64\n"
            "  - Intel(R) MKL-DNN v3.12.0 (Git Hash 80af)\n  - Build settings: BLAS_INFO=mkl",
            ("MKL 2024.2", "oneDNN 3.12.0"),
        ),
        (
            "  - oneDNN v3.9.1\n  - Build settings: BLAS_INFO=open",
            ("OpenBLAS", "oneDNN 3.9.1"),
        ),
        ("  - Build settings: BLAS_INFO=accelerate", ("Accelerate", "torch's own kernels")),
        ("  - Build settings: BLAS_INFO=blis", ("blis", "torch's own kernels")),
        ("  - Build settings: LAPACK_INFO=none", ("torch's own kernels", "torch's own kernels")),
    ],
)
def test_libraries_of_products_are_read_from_torchs_build(build: str, libraries: tuple[str, str]) -> None:
    from metabench.commands import doctor

    assert doctor._libraries(build) == libraries


def test_doctor_says_that_torch_cannot_be_imported(shell: Shell) -> None:
    (shell.folder / "broken").mkdir()
    (shell.folder / "broken" / "torch.py").write_text("raise OSError('libgomp.so.1: cannot open')\n")
    path = f"{shell.folder / 'broken'}{os.pathsep}{shell.environment['PYTHONPATH']}"
    broken = replace(shell, environment={**shell.environment, "PYTHONPATH": path})

    output = broken.run("doctor", check=1).stdout

    assert "torch cannot be imported (libgomp.so.1: cannot open): pip install -U torch" in output
    assert "Traceback" not in output


def test_dependency_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from metabench.commands import doctor

    needs = ["numpy>=999.1", "no-such-package>=1; python_version > '3'", "pytest>=999; extra == 'test'"]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: needs)
    old, absent = doctor._dependencies()
    assert "numpy>=999.1 is needed: pip install 'numpy>=999.1'" in old
    assert absent == "no-such-package is not installed: pip install 'no-such-package>=1'"
    assert doctor._numbers("2.10.1+cpu") > doctor._numbers("2.6")


def test_show_gives_defaults_as_a_suite_file_has_them(shell: Shell) -> None:
    rows = {
        line.split()[0]: line.split() for line in shell.run("show", "imagefolder").stdout.splitlines() if line
    }
    assert rows["fractions"][4:7] == ["[0.64,", "0.16,", "0.2]"]
    assert rows["splits"][2] == '""'
    assert rows["colour"][2] == "true"
