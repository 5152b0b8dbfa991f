"""The Python face: a folder, special tokens, normalization, work of others, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from lengthwise.errors import RecipeError, TokenizerError
from lengthwise.tokenization.trainers import train_tokenizer
from lengthwise.tokenization.trainers.bpe import Bpe
from lengthwise.tokenization.trainers.work import Work
from tests.tokenization.trainers.small_corpus import texts


def test_special_tokens_are_counted_and_stand_behind(tmp_path: Path) -> None:
    found = train_tokenizer("bpe", texts(), 300, tmp_path / "t", special=["<|user|>", "<|user|>"])
    assert found.size == 300
    ids = [found.tokenizer.token_to_id(each) for each in ("<|endoftext|>", "<|user|>")]
    assert ids == [298, 299]
    loaded = AutoTokenizer.from_pretrained(str(tmp_path / "t"))
    assert loaded.encode("hi <|user|>")[-1] == 299 and "<|user|>" in loaded.all_special_tokens
    assert loaded.decode(loaded.encode("a <|user|> ."), skip_special_tokens=False) == "a <|user|> ."


def test_texts_are_normalized_before_they_are_learned(tmp_path: Path) -> None:
    found = train_tokenizer(Bpe(), texts(), 400, tmp_path / "t", normalize="lowercase")
    assert found.tokenizer.encode("THE HOUSE").tokens == found.tokenizer.encode("the house").tokens
    assert not any("E" in token for token in found.tokenizer.get_vocab()
                   if len(token) > 1)  # fmt: skip


def test_a_folder_of_ones_own_keeps_what_is_in_it(tmp_path: Path) -> None:
    place = tmp_path / "t"
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    train_tokenizer("bpe", texts(), 300, place)
    assert (place / "notes.txt").read_text() == "mine"
    assert sorted(each.name for each in place.iterdir()) == [
        "lengthwise.json", "notes.txt", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_work_of_another_training_is_refused(tmp_path: Path) -> None:
    Work(tmp_path / "t.run", {"kind": "bpe", "size": 999})
    with pytest.raises(TokenizerError, match="size is 999 there, and 300 here"):
        train_tokenizer("bpe", texts(), 300, tmp_path / "t")
    (tmp_path / "u.run").mkdir()
    (tmp_path / "u.run" / "mine.txt").write_text("x")
    with pytest.raises(TokenizerError, match="something else than the work"):
        train_tokenizer("bpe", texts(), 300, tmp_path / "u")
    assert not (tmp_path / "t").exists() and not (tmp_path / "u").exists()


def test_a_corpus_that_changed_is_another_training(tmp_path: Path) -> None:
    stopped: list[str] = []

    def told(what: str, share: float) -> None:
        stopped.append(what)
        if what == "measuring":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tokenizer("bpe", texts(), 300, tmp_path / "t", told=told)
    assert not (tmp_path / "t").exists() and (tmp_path / "t.run" / "trained.json").is_file()
    with pytest.raises(TokenizerError, match="corpus is "):
        train_tokenizer("bpe", texts(seed=5), 300, tmp_path / "t")
    heard: list[str] = []
    train_tokenizer("bpe", texts(), 300, tmp_path / "t", told=lambda what, _: heard.append(what))
    # What was trained is not trained again.
    assert "merging" not in heard and (tmp_path / "t" / "tokenizer.json").is_file()
    assert not (tmp_path / "t.run").exists()


def test_too_little_text_is_measured_on_nothing_and_learns_less(tmp_path: Path) -> None:
    found = train_tokenizer("bpe", ["a few words, a few"], 5000, tmp_path / "t")
    assert found.size < found.asked and found.measured.tokens == 0
    assert found.measured.bytes_per_token == 0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"size": 256}, "bpe begins with 256 tokens, and 1 special ones"),
        ({"kind": "bpee"}, "no kind of tokenizer 'bpee'; did you mean 'bpe'"),
        ({"normalize": "nfkcc"}, "did you mean 'nfkc'"),
        ({"held_out": 0.9}, "from 0 to 0.5"),
        ({"special": [" "]}, "special token is empty"),
        ({"texts": []}, "corpus is empty"),
        ({"texts": "one text"}, r"as in \[text\]"),
    ],
)
def test_settings_that_are_wrong_are_refused(
    tmp_path: Path, changed: dict[str, object], told: str
) -> None:
    given = {"kind": "bpe", "texts": texts(2), "size": 300, "out": tmp_path / "t"} | changed
    with pytest.raises(TokenizerError, match=told):
        train_tokenizer(**given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_options_are_checked_and_written() -> None:
    assert str(Bpe(digits="r2l", min_frequency=5)) == "bpe(digits=r2l, min_frequency=5)"
    with pytest.raises(RecipeError, match='bpe: digits=x: allowed is l2r, r2l, single, "none"'):
        Bpe(digits="x")


def test_the_record_has_no_time_in_it(tmp_path: Path) -> None:
    train_tokenizer("bpe", texts(), 300, tmp_path / "t")
    record = json.loads((tmp_path / "t" / "lengthwise.json").read_text())
    assert set(record) == {
        "kind", "size", "special", "normalize", "held_out", "seed", "corpus", "version",
    }  # fmt: skip
