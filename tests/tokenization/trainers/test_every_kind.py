"""What holds for every kind that is registered, ours and others': texts come back, two trainings
are one file, and one that was stopped goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from lengthwise.sequences.encoder import load_encoder
from lengthwise.tokenization.trainers.measured import comes_back
from lengthwise.tokenization.trainers.training import END, Trained, train_tokenizer
from tests.tokenization.trainers.small_corpus import HARD, names, small, texts

KINDS = names()
_MORE = 220


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    place = tmp_path_factory.mktemp("kinds")
    found = {}
    for name in KINDS:
        kind = small(name)
        size = kind.least() + _MORE
        found[name] = train_tokenizer(kind, texts(), size, place / name, held_out=0.1)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_every_text_comes_back(trained: dict[str, Trained], name: str) -> None:
    tokenizer = trained[name].tokenizer
    assert [text for text in (*HARD, *texts(3, seed=1)) if not comes_back(tokenizer, text)] == []
    raw = bytes(range(256)) * 3
    for start in range(0, len(raw), 7):
        text = raw[start : start + 40].decode("utf-8", "ignore")
        assert comes_back(tokenizer, text)


@pytest.mark.parametrize("name", KINDS)
def test_any_text_comes_back(trained: dict[str, Trained], name: str) -> None:
    tokenizer = trained[name].tokenizer

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
    def back(text: str) -> None:
        assert comes_back(tokenizer, text)

    back()


@pytest.mark.parametrize("name", KINDS)
def test_it_is_no_larger_than_asked_and_shortens(trained: dict[str, Trained], name: str) -> None:
    found = trained[name]
    ids = found.tokenizer.get_vocab().values()
    assert sorted(ids) == list(range(found.size))
    if name != "kl3m":
        assert found.size <= found.asked
    held = found.measured
    assert held.texts and not held.failures
    assert held.bytes_per_token > 1.5 and held.words_per_token == held.words / held.tokens


@pytest.mark.parametrize("name", KINDS)
def test_transformers_and_lengthwise_load_it(trained: dict[str, Trained], name: str) -> None:
    found = trained[name]
    loaded = AutoTokenizer.from_pretrained(str(found.folder))
    text = "the house of 2010, evlerimizden\n  東京 x"
    want = found.tokenizer.encode(text).ids
    assert loaded(text)["input_ids"] == want
    assert loaded.decode(want) == text and loaded.eos_token == END
    assert loaded.eos_token_id == found.tokenizer.token_to_id(END)
    encoder = load_encoder(str(found.folder))
    assert encoder.encode([text])[0].tolist() == want and encoder.end_token == END


_AGAIN = """
import sys
from pathlib import Path
from lengthwise.tokenization.trainers.training import train_tokenizer
from tests.tokenization.trainers.small_corpus import small, texts
for name in sys.argv[2:]:
    kind = small(name)
    train_tokenizer(kind, texts(), kind.least() + 220, Path(sys.argv[1]) / name, held_out=0.1)
"""


def test_another_process_trains_the_same_files(trained: dict[str, Trained], tmp_path: Path) -> None:
    # Orders of sets and hashes are another process's own.
    subprocess.run([sys.executable, "-c", _AGAIN, str(tmp_path), *KINDS], check=True)
    for name, found in trained.items():
        for file in found.folder.iterdir():
            assert file.read_bytes() == (tmp_path / name / file.name).read_bytes(), (
                name,
                file.name,
            )


_KILLED = """
import os, sys
from lengthwise.tokenization.trainers.training import train_tokenizer
from tests.tokenization.trainers.small_corpus import small, texts
def told(what, share):
    if what == sys.argv[3]:
        os.kill(os.getpid(), 9)
kind = small(sys.argv[2])
train_tokenizer(kind, texts(), kind.least() + 220, sys.argv[1], held_out=0.1, told=told)
"""


@pytest.mark.parametrize(("name", "at"), [("swe", "merging by likelihood"), ("unigram", "fitting")])
def test_killed_it_leaves_nothing_half_and_goes_on(
    trained: dict[str, Trained], tmp_path: Path, name: str, at: str
) -> None:
    out, want = tmp_path / name, trained[name]
    done = subprocess.run([sys.executable, "-c", _KILLED, str(out), name, at])
    assert done.returncode == -9 and not out.exists()
    assert (tmp_path / f"{name}.run" / "training.json").is_file()
    kind = small(name)
    train_tokenizer(kind, texts(), kind.least() + _MORE, out, held_out=0.1)
    for file in want.folder.iterdir():
        assert file.read_bytes() == (out / file.name).read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == [name]


def test_the_record_says_how_it_was_made(trained: dict[str, Trained]) -> None:
    record = json.loads((trained["bpe"].folder / "lengthwise.json").read_text())
    assert record["kind"] == "bpe" and record["held_out"] == 0.1
    assert record["corpus"]["texts"] == 60
    tokenizer = Tokenizer.from_file(str(trained["bpe"].folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == trained["bpe"].size
