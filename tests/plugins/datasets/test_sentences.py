"""Sentences as hashed n-grams, and the files of clinc150 and banking77."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from metabench import DataError
from metabench.device import Device
from metabench_plugins.datasets._sentences import hash_all, n_grams
from metabench_plugins.datasets.banking77 import Banking77
from metabench_plugins.datasets.clinc150 import OUT_OF_SCOPE, PARTS, Clinc150


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text").mkdir()
    return tmp_path / "text"


def write_clinc150(folder: Path, *, without: str = "") -> None:
    """A file of upstream's layout: two sentences of each intent in the part train, as many of no intent."""
    intents = {name for names in Clinc150().names().values() for name in names} - {without}
    sentences = [[f"{name} {number}", name] for name in sorted(intents) for number in range(2)]
    content = {"train": sentences, "val": [], "test": []}
    none = {f"oos_{part}": [["what is love", "oos"], ["nothing", "oos"]] for part in PARTS.values()}
    (folder / "clinc150_data_full.json").write_text(json.dumps(content | none))


def test_n_grams_are_words_pairs_of_words_and_pieces_of_words() -> None:
    assert Counter(n_grams("My card?")) == Counter(
        ["my", "card", "?", "my card", "card ?", "#<my", "#my>", "#<my>", "#<ca", "#car", "#ard", "#rd>",
         "#<car", "#card", "#ard>", "#<card", "#card>", "#<?>"]
    )  # fmt: skip


def test_features_are_the_same_in_every_process_and_have_a_mean_square_of_one() -> None:
    features = np.empty((2, 16), np.float32)
    hash_all(["my card", ""], features)
    signs = [0, 0, -1, 3, 0, 0, 0, -1, 0, 0, 2, -1, 0, -1, -1, 1]
    assert np.allclose(features[0], np.array(signs) * 4 / np.linalg.norm(signs), atol=1e-6)
    assert not features[1].any()


def test_clinc150_reads_upstreams_layout_with_and_without_sentences_of_no_intent(folder: Path) -> None:
    write_clinc150(folder)
    plain = Clinc150(width=32).load(Device()).splits  # type: ignore[attr-defined]
    wider = Clinc150(width=32, out_of_scope=True).load(Device()).splits  # type: ignore[attr-defined]
    assert {split: len(index) for split, index in plain.items()} == Clinc150().describe().classes
    assert {split: len(index) for split, index in wider.items()} == {
        split: number + 1 for split, number in Clinc150().describe().classes.items()
    }
    assert Clinc150(out_of_scope=True).describe().images["train"] == OUT_OF_SCOPE["train"]
    assert set(plain["test"].groups) == {"banking", "credit_cards", "travel"}


def test_an_absent_intent_and_a_damaged_file_are_named(folder: Path) -> None:
    write_clinc150(folder, without="translate")
    with pytest.raises(DataError, match="1 classes are absent, such as 'translate'"):
        Clinc150().load(Device())
    for part in ("train", "test"):
        (folder / f"banking77_{part}.csv").write_text("text;label\nhello;greeting\n")
    with pytest.raises(DataError, match=r"banking77_train\.csv cannot be read \('category'\)"):
        Banking77().load(Device())


def test_the_intents_of_banking77_are_split_by_the_digests_of_their_names() -> None:
    from hashlib import sha256

    names = Banking77().names()
    last = {
        split: max(sha256(name.encode()).hexdigest() for name in classes) for split, classes in names.items()
    }
    first = {
        split: min(sha256(name.encode()).hexdigest() for name in classes) for split, classes in names.items()
    }
    assert last["train"] < first["validation"]
    assert last["validation"] < first["test"]
