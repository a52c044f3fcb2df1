"""The one result of a job that ended: what it says, and what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from metabench.ended import without_homes


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('  File "/home/me/venv/lib/python3.11/site-packages/torch/_ops.py", line 7, in f',
         '  File "torch/_ops.py", line 7, in f'),
        ('  File "/usr/lib/python3/dist-packages/mine/learner.py", line 7', '  File "mine/learner.py", line 7'),
        ('  File "/usr/lib/python3.12/json/decoder.py", line 7', '  File "json/decoder.py", line 7'),
        ('  File "/home/me/code/mine/plugins/mine/learner.py", line 7', '  File "plugins/mine/learner.py", line 7'),
        ('  File "<frozen runpy>", line 7', '  File "<frozen runpy>", line 7'),
        ("RuntimeError: 3/4 of it", "RuntimeError: 3/4 of it"),
    ],
)  # fmt: skip
def test_file_names_begin_with_their_package(line: str, told: str) -> None:
    assert without_homes(line) == told


def test_a_home_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))

    assert without_homes("no such file: /home/me/data/x.zip") == "no such file: ~/data/x.zip"
