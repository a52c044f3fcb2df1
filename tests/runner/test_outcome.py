"""The one result of a job that ended: what it says, and what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from metabench.runner.outcome import without_homes


@pytest.mark.parametrize(
    ("path", "shortened"),
    [
        ("/home/me/venv/lib/python3.11/site-packages/torch/_ops.py", "torch/_ops.py"),
        ("/usr/lib/python3/dist-packages/mine/learner.py", "mine/learner.py"),
        ("/usr/lib/python3.12/json/decoder.py", "json/decoder.py"),
        ("/home/me/code/mine/plugins/mine/learner.py", "plugins/mine/learner.py"),
        ("<frozen runpy>", "<frozen runpy>"),
    ],
)
def test_file_names_begin_with_their_package(path: str, shortened: str) -> None:
    assert without_homes(f'  File "{path}", line 7, in f') == f'  File "{shortened}", line 7, in f'


def test_a_home_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))

    assert without_homes("no such file: /home/me/data/x.zip") == "no such file: ~/data/x.zip"
