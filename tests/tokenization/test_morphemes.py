"""Shared ids: forms of one suffix are one id, and come back by harmony, or are said not to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.morphemes import MorphemeTokenizer
from lengthwise.tokenization.trainers import train_tokenizer

CORPUS = [
    "evler yıllar evlerden yıllardan evlerimiz yıllarımız kitap kitabı kitaplar kitaptan saatler\n"
    * 9,
    "gözler gözlük gözlükçü balık balıkçı okudu geldi oldu xyzzy\n" * 9,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hybrid") / "t"
    train_tokenizer("hybrid", CORPUS, 640, place, held_out=0)
    return place


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> MorphemeTokenizer:
    return MorphemeTokenizer.from_pretrained(str(folder))


def test_a_front_and_a_back_root_share_the_ids_of_suffixes(tokenizer: MorphemeTokenizer) -> None:
    evler, yillar = tokenizer.encode(" evlerden"), tokenizer.encode(" yıllardan")
    assert evler[1:] == yillar[1:] and evler[0] != yillar[0] and len(evler) == 3
    assert tokenizer.decode(evler) == " evlerden" and tokenizer.decode(yillar) == " yıllardan"
    kitap, kitabi = tokenizer.encode(" kitap"), tokenizer.encode(" kitabı")
    assert kitap[0] == kitabi[0]
    assert tokenizer.decode(kitap) == " kitap" and tokenizer.decode(kitabi) == " kitabı"


def test_ids_are_fewer_than_those_of_the_plain_tokenizer(
    folder: Path, tokenizer: MorphemeTokenizer
) -> None:
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(str(folder))
    assert len(tokenizer) < len(plain)
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    text = "gözlükçü balıkçı okudu xyzzy 東京"
    assert tokenizer.decode(tokenizer.encode(text)) == text == plain.decode(plain.encode(text))


def test_what_breaks_harmony_is_said_to_fail(tokenizer: MorphemeTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(" saatler")) == " saatlar"
    assert tokenizer.fails(" saatler") and not tokenizer.fails(" evler, yıllar")


def test_it_is_saved_and_opened_again(tokenizer: MorphemeTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(str(tmp_path))
    again = MorphemeTokenizer.from_pretrained(str(tmp_path))
    text = " evlerimiz ve kitaplar<|endoftext|>"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.eos_token_id == tokenizer.eos_token_id == tokenizer.encode(text)[-1]


def test_damaged_lists_are_refused(folder: Path, tmp_path: Path) -> None:
    for text in ("{", '{"a": 1}'):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(TokenizerError):
            MorphemeTokenizer(str(tmp_path / "m.json"), str(folder / "tokenizer.json"))


def test_a_folder_without_lists_is_refused_in_a_line(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path / name)
    with pytest.raises(TokenizerError, match=r"needs morphemes\.json.*train hybrid"):
        MorphemeTokenizer.from_pretrained(str(tmp_path))
