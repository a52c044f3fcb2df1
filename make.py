"""Sets metabench up in an environment of its own and runs it. Needs Python 3.11 or later and nothing else.

    python3 make.py quick     installs metabench, then runs the suite `quick`
    python3 make.py test      installs it with all that its tests use, then runs ruff, mypy and pytest;
                              `test --slow` runs the tests marked slow as well

The environment lies in `.venv` (METABENCH_VENV names another folder); a second call uses it again. What
follows `quick` or `test` is passed on: `python3 make.py test tests/worker/test_cell_run.py -x`.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PARALLEL = ["-n", "logical", "--maxprocesses", "4", "--dist", "worksteal"]
"""How pytest shares the tests out to processes: one per core, each of which holds torch in memory."""


def main(arguments: list[str]) -> int:
    """Runs one of the two jobs; returns its exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs before anything checks the version
        print(f"metabench needs Python 3.11 or later; this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    jobs = {"quick": quick, "test": test}
    if not arguments or arguments[0] not in jobs:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        jobs[arguments[0]](environment(), arguments[1:])
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def quick(python: Path, rest: list[str]) -> None:
    """Installs what the suite `quick` needs, and runs it."""
    install(python, "-e", ".")
    run(python, "-m", "metabench.cli", "run", "quick", *rest)


def test(python: Path, rest: list[str]) -> None:
    """Installs what the tests need, learn2learn included, and runs them."""
    install(python, "-e", ".[test,data,site,docs,learn2learn]")
    run(python, "-m", "metabench_plugins.learn2learn.install")
    if all(word.startswith("-") for word in rest):  # of the whole project, and not of some tests
        run(python, "-m", "ruff", "check")
        run(python, "-m", "ruff", "format", "--check")
        run(python, "-m", "mypy")
    run(python, "-m", "pytest", *PARALLEL, *(rest or ["-q"]))


def environment() -> Path:
    """The Python of the environment, which is made where it is absent or was left half made."""
    folder = Path(os.environ.get("METABENCH_VENV", ROOT / ".venv"))
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (
        not python.exists()
        or subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode
    ):
        print(f"making an environment in {folder}", flush=True)
        attempt(
            [sys.executable, "-m", "venv", str(folder)],
            f"cannot make an environment in {folder}. If the reason above is that venv or ensurepip is "
            "absent: on Debian and Ubuntu, `apt install python3-venv` brings both",
        )
    return python


def install(python: Path, *what: str) -> None:
    """Installs with pip; the first time it brings torch, which takes minutes."""
    print(f"installing {' '.join(what)}", flush=True)
    attempt(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what],
        "pip cannot install this; its reason stands above. It needs the package registry, PyPI, and some "
        "gigabytes of disk",
    )


def attempt(command: list[Path | str], advice: str) -> None:
    """Runs a command of the set-up; ends this program with the advice where it fails."""
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(f"make.py: {advice}")


def run(python: Path, *command: str) -> None:
    """Runs Python in the project's folder; raises CalledProcessError where it fails."""
    subprocess.run([str(python), *command], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
