"""The repository that `metabench new leaderboard` writes: its workflow, and the comment that it posts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest


def test_the_scripts_of_the_repository_are_formatted(skeleton: Path) -> None:
    for tool in (["check", "--select", "E,F,W,I,B,UP"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *tool, "--line-length", "110", "."]
        done = subprocess.run(command, cwd=skeleton, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout


def post(skeleton: Path, verdict: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(skeleton / "referee" / "post.py"), str(verdict), *arguments],
        env={**os.environ, **environment}, text=True, capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_the_comment_shows_a_strangers_text_as_it_is(skeleton: Path, tmp_path: Path) -> None:
    hostile = "```\n\n@everyone [x](javascript:1) <img src=x>\x1b[2J"
    verdict = tmp_path / "verdict.json"
    verdict.write_text(json.dumps({"verdict": "rejected", "reasons": [hostile], "rerun": 3, "tiers": []}))

    text = post(skeleton, verdict, "--print", COMMIT="a" * 40)

    assert text.splitlines() == [
        "**Rejected.**", "", "Why:", "", "    ```  @everyone [x](javascript:1) <img src=x> [2J", "",
        f"Commit {'a' * 40}.",
    ]  # fmt: skip


@pytest.mark.parametrize("text", [None, "", "[" * 100_000, '{"verdict": "excellent"}', '{"verdict": ["x"]}'])
def test_without_a_verdict_the_comment_says_so(skeleton: Path, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "verdict.json").write_text(text)

    assert post(skeleton, tmp_path / "verdict.json", "--print").startswith(
        "**The referee ended without a verdict"
    )


def test_the_job_that_judges_has_no_token_and_the_job_that_posts_no_pull_request(skeleton: Path) -> None:
    text = (skeleton / ".github" / "workflows" / "referee.yml").read_text()
    judging, posting = text.partition("\n  post:\n")[::2]

    assert "pull_request_target:" in judging
    assert "permissions: {}" in judging
    assert "token" not in judging.partition("jobs:")[2]
    assert "secrets" not in text.partition("jobs:")[2]
    assert "write" not in judging.partition("jobs:")[2]
    assert "/merge" not in posting
    assert "run: python base/" in judging
    assert "head/" not in text.partition("jobs:")[2]


def test_the_comment_goes_to_the_pull_request(skeleton: Path, tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text('{"verdict": "accepted"}')
    requests: list[tuple[str, str | None, Any]] = []

    class Forge(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, self.headers["Authorization"], body))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Forge) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        post(
            skeleton, tmp_path / "verdict.json", GITHUB_API_URL=f"http://127.0.0.1:{server.server_port}",
            GITHUB_REPOSITORY="some/board", PULL_REQUEST="7", GITHUB_TOKEN="secret",
        )  # fmt: skip
        server.shutdown()

    ((path, token, body),) = requests
    assert (path, token) == ("/repos/some/board/issues/7/comments", "Bearer secret")
    assert body["body"].startswith("**Accepted:")
