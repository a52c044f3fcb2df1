"""The installer of learn2learn takes the pinned files only, replaces what it says, and explains failures."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from metabench_plugins.learn2learn import install

PIP = pytest.mark.skipif(
    subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0,
    reason="this Python has no pip",
)


def test_another_archive_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "learn2learn-0.2.0.tar.gz"
    archive.write_bytes(b"not the archive")
    with pytest.raises(install.InstallError, match="nothing was installed"):
        install.check_digest(archive, install.SOURCES[-1].sha256)


def test_every_input_is_pinned() -> None:
    for pin in (*install.TOOLS, *install.SOURCES):
        assert len(pin.sha256) == 64
        assert pin.line == f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n"


@PIP
def test_pip_refuses_a_tool_with_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "cython-3.1.6-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(install, "TOOLS", install.TOOLS[:1])
    process = CliRunner().invoke(install.command, ["--wheels", str(tmp_path / "wheels")])
    assert process.exit_code == 1
    assert "HASH" in process.output.upper()
    assert not list((tmp_path / "wheels").iterdir())


@pytest.mark.parametrize("force", [False, True])
def test_only_the_three_packages_are_replaced(
    force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, constraints = [], []

    def record(*arguments: str, **_: object) -> None:
        calls.append(arguments)
        if "--constraint" in arguments:
            constraints.append(Path(arguments[arguments.index("--constraint") + 1]).read_text())

    monkeypatch.setattr(install, "_python", record)
    install.install([tmp_path / "learn2learn-0.2.0-py3-none-any.whl"], force)
    requirements, wheels, check = calls
    assert set(install.REQUIREMENTS) <= set(requirements)
    assert not {"--upgrade", "--force-reinstall"} & set(requirements)
    assert f"torch=={metadata.version('torch')}\n" in constraints[0]
    assert f"numpy=={metadata.version('numpy')}\n" in constraints[0]
    assert {"gym==0.26.2", "qpth==0.0.18", "learn2learn==0.2.0", "--no-deps", "--no-index"} <= set(wheels)
    assert ("--force-reinstall" in wheels) is force
    assert "learn2learn()" in check[-1]  # imported once at the end, to see that it works


@pytest.mark.slow
@PIP
def test_wheels_are_built_from_the_registry(tmp_path: Path) -> None:
    """Takes half a minute and a network; what CI runs to set learn2learn up."""
    process = CliRunner().invoke(install.command, ["--wheels", str(tmp_path)])
    assert process.exit_code == 0, process.output
    assert {path.name.split("-")[0] for path in tmp_path.glob("*.whl")} == {"gym", "qpth", "learn2learn"}
