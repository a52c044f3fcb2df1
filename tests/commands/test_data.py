"""`metabench data …` as a person runs it: the command itself, on a local server."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from helpers.archives import image_file, write_zip
from helpers.http_server import Served, serve
from helpers.shell import InProcess, shell_environment

ARCHIVES = ("images_background_small1.zip", "images_background_small2.zip")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return InProcess(Path.cwd(), shell_environment() | environment).run("data", *arguments, check=None)


def folders(tmp_path: Path) -> dict[str, str]:
    return {"METABENCH_DATA": str(tmp_path / "data"), "METABENCH_CACHE": str(tmp_path / "cache")}


def test_list_tells_what_is_here_and_what_brings_the_rest(tmp_path: Path) -> None:
    done = run("list", **folders(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert "386 + 319 + 118" in lines["glyphs"]
    assert lines["glyphs"].endswith("ready")
    assert "0 of 2 files here; metabench data fetch omniglot" in lines["omniglot"]
    assert "endless" in lines["sinusoid"]
    assert str(tmp_path / "data") in done.stdout


def test_real_omniglot_is_fetched_verified_and_exported(tmp_path: Path, real_data: Path) -> None:
    contents = {f"/omniglot/{name}": (real_data / "omniglot" / name).read_bytes() for name in ARCHIVES}
    variables = folders(tmp_path)
    with serve(Served(contents, cut={f"/omniglot/{ARCHIVES[0]}": [400_000]})) as served:
        fetched = run("fetch", "omniglot-small", METABENCH_MIRROR=served.url, **variables)
    assert fetched.returncode == 0, fetched.stderr
    assert f"omniglot/{ARCHIVES[1]}: 1.6 of 1.6 MB" in fetched.stderr
    assert [asked is None for _, asked in served.asked] == [True, False, True]
    verified = run("verify", "omniglot-small", **variables)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert verified.stdout.count("the digest is right") == 2
    assert "omniglot-small: sound in" in verified.stdout
    exported = run(
        "manifest", "omniglot-small", "--tasks", "20", "--out", str(tmp_path / "t.npz"), **variables
    )
    assert exported.returncode == 0, exported.stderr
    checked = run("manifest", "--check", str(tmp_path / "t.npz"), **variables)
    assert (checked.returncode, "20 tasks, the same here" in checked.stdout) == (0, True)


def test_a_damaged_file_fails_verification(tmp_path: Path) -> None:
    for name in ARCHIVES:
        write_zip(tmp_path / "data" / "omniglot" / name, {"a.txt": b"other"})
    done = run("verify", "omniglot-small", **folders(tmp_path))
    assert done.returncode == 1
    assert done.stdout.count("FAULT") == 2
    assert "must have the sha256 f38eb80f" in done.stdout
    assert "remove it and run `metabench data fetch omniglot-small`" in done.stdout


def test_like_images_across_splits_are_reported(tmp_path: Path) -> None:
    for number, name in enumerate(["train/a", "train/b", "test/c", "test/d\x1b[2J"]):
        for place in range(3):
            path = tmp_path / "data" / "mine" / name / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_file(10 * number + place if (number, place) != (3, 2) else 1, (32, 32)))
    done = run("verify", "imagefolder", "--set", "path=mine", "--set", "size=32", **folders(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train/a image 1 looks like test/d [2J image 11 (1.000)" in done.stdout
    assert "\x1b" not in done.stdout
    assert "1 pairs of images in different splits look the same" in done.stdout


def test_path_prints_where_files_belong_and_data_names_the_folder(tmp_path: Path) -> None:
    done = run("--data", str(tmp_path / "other"), "path", "cub", **folders(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "other" / "cub" / "CUB_200_2011.tgz"))
    assert run("path", "sinusoid", **folders(tmp_path)).stderr.strip() == "sinusoid needs no files"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fetch", "omniglott"), 2, "no dataset is called 'omniglott'; did you mean 'omniglot'?"),
        (("verify", "cub"), 1, "run `metabench data fetch cub`"),
        (("verify", "imagefolder"), 2, "needs the setting 'path'"),
        (("verify", "cub", "--set", "size"), 2, "--set takes KEY=VALUE, got 'size'"),
        (("manifest", "cub", "--out", "t.npz"), 1, "run `metabench data fetch cub`"),
        (
            ("manifest", "glyphs", "--ways", "20-5", "--out", "t.npz"),
            2,
            "or a range such as 5-20, got '20-5'",
        ),
        (("manifest",), 2, "name a data set and --out FILE, or --check FILE"),
    ],
)
def test_mistakes_are_told_with_their_way_out(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = run(*arguments, **folders(tmp_path))
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def write_images(folder: Path, images: dict[str, bytes]) -> None:
    for name, content in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def flat(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (12, 12), value).save(buffer, "png")
    return buffer.getvalue()


def test_blank_and_equal_classes_are_faults_and_equal_images_are_notes(tmp_path: Path) -> None:
    images = {
        f"train/{name}/{place}.png": image_file(100 * number + place)
        for number, name in enumerate("abcd")
        for place in range(3)
    }
    images |= {f"test/{name}/{place}.png": image_file(900 + place) for name in "ef" for place in range(3)}
    images |= {f"train/a/{place}.png": flat(10 * place) for place in range(3)}
    images["train/b/1.png"] = images["train/b/0.png"]
    write_images(tmp_path / "data" / "mine", images)
    done = run("verify", "imagefolder", "--set", "path=mine", "--set", "size=12", **folders(tmp_path))
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stdout + done.stderr
    assert [line for line in lines if line.startswith("FAULT")] == [
        "FAULT the class train/a is blank: each example has one value throughout",
        "FAULT the classes test/e and test/f hold the same examples",
    ]
    assert "note  the class train/b (1) holds equal examples" in lines
    assert not any(line.startswith("ok") and ("blank" in line or "equal" in line) for line in lines)
    assert lines[-1] == "imagefolder: 2 faults"


@pytest.mark.parametrize("name", ["sinusoid", "harmonics", "glyphs", "blobs"])
def test_any_source_is_looked_into(tmp_path: Path, name: str) -> None:
    done = run("verify", name, **folders(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    test: 32 tasks were drawn and hold finite numbers" in done.stdout
    assert "no example of these tasks is in two splits" in done.stdout
    assert f"{name}: sound in " in done.stdout
    assert ("no class is blank" in done.stdout) == (name in ("glyphs", "blobs"))


def test_real_omniglot_packed_in_another_way_is_sound(tmp_path: Path, real_data: Path) -> None:
    for name in ARCHIVES:
        with zipfile.ZipFile(real_data / "omniglot" / name) as archive:
            files = {f"a/{file}": archive.read(file) for file in archive.namelist() if file.endswith("png")}
        write_zip(tmp_path / "data" / "omniglot" / name, files)
    done = run("verify", "omniglot-small", **folders(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the content is right, packed in another way") == 2
    assert "omniglot-small: sound in" in done.stdout
