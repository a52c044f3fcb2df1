"""SSH keys of made-up people, and what a results repository says of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"
)


def made_key(folder: Path, name: str) -> Path:
    """A new private key without passphrase, its public half beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def allow(results: Path, *keys: Path, options: str = "") -> Path:
    """The file `allowed_signers` of a results repository that knows these keys by their files' names."""
    lines = [
        f"{key.name}@example.org {options} {key.with_suffix('.pub').read_text().strip()}\n" for key in keys
    ]
    path = results / "allowed_signers"
    path.write_text("".join(lines))
    return path
