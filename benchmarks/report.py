"""How long reports take on many stored results; run it on a quiet machine.

    python benchmarks/report.py [--results 10000]

Prints the seconds of the real commands, process start included, beside what is asked of them.
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

VARIANTS = 50  # of scores; the rest of a result is the same text with other names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--results", type=int, default=10_000)
    count = parser.parse_args().results
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = write(folder / "results", count)
        environment = {**os.environ, "METABENCH_CACHE": str(folder / "cache")}
        lines = [
            (what, f"{timed(command, environment):.2f}", limit) for what, command, limit in commands(folder)
        ]
    print(tabulate(lines, [f"{written} results", "seconds", "at most"], disable_numparse=True))


def commands(folder: Path) -> Iterator[tuple[str, list[str], str]]:
    results, site = str(folder / "results"), str(folder / "site")
    yield "report, first time", ["report", results], "10"
    yield "report, after that", ["report", results], "2"
    shutil.rmtree(folder / "cache", ignore_errors=True)
    yield "leaderboard, first time", ["leaderboard", results, "-o", site], "15"
    yield "leaderboard, after that", ["leaderboard", results, "-o", site], "15"


def timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    program = [str(Path(sys.executable).with_name("metabench")), *command]
    subprocess.run(program, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


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
