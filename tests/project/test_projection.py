"""benchmarks/projection.py: its table is that of the page, and says that it is no measurement."""

from __future__ import annotations

import subprocess
import sys

from helpers.shell import ROOT


def test_projection_of_the_page_is_the_script_s() -> None:
    argv = ["--step", "32:0.00172", "--step", "256:0.0080", "--parameters", "112261"]

    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "projection.py"), *argv], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    title, *table = done.stdout.splitlines()
    assert title == "PROJECTION, not measured: 256 tasks, all-reduce of 0.45 MB"
    page = (ROOT / "docs" / "node.md").read_text(encoding="utf-8")
    assert "\n".join(table) in page
    assert "**Projection, not measured.**" in page
