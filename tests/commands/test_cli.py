"""What the command says and how it exits where a file cannot be written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from helpers.results import made_board
from helpers.shell import Shell, shell_environment
from metabench.results.store import Store

FULL = """
mount -t tmpfs -o size=256k none "$1" || exit 77
mkdir "$1/toy-v3" && cp "$2"/*.json "$1/toy-v3/"
dd if=/dev/zero of="$1/fill" bs=4k 2> /dev/null
shift 2
"$@" --quiet
echo "status $?"
"$@" --quiet --rerun
echo "status $?"
cat full/toy-v3/*.json
echo
find full -type f | LC_ALL=C sort
"""  # a file system of its own, which ends with the shell


@pytest.fixture
def shell_with_results(tmp_path: Path) -> Shell:
    """The real command in a folder with a few results."""
    for result in made_board(test_tasks=20):
        store = Store(tmp_path / "made" / f"{result.cell.suite}-v1")
        store.folder.mkdir(parents=True, exist_ok=True)
        store.put(result)
    return Shell(tmp_path, shell_environment())


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["compare", "made", "made", "--markdown", "no/dir/x.md"], "no/dir/x.md"),
        (["report", "made", "--format", "csv", "--output", "file/below"], "file/below"),
    ],
)
def test_a_path_that_cannot_be_written_is_a_mistake_in_the_request(
    shell_with_results: Shell, arguments: list[str], path: str
) -> None:
    (shell_with_results.folder / "file").write_text("")
    done = shell_with_results.run(*arguments, check=2)
    assert "Traceback" not in done.stderr
    assert f"metabench: {path}: " in done.stderr


def test_full_disk_says_so_and_loses_no_earlier_result(ran: Shell) -> None:
    (path,) = (ran.folder / "results/local/toy-v3").glob("*.json")
    full = ran.folder / "full"
    full.mkdir()
    run = ran.argv("run", "toy", "--results", str(full))
    script = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL, "sh", str(full)]
    try:
        done = subprocess.run(
            [*script, str(path.parent), *run], cwd=ran.folder, env=ran.environment, text=True,
            capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no unshare here to mount a small file system with")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")

    lines = done.stdout.splitlines()
    assert lines[:2] == ["status 1", "status 1"], done.stdout + done.stderr
    assert lines[2] == path.read_text()
    left = [line for line in lines[3:] if "/report/" not in line]  # a report is made anew at any time
    assert left == ["full/fill", "full/toy-v3/.lock", f"full/toy-v3/{path.name}"]
    report, job = done.stderr.splitlines()  # of the run with nothing left to do, and of the other one
    for message, what in ((report, "toy-v3/report"), (job, "job.json")):
        assert f"{what}: cannot be written: the disk is full; free some space" in message
        assert "Earlier results are intact." in message
