"""SuperBPE: the figures of its card, its ends, its rails, and what becomes of bad input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer
from tokenizers.normalizers import NFC
from transformers import PreTrainedTokenizerFast

from lengthwise.documents.files import read_document
from lengthwise.errors import LengthwiseError, TokenizerError
from lengthwise.tokenization import compiled
from lengthwise.tokenization.fast_bpe import FastBPE
from lengthwise.tokenization.trainers.kind import KINDS
from lengthwise.tokenization.trainers.patterns import SUPERWORDS, WORDS
from lengthwise.tokenization.trainers.spool import spool
from lengthwise.tokenization.trainers.stages import key_of
from lengthwise.tokenization.trainers.superbpe import SuperBPE
from lengthwise.tokenization.trainers.supertokens import Supertokens
from tests.tokenization.trained import assert_text_is_no_end, by_library, merges_of

LINES = [
    "by the way the cat sat on the mat",
    "by the way the dog sat on the log",
    "by the way it is on the mat",
] * 5
# The word pattern of the card, whole lines in stage 2, and no rails.
TOY: dict[str, Any] = {
    "words": " ?[^ ]+", "superwords": "", "min_frequency": 2, "most_words": 0,
}  # fmt: skip


def _train(kind: SuperBPE, texts: list[str], size: int, work: Path, told: Any = None) -> Tokenizer:
    return kind.train(lambda: iter(texts), size, work, told or (lambda what, share: None))


def _tokens(tokenizer: Tokenizer, texts: list[str]) -> int:
    return sum(len(each.ids) for each in tokenizer.encode_batch(texts))


def test_tokens_of_the_card(tmp_path: Path) -> None:
    words = _train(SuperBPE(transition=1, **TOY), LINES, 257 + 20, tmp_path)
    assert _tokens(words, LINES) == 150
    plain = _train(SuperBPE(transition=1, **TOY), LINES, 257 + 40, tmp_path)
    assert _tokens(plain, LINES) == 130 and plain.get_vocab_size() == 257 + 24
    both = _train(SuperBPE(transition=257 + 20, **TOY), LINES, 257 + 40, tmp_path)
    assert _tokens(both, LINES) == 15
    assert "byĠtheĠway" in both.get_vocab()


@cache
def _texts() -> tuple[str, ...]:
    return tuple(read_document().text[:300_000].split("\n\n"))


def test_at_the_whole_vocabulary_it_is_plain_bpe(tmp_path: Path) -> None:
    for transition in (1, 2_000):
        found = _train(SuperBPE(transition=transition, percentile=100), list(_texts()), 2_000,
                       tmp_path)  # fmt: skip
        assert found.to_str() == by_library(list(_texts()), WORDS, 2_000).to_str()


def test_at_zero_it_is_bpe_without_regard_to_spaces(tmp_path: Path) -> None:
    kind = SuperBPE(transition=0, percentile=100, most_words=0, past_colon=True)
    found = _train(kind, list(_texts()), 2_000, tmp_path)
    assert found.to_str() == by_library(list(_texts()), SUPERWORDS, 2_000).to_str()


@pytest.mark.parametrize("transition", [0.5, 1])
@pytest.mark.parametrize("mark", ["<|endoftext|>", "<|endoftext|> and", "<|endof text|>"])
def test_an_end_token_in_the_corpus_is_text(tmp_path: Path, mark: str, transition: float) -> None:
    kind = SuperBPE(transition=transition, words="[^ ]+| ", superwords="", percentile=100)
    texts = [f"{text}{mark} {mark}" for text in _texts()]
    found = _train(kind, texts, 1_000, tmp_path)
    assert_text_is_no_end(found, 1_000, f"so{mark} it goes")


def _superwords(work: Path, size: int = 3_000) -> Tokenizer:
    return _train(SuperBPE(transition=0.4), list(_texts()), size, work)


def test_superwords_take_fewer_tokens_and_keep_the_rails(tmp_path: Path) -> None:
    texts = list(_texts())
    found, plain = _superwords(tmp_path), _train(SuperBPE(transition=1), texts, 3_000, tmp_path)
    assert _tokens(found, texts) < 0.92 * _tokens(plain, texts)
    shared = int(0.4 * 3_000) - 257
    assert merges_of(found)[:shared] == merges_of(plain)[:shared]
    words = [word.replace("Ġ", " ") for word in found.get_vocab() if not word.startswith("<|")]
    assert max(len(word.split()) for word in words) == 4
    assert not any(": " in word for word in words)
    for word in words:
        digits = sum(letter.isdigit() for letter in word)
        assert digits in (0, len(word)) and digits <= 3


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_texts_come_back(text: str) -> None:
    tokenizer = _once()
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@cache
def _once() -> Tokenizer:
    import tempfile

    with tempfile.TemporaryDirectory() as work:
        return _superwords(Path(work), 1_500)


def test_the_file_is_a_plain_tokenizer_json(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    _once().save(str(path))
    loaded = PreTrainedTokenizerFast(tokenizer_file=str(path))
    text = "the value of the expression is 12345"
    assert loaded.encode(text) == _once().encode(text).ids
    assert loaded.decode(loaded.encode(text)) == text
    assert FastBPE(loaded).encode([text])[0].tolist() == loaded.encode(text)


def test_the_same_texts_give_the_same_tokenizer(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    first = _superwords(one, 1_500).to_str()
    assert first == _superwords(other, 1_500).to_str() == _superwords(one, 1_500).to_str()


def test_long_documents_are_cut_for_training_and_it_is_said(tmp_path: Path) -> None:
    texts = ["short text é"] * 400 + ["short text xy" + "QZ" * 1_000]
    said: list[str] = []
    found = _train(SuperBPE(), texts, 280, tmp_path, lambda what, share: said.append(what))
    assert "1 of 401 documents are cut to 13 bytes for training" in said
    assert "QZ" not in found.get_vocab()


def test_a_corpus_with_too_few_pairs_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    found = _train(SuperBPE(), ["abab"], 500, tmp_path, lambda what, share: said.append(what))
    assert said[-1] == f"the corpus has pairs for {found.get_vocab_size()} of 500 tokens"


BAD: dict[str, tuple[SuperBPE, list[str], int]] = {
    "the corpus has no text": (SuperBPE(), [], 300),
    "the corpus has no text.*": (SuperBPE(), ["", ""], 300),
    "one character, 'a'": (SuperBPE(), ["a", "aaa"], 300),
    "no two bytes stand together": (SuperBPE(), ["a", "b"], 300),
    "at least 9 times": (SuperBPE(min_frequency=9), ["ab", "b"], 300),
    "size 256 is too small": (SuperBPE(), ["ab"], 256),
    "transition 400 is above the size of the vocabulary, 300": (
        SuperBPE(transition=400),
        ["ab"],
        300,
    ),
    "document 2 has half of a character": (SuperBPE(), ["ab", "x\ud800"], 300),
}


@pytest.mark.parametrize("why", BAD)
def test_bad_input_is_one_clear_line(why: str, tmp_path: Path) -> None:
    kind, texts, size = BAD[why]
    with pytest.raises(TokenizerError, match=why):
        _train(kind, texts, size, tmp_path)


@pytest.mark.parametrize(
    "options", [{"transition": -1}, {"percentile": 0}, {"percentile": 101}, {"most_words": -1}]
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(LengthwiseError, match=next(iter(options))):
        SuperBPE(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["words", "superwords"])
def test_a_pattern_that_is_none_is_told_by_its_option(name: str) -> None:
    with pytest.raises(TokenizerError, match=f"superbpe: {name}='.a-' is no regular expression"):
        SuperBPE(**{name: "[a-"})  # type: ignore[arg-type]


def test_without_numba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'numba'", name="numba")

    monkeypatch.setattr(compiled, "import_module", missing)
    with pytest.raises(TokenizerError, match=r"pip install 'lengthwise\[tokenizers\]'"):
        _train(SuperBPE(), ["ab ab"], 300, tmp_path)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from lengthwise.documents.files import read_document
    from lengthwise.tokenization.trainers import merges
    from lengthwise.tokenization.trainers.superbpe import SuperBPE

    merges._SECONDS, merges._ROUND = 0.0, 50
    rounds = 0

    def told(what, share):
        global rounds
        rounds += what.startswith(sys.argv[2])
        if rounds == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    texts = read_document().text[:300_000].split("\\n\\n")
    SuperBPE(transition=0.4).train(lambda: iter(texts), 1_500, Path(sys.argv[1]), told)
"""


@pytest.mark.parametrize("stage", ["merges within", "merges over"])
def test_what_was_killed_goes_on_and_ends_the_same(stage: str, tmp_path: Path) -> None:
    program = textwrap.dedent(KILLED)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), stage], timeout=300)
    assert done.returncode == -signal.SIGKILL
    shares: list[float] = []

    def told(what: str, share: float) -> None:
        if what.startswith("merges within"):
            shares.append(share)

    found = _train(SuperBPE(transition=0.4), list(_texts()), 1_500, tmp_path, told)
    assert found.to_str() == _once().to_str()
    assert not list(tmp_path.glob(".*")) and len(list(tmp_path.glob("*.npz"))) == 2


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _other(path: Path) -> None:
    path.write_bytes(b"no file of ours")


@pytest.mark.parametrize("harm", [_damage, _other])
def test_damaged_files_are_made_anew(harm: Callable[[Path], None], tmp_path: Path) -> None:
    _superwords(tmp_path, 1_500)
    for path in tmp_path.glob("*.npz"):
        harm(path)
    said: list[str] = []
    found = _train(SuperBPE(transition=0.4), list(_texts()), 1_500, tmp_path,
                   lambda what, share: said.append(what))  # fmt: skip
    assert found.to_str() == _once().to_str()
    assert sum("damaged" in what for what in said) == 2


def test_a_run_of_normalized_texts_goes_on_in_another_process(tmp_path: Path) -> None:
    corpus, kind = spool(lambda: iter(["ab"]), tmp_path), SuperBPE()
    normalized = kind.normalizing(NFC().normalize_str)
    assert key_of(normalized, corpus, 300) == key_of(kind, corpus, 300)
    assert key_of(kind, corpus, 300) != key_of(SuperBPE(transition=0.4), corpus, 300)


def test_files_of_another_corpus_are_not_used(tmp_path: Path) -> None:
    _train(SuperBPE(), ["xyz xyz"] * 9, 300, tmp_path)
    found = _superwords(tmp_path, 1_500)
    assert found.to_str() == _once().to_str()
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_both_kinds_are_registered() -> None:
    assert KINDS.get("superbpe") is SuperBPE and KINDS.get("supertokens") is Supertokens


def test_pieces_of_any_length_are_learned_from(tmp_path: Path) -> None:
    letters = Random(0).choices("abc de", k=200_000)
    found = _train(SuperBPE(transition=0, most_words=0), ["".join(letters)], 400, tmp_path)
    assert found.get_vocab_size() == 400
    assert os.path.getsize(tmp_path / "texts.bin") == 200_000
