"""How long reports take on many stored results; run it on a quiet machine.

    python benchmarks/report.py [--results 10000]

Prints wall seconds, CPU seconds and the most memory of the real commands, process start included, beside what
is asked of them. The first `verify` starts a process that loads torch and says what is installed. It gets
sound results, which a run could have stored: a tenth as many as the others, where those are more than 10,000.
The results of the other commands are alike but for names.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import json

from tabulate import tabulate

from helpers.results import made_cell, made_result
from helpers.submissions import honest_result
from helpers.submissions import made_cell as sound_cell

LARGEST_SOUND = 10_000
VARIANTS = 50  # of scores; the rest of a result is the same text with other names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--results", type=int, default=10_000)
    count = parser.parse_args().results
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = write(folder / "results", count)
        sound = write_sound(folder / "sound", min(count, max(LARGEST_SOUND, count // 10)))
        environment = {**os.environ, "METABENCH_CACHE": str(folder / "cache")}
        lines = [
            (what, *timed(command, environment), limit) for what, command, limit in commands(folder, sound)
        ]
    titles = [f"{written} results", "seconds", "CPU seconds", "MB", "seconds at most"]
    print(tabulate(lines, titles, disable_numparse=True))


def commands(folder: Path, sound: int) -> Iterator[tuple[str, list[str], str]]:
    results, site = str(folder / "results"), str(folder / "site")
    yield f"verify, {sound} sound results", ["verify", str(folder / "sound")], "15"
    yield "verify, after that", ["verify", str(folder / "sound")], "15"
    yield "report, first time", ["report", results], "10"
    yield "report, after that", ["report", results], "2"
    shutil.rmtree(folder / "cache", ignore_errors=True)
    yield "leaderboard, first time", ["leaderboard", results, "-o", site], "15"
    yield "leaderboard, after that", ["leaderboard", results, "-o", site], "15"


def timed(command: list[str], environment: dict[str, str]) -> tuple[str, str, str]:
    """The wall and CPU seconds of a command, and the most memory of one of its processes, in MB."""
    started = time.perf_counter()
    program = [str(Path(sys.executable).with_name("metabench")), *command]
    process = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"metabench {' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    wall, cpu = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    return f"{wall:.2f}", f"{cpu:.2f}", f"{usage.ru_maxrss / 1024:.0f}"


def write_sound(folder: Path, count: int) -> int:
    """Writes so many results in which `metabench verify` finds no error: all three seeds of each row."""
    count -= count % 3
    for number in range(count):
        method, rest = divmod(number, 3 * 40)
        board, seed = divmod(rest, 3)
        cell = sound_cell(
            "maml", seed, settings={"inner_rate": 0.5 + method / 1024}, dataset=f"data{board}",
            suite=f"suite{board // 14}",
        )  # fmt: skip
        path = folder / cell.suite_folder / "made-machine-2-cores" / f"{cell.id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(honest_result(cell, 0.4 + number % VARIANTS / 200).to_json()))
    return count


def write(folder: Path, count: int) -> int:
    """Writes so many results: suites × data sets × ways × shots × methods × seeds."""
    texts = []
    for variant in range(VARIANTS):
        cell = made_cell("@method@", variant, dataset="@data@", suite="@suite@")
        document = made_result(cell, 0.4 + variant / 200).to_json()
        document["cell"]["seed"] = document["cell"]["test"]["ways"] = 987654
        texts.append(json.dumps(document))
    written = 0
    while written < count:
        method, rest = divmod(written, 3 * 40)
        board, seed = divmod(rest, 3)
        suite = board // 14
        text = texts[(method * 3 + seed) % VARIANTS]
        text = text.replace('"ways": 987654', f'"ways": {2 + board % 20}').replace(
            '"seed": 987654', f'"seed": {seed}'
        )
        text = text.replace("@method@", f"method{method:03d}").replace("@data@", f"data{board}")
        text = text.replace("@suite@", f"suite{suite}")
        path = folder / f"suite{suite}-v1" / f"{written:06d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written += 1
    return written


if __name__ == "__main__":
    main()
