"""The Python face: a folder, special tokens, normalization, work of others, and refusals."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from lengthwise._utils.options import MOST, options
from lengthwise.errors import LengthwiseError, RecipeError, TokenizerError
from lengthwise.tokenization.trainers import train_tokenizer, training as module
from lengthwise.tokenization.trainers.bpe import Bpe
from lengthwise.tokenization.trainers.kind import KINDS
from lengthwise.tokenization.trainers.superbpe import SuperBPE
from lengthwise.tokenization.trainers.supertokens import Supertokens
from lengthwise.tokenization.trainers.work import Work
from tests.tokenization.trainers.small_corpus import texts


def _stop_at(where: str) -> Callable[[str, float], None]:
    def told(what: str, share: float) -> None:
        if what == where:
            raise KeyboardInterrupt

    return told


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
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer("bpe", texts(), 300, tmp_path / "t", told=_stop_at("measuring"))
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
        ({"special": [" "]}, "special token is empty: give"),
        ({"special": ["a"]}, "'a' is written as bytes are"),
        ({"special": ["<é>"]}, "'<é>' is written as bytes are"),
        ({"kind": SuperBPE(end="a")}, "'a' is written as bytes are"),
        ({"kind": Supertokens(end="")}, "special token is empty"),
        ({"texts": []}, "corpus is empty"),
        ({"texts": "one text"}, r"as in \[text\]"),
        ({"texts": iter(["a text", "another"])}, "gone through once.*anew each time"),
        ({"texts": map(str, range(9))}, "gone through once.*anew each time"),
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


def test_a_function_that_gives_texts_once_is_refused(tmp_path: Path) -> None:
    once = iter(texts(4))
    with pytest.raises(TokenizerError, match="came once, and none when asked for again"):
        train_tokenizer("bpe", lambda: once, 300, tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_special_tokens_that_were_learned_too_are_told(tmp_path: Path) -> None:
    learned = train_tokenizer("bpe", texts(), 300, tmp_path / "t")
    assert (learned.size, learned.twice) == (300, 0)
    known = learned.tokenizer.get_vocab()
    # The first ones, which are learned with a few merges less, too.
    words = [each for each in sorted(known, key=known.__getitem__)
             if len(each) > 2 and each.isascii()]  # fmt: skip
    found = train_tokenizer("bpe", texts(), 300, tmp_path / "t", special=[*words[:2], "<|x|>"])
    assert (found.size, found.asked, found.twice) == (298, 300, 2)


@pytest.mark.parametrize("kind", [SuperBPE(end="</s>"), Supertokens(end="</s>")])
def test_an_end_of_the_kinds_own_is_the_end(tmp_path: Path, kind: SuperBPE | Supertokens) -> None:
    train_tokenizer(kind, texts(), 300, tmp_path / "t", special=["<|x|>"])
    loaded = AutoTokenizer.from_pretrained(str(tmp_path / "t"))
    assert (loaded.eos_token, loaded.eos_token_id, len(loaded)) == ("</s>", 0, 300)
    assert loaded.encode("a</s><|x|>")[1:] == [0, 299]
    assert "<|endoftext|>" not in loaded.get_vocab()


@pytest.mark.parametrize(
    ("out", "work", "told"),
    [
        ("w/mine", "w", "w/mine lies in the work folder"),
        ("w/a/../mine", "w/.", "lies in the work folder"),
        ("w", "w", "lies in the work folder"),
        ("/", None, "/ cannot be written: name a folder in it"),
        ("file", None, "file is a file: name a folder"),
        ("mine", "file", "file is a file: name a folder"),
    ],
)
def test_places_that_cannot_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, work: str | None, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TokenizerError, match=told):
        train_tokenizer("bpe", texts(2), 300, out, work=work)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("out", "run"), [(".", "in.run"), ("..", "here.run"), ("x/..", "in.run")])
def test_the_folder_that_one_is_in_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, run: str
) -> None:
    inside = tmp_path / "here" / "in"
    (inside / "x").mkdir(parents=True)
    monkeypatch.chdir(inside)
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer("bpe", texts(2), 300, out, told=_stop_at("measuring"))
    assert list(tmp_path.rglob("training.json"))[0].parent.name == run
    train_tokenizer("bpe", texts(2), 300, out)
    assert Path(out, "tokenizer.json").is_file() and not list(tmp_path.rglob("*.run"))


def test_only_what_was_written_there_leaves_the_work_folder(tmp_path: Path) -> None:
    work = tmp_path / "w"
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer("swe", texts(2), 300, tmp_path / "t", work=work, told=_stop_at("measuring"))
    (work / "notes.txt").write_text("mine")
    train_tokenizer("swe", texts(2), 300, tmp_path / "t", work=work)
    assert [each.name for each in work.iterdir()] == ["notes.txt"]


def test_a_refusal_leaves_the_work_of_an_earlier_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TokenizerError("not today")

    monkeypatch.setattr(Bpe, "train", refuse)
    with pytest.raises(TokenizerError, match="not today"):
        train_tokenizer("bpe", texts(2), 300, tmp_path / "t")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer("bpe", texts(2), 300, tmp_path / "u", told=_stop_at("merging"))
    monkeypatch.setattr(Bpe, "train", refuse)
    with pytest.raises(TokenizerError, match="not today"):
        train_tokenizer("bpe", texts(2), 300, tmp_path / "u")
    assert (tmp_path / "u.run" / "training.json").is_file()


@pytest.mark.parametrize("kind", ["unigram", "superbpe", "supertokens"])
def test_a_package_that_is_missing_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for each in ("sentencepiece", "numba"):
        monkeypatch.setitem(sys.modules, each, None)
    # Else it would not ask for numba again.
    monkeypatch.delitem(sys.modules, "lengthwise.tokenization.trainers.merge_kernels", False)

    def given() -> None:
        raise AssertionError("the corpus is read")

    with pytest.raises(TokenizerError, match=r"pip install 'lengthwise\[tokenizers\]'"):
        train_tokenizer(kind, given, 300, tmp_path / "t")  # type: ignore[arg-type]


def test_what_a_killed_call_was_writing_is_no_work_of_others(tmp_path: Path) -> None:
    (tmp_path / "t.run").mkdir()
    (tmp_path / "t.run" / ".training.json.7.aside").write_text("{")
    train_tokenizer("bpe", texts(2), 300, tmp_path / "t")
    assert [each.name for each in tmp_path.iterdir()] == ["t"]


def test_files_of_another_tokenizer_are_not_read_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "</s>"}')
    (tmp_path / "added_tokens.json").write_text('{"</s>": 7}')
    (tmp_path / "morphemes.json").write_text("[]")
    train_tokenizer("bpe", texts(2), 300, tmp_path, work=tmp_path / "w")
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "lengthwise.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert AutoTokenizer.from_pretrained(str(tmp_path)).eos_token_id == 299


@pytest.mark.parametrize("kind", ["unigram", "swe", "bpe"])
def test_a_run_stopped_behind_its_training_ends_in_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    train_tokenizer(kind, texts(), 400, tmp_path / "whole")

    def stopped(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "measure", stopped)
        train_tokenizer(kind, texts(), 400, tmp_path / "t")
    train_tokenizer(kind, texts(), 400, tmp_path / "t")
    whole, again = (tmp_path / name / "tokenizer.json" for name in ("whole", "t"))
    assert whole.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("kind", ["bpe", "superbpe", "unigram"])
def test_a_size_beyond_reach_is_refused_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    with pytest.raises(TokenizerError, match="cannot give so many tokens"):
        train_tokenizer(kind, texts(4), 2_000_000_000, tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", list(KINDS))
def test_the_largest_number_of_any_option_overflows_no_trainer(tmp_path: Path, name: str) -> None:
    kind = KINDS.usable()[name]
    for each in (each for each in options(kind) if each.type is int and each.high is None):
        with contextlib.suppress(LengthwiseError):
            train_tokenizer(kind(**{each.name: MOST}), texts(30), 2_500, tmp_path / each.name)
        with pytest.raises(RecipeError, match=f"{each.name} is beyond .* allowed is"):
            kind(**{each.name: MOST + 1})
