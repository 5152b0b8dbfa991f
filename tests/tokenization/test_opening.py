"""Tokenizers of every kind open behind one face; what is none is refused in a line."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import sentencepiece
from hypothesis import given, strategies as st

from lengthwise._utils.gguf_tokenizer import load_gguf_tokenizer
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.opened import Fast, OpenTokenizer, merged_by_rank
from lengthwise.tokenization.opening import open_tokenizer
from tests.tiny_tokenizers import byte_fallback, byte_level, word_piece

TEXT = "the cat sat on the mat, and the dog sat on the log"


def folder_of(place: Path, make: Callable[[], object]) -> Path:
    place.mkdir()
    make().save_pretrained(place)  # type: ignore[attr-defined]
    return place


def spelled(tokenizer: OpenTokenizer, text: str) -> bytes:
    return b"".join(tokenizer.spelled[each] or b"" for each in tokenizer.encode([text])[0])


def ranks(path: Path) -> Path:
    """256 bytes and two merges."""
    words = [bytes([each]) for each in range(256)] + [b"th", b"the"]
    lines = [f"{base64.b64encode(word).decode()} {rank}" for rank, word in enumerate(words)]
    path.write_text("\n".join(lines) + "\n")
    return path


def pieces(path: Path) -> Path:
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 20), model_writer=made, vocab_size=290, byte_fallback=True,
        hard_vocab_limit=False, minloglevel=9,
    )  # fmt: skip
    path.write_bytes(made.getvalue())
    return path


def test_the_embedded_one_is_that_of_its_file(gguf_path: Path) -> None:
    found = open_tokenizer()
    texts = ["Hello  12 world", "çok güzel", "<|im_start|>"]
    known = load_gguf_tokenizer(gguf_path)
    ids = [known.encode(each, add_special_tokens=False) for each in texts[:2]]
    assert found.encode(texts[:2]) == ids
    # Special tokens that are written out are text.
    assert len(found.encode(texts)[2]) > 1
    assert (found.size, found.end, found.kind) == (49152, 2, "gguf")


def test_a_folder_and_its_file_are_one_and_name_the_end(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", byte_level)
    by_folder, by_file = open_tokenizer(folder), open_tokenizer(folder / "tokenizer.json")
    assert by_folder.name == by_file.name == "mine"
    assert by_folder.end == by_file.end == byte_level().eos_token_id
    assert by_folder.encode([TEXT]) == by_file.encode([TEXT])
    assert spelled(by_folder, "the é 日") == "the é 日".encode()


def test_bytes_of_sentencepiece_are_told_with_spaces_and_bytes(tmp_path: Path) -> None:
    found = open_tokenizer(folder_of(tmp_path / "llama", byte_fallback))
    assert spelled(found, "hello é ß").strip() == "hello é ß".encode()
    assert found.decode(found.encode(["hello world"])[0]) == "hello world"


def test_a_sentencepiece_model(tmp_path: Path) -> None:
    found = open_tokenizer(pieces(tmp_path / "tiny.model"))
    assert found.kind == "sentencepiece" and found.end is not None
    ids = found.encode([TEXT, "日"])
    assert found.decode(ids[0]) == TEXT
    assert spelled(found, "日").strip() == "日".encode()


def test_ranks_of_tiktoken(tmp_path: Path) -> None:
    found = open_tokenizer(ranks(tmp_path / "own.tiktoken"))
    assert found.encode(["the hat"])[0] == [257, 32, 104, 97, 116]
    assert found.decode(found.encode(["日 the"])[0]) == "日 the"
    assert found.merged(257) == [257] and any("cl100k_base" in each for each in found.notes)
    assert found.end is None and "it names no end token" in found.notes


def vocabulary_file(path: Path, architecture: str) -> Path:
    """A GGUF file of byte-level tokens alone."""
    known = byte_level().get_vocab()
    tokens = [*sorted(known, key=lambda each: known[each])[:-1], "Ġt", "th", "<end>"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("mine")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 1) + [3])
    writer.add_token_merges(["Ġ t", "t h"])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("architecture", ["llama", "command-r"])
def test_vocabularies_alone_in_gguf_files(architecture: str, tmp_path: Path) -> None:
    found = open_tokenizer(vocabulary_file(tmp_path / "tiny.gguf", architecture))
    ids = found.encode(["a the"])[0]
    assert [found.spelled[each] for each in ids] == [b"a", b" t", b"h", b"e"]
    assert found.decode(ids) == "a the" and found.end == 262
    # transformers knows no command-r in such files, so its pattern is guessed, and that is said.
    assert any("mine is not known" in each for each in found.notes) == (architecture != "llama")


def test_word_pieces_say_nothing_of_spaces(tmp_path: Path) -> None:
    found = open_tokenizer(folder_of(tmp_path / "bert", word_piece))
    assert found.spelled[2] == b"b" and found.merged(2) is None


def test_a_decoder_that_tells_no_bytes_is_noted(tmp_path: Path) -> None:
    backend = byte_level().backend_tokenizer
    made = json.loads(backend.to_str()) | {"decoder": None}
    (tmp_path / "odd.json").write_text(json.dumps(made))
    found = open_tokenizer(tmp_path / "odd.json")
    assert not found.tells_bytes and any("decoder is none" in each for each in found.notes)


@given(st.binary(max_size=12))
def test_merging_by_rank_loses_no_byte(data: bytes) -> None:
    known = {bytes([each]): each for each in range(256)} | {b"ab": 256, b"abc": 257, b"cc": 258}
    back = {rank: word for word, rank in known.items()}
    assert b"".join(back[each] for each in merged_by_rank(known, data)) == data


@given(st.text(max_size=20))
def test_any_text_comes_back(text: str) -> None:
    found = Fast("x", byte_level().backend_tokenizer, None)
    assert found.decode(found.encode([text])[0]) == text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "empty"), ("nope.json", "there is no file"), ("./nope", "there is no file"),
        ("o200k_bas", "did you mean o200k_base"), ("embeded", "did you mean embedded"),
        ("doc.txt", "is no tokenizer"), ("zeros.bin", "is no tokenizer"),
        ("hollow", "no tokenizer"), ("deep.json", "no tokenizer"),
        ("half.json", "is no tokenizer"), ("bad.gguf", "GGUF"),
        ("bad.model", "no sentencepiece model"), ("r50k_base.tiktoken", "not the ranks"),
        ("a\0b", "no tokenizer"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused_in_a_line(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hollow").mkdir()
    for file, data in (
        ("doc.txt", b"some words"), ("zeros.bin", bytes(64)), ("deep.json", b"[" * 100_000),
        ("half.json", b'{"model": {'), ("bad.gguf", b"GGUF" + bytes(64)),
        ("bad.model", b"\x00\x01"),
    ):  # fmt: skip
        (tmp_path / file).write_bytes(data)
    ranks(tmp_path / "r50k_base.tiktoken")
    with pytest.raises(TokenizerError, match=said) as error:
        open_tokenizer(name)
    assert "\n" not in str(error.value)
