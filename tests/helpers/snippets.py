"""What the tests of the documentation share: its pages, their snippets, and a scratch virtual environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import textwrap
from dataclasses import dataclass
from pathlib import Path

from helpers.shell import ROOT

DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\{?[\w-]*\}?)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Every page that this project's documentation has."""
    return sorted(path for path in DOCS.rglob("*.md"))


def snippets(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language on a page, in order."""
    return [text for label, _, text in FENCE.findall(page.read_text(encoding="utf-8")) if label == language]


def files(page: Path) -> dict[str, str]:
    """The files that a page shows: blocks whose first line names one, as "```python mine.py"."""
    return {
        name.strip(): text
        for _, name, text in FENCE.findall(page.read_text(encoding="utf-8"))
        if ".py" in name
    }


def commands(block: str) -> list[str]:
    """The command lines of a console block."""
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


@dataclass
class Scratch:
    """A virtual environment that sees this one's packages, and a folder to work in; `cd` is remembered."""

    home: Path
    folder: Path

    def run(self, line: str) -> str:
        """Runs a command line as a person would; returns what it said, fails unless it ended well."""
        if line.startswith("cd "):
            self.folder = (self.folder / line.removeprefix("cd ")).resolve()
            return ""
        environment = {
            **os.environ, "PATH": f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200",
            "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONWARNINGS": "error",
        }  # fmt: skip
        if line.startswith("pip "):  # pip and setuptools have warnings of their own
            del environment["PYTHONWARNINGS"]
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=environment, text=True, capture_output=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


def scratch(folder: Path) -> Scratch:
    """A virtual environment in which pip installs without touching this one."""
    home, work = folder / "venv", folder / "work"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    ours = sysconfig.get_path("purelib")
    theirs = next(home.glob("lib/python*/site-packages"))
    (theirs / "parent.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    for name, module in {"metabench": "metabench.cli", "pip": "pip", "pytest": "pytest"}.items():
        script = home / "bin" / name
        script.write_text(
            textwrap.dedent(f"""\
            #!/bin/sh
            exec {home / "bin" / "python"} -m {module} "$@"
            """)
        )
        script.chmod(0o755)
    return Scratch(home, work)
