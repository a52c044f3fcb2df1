"""Signed folders: `metabench publish --sign KEY`, and what `verify` says of signatures."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.keys import allow, made_key, needs_ssh_keygen
from helpers.results import store
from helpers.submissions import honest, honest_result, made_cell, run
from metabench.errors import RequestError
from metabench.publishing import Finding, publish, verify
from metabench.results.signatures import OF_RESULTS, SignatureError, check, fingerprint, sign

pytestmark = needs_ssh_keygen


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_key(tmp_path_factory.mktemp("keys"), "alice")


@pytest.fixture
def signed(stored_results: list[Path], tmp_path: Path, key: Path) -> Path:
    """A machine's folder that was published and signed."""
    publish(verify([stored_results[0].parent]), tmp_path / "published", key)
    return tmp_path / "published" / "made-v1" / "made-machine-2-cores"


def signature_findings(folder: Path, signers: Path | None = None) -> list[Finding]:
    return [finding for finding in verify([folder], signers=signers).findings if finding.check == "signature"]


def test_the_command_signs_a_list_that_sha256sum_reads(
    stored_results: list[Path], tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    target = tmp_path / "published"

    code, text = run("publish", str(stored_results[0].parent), "--to", str(target), "--sign", str(key))

    folder = target / "made-v1" / "made-machine-2-cores"
    assert code == 0
    assert str(folder / "SHA256SUMS.sig") in text
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(check, cwd=folder, check=True, capture_output=True)
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == len(stored_results)
    code, text = run("verify", str(target))
    assert code == 0
    assert f"signature: signed by {fingerprint(key)}, a key that allowed_signers lacks" in text


def test_a_signature_is_checked_once(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signature, signers = sign(b"results", key, OF_RESULTS), tmp_path / "none"
    signer = check(b"results", signature, OF_RESULTS, signers)

    broken = tmp_path / "ssh-keygen"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")

    assert check(b"results", signature, OF_RESULTS, signers) == signer
    with pytest.raises(SignatureError, match="no signature of this content"):
        check(b"others", signature, OF_RESULTS, signers)


def test_verify_names_the_signer_that_the_repository_knows(signed: Path, key: Path) -> None:
    allow(signed.parent.parent, key)

    (finding,) = signature_findings(signed)

    assert finding.what == f"signed by alice@example.org ({fingerprint(key)})"
    assert not finding.serious


def test_a_list_of_ones_own_replaces_that_of_the_repository(signed: Path, key: Path, tmp_path: Path) -> None:
    allow(signed.parent.parent, key)
    other = made_key(tmp_path / "keys", "mallory")

    (finding,) = signature_findings(signed, allow(tmp_path, other))

    assert finding.what.endswith("a key that allowed_signers lacks")


@pytest.mark.parametrize("options", ['namespaces="git"', 'valid-before="20200101"'])
def test_a_key_that_is_allowed_for_other_things_is_unknown(signed: Path, key: Path, options: str) -> None:
    allow(signed.parent.parent, key, options=options)

    (finding,) = signature_findings(signed)

    assert finding.what.endswith("a key that allowed_signers lacks")


def add(folder: Path) -> Path:
    (store(folder.parent.parent.parent / "more", [honest_result(made_cell("cnp"))])[0]).rename(
        path := folder / "added.json"
    )
    return path


def change(folder: Path) -> Path:
    path = min(folder.glob("*.json"))
    path.write_text(path.read_text() + "\n")
    return path


def remove(folder: Path) -> Path:
    path = min(folder.glob("*.json"))
    path.unlink()
    return path


def link(folder: Path) -> Path:
    path = min(folder.glob("*.json"))
    path.rename(folder.parent.parent / "moved.json")
    path.symlink_to(folder.parent.parent / "moved.json")
    return path


def note(folder: Path) -> Path:
    path = folder / "partial.txt"
    path.write_text("2 of 6 cells lack a result")
    return path


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (add, "is not listed in SHA256SUMS: added after signing"),
        (note, "is not listed in SHA256SUMS: added after signing"),
        (change, "differs from its digest in SHA256SUMS: changed after signing"),
        (remove, "is listed in SHA256SUMS, but absent"),
        (link, "is listed in SHA256SUMS, but absent"),
    ],
)
def test_a_file_that_changed_after_signing_is_an_error(
    signed: Path, edit: Callable[[Path], Path], what: str
) -> None:
    assert not verify([signed]).errors

    path = edit(signed)

    assert [(f.file, f.what) for f in verify([signed]).errors if f.check == "signature"] == [
        (str(path), what)
    ]


def test_a_list_that_was_edited_is_no_longer_signed(signed: Path) -> None:
    sums = signed / "SHA256SUMS"
    sums.write_text("".join(sums.read_text().splitlines(keepends=True)[1:]))

    errors = verify([signed]).errors

    assert {finding.check for finding in errors} == {"signature"}
    assert "is no signature of this content" in " ".join(finding.what for finding in errors)


@pytest.mark.parametrize("name", ["SHA256SUMS", "SHA256SUMS.sig"])
def test_half_of_a_signature_is_an_error(signed: Path, name: str) -> None:
    (signed / name).unlink()

    assert {finding.check for finding in verify([signed]).errors} == {"signature"}


def test_a_signature_of_something_else_is_refused(signed: Path, key: Path) -> None:
    sums = signed / "SHA256SUMS"
    (signed / "SHA256SUMS.sig").unlink()
    sign = ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", "git", str(sums)]
    subprocess.run(sign, check=True, capture_output=True)

    assert any("is no signature of this content" in finding.what for finding in verify([signed]).errors)


def test_unsigned_folders_are_called_so(stored_results: list[Path], tmp_path: Path) -> None:
    publish(verify([stored_results[0].parent]), tmp_path / "published")

    (finding,) = signature_findings(tmp_path / "published")

    assert (finding.what, finding.serious) == ("unsigned", False)
    assert not signature_findings(stored_results[0].parent)  # which nobody has published


def test_without_ssh_keygen_the_list_is_checked_and_the_signature_is_not(
    signed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    (finding,) = signature_findings(signed)
    assert finding.what == "signature not checked: ssh-keygen is not installed"

    change(signed)
    assert verify([signed]).errors
    with pytest.raises(RequestError, match="signing needs ssh-keygen"):
        fingerprint(tmp_path / "key")


def test_a_signed_folder_takes_more_results_of_its_signer_alone(
    signed: Path, key: Path, tmp_path: Path
) -> None:
    more = verify(store(tmp_path / "more", honest([3, 4])))
    published = signed.parent.parent

    with pytest.raises(RequestError, match="is signed: name the key that signed it"):
        publish(more, published)
    with pytest.raises(RequestError, match="is signed by SHA256:"):
        publish(more, published, made_key(tmp_path / "keys", "mallory"))
    assert not verify([published]).errors

    publish(more, published, key)

    assert not verify([published]).errors
    assert len(verify([published]).files) == 10


def test_signing_nothing_or_with_no_key_is_a_mistake(stored_results: list[Path], tmp_path: Path) -> None:
    (tmp_path / "nonsense").write_text("no key")
    target = str(tmp_path / "published")

    with pytest.raises(RequestError, match="name the results too"):
        run("publish", "--to", target, "--sign", str(tmp_path / "nonsense"))
    with pytest.raises(RequestError, match="is no SSH key"):
        run("publish", str(stored_results[0].parent), "--to", target, "--sign", str(tmp_path / "nonsense"))
    assert not Path(target).exists()
