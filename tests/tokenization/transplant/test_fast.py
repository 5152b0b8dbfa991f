"""Tokenizers to save a model with: by file, folder, and the embedded default's name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.fast import fast_tokenizer
from tests.tokenization.transplant.tiny_pairs import TEMPLATE, TEXT, byte_level


def test_a_folder_and_its_file_are_what_was_saved(tmp_path: Path) -> None:
    saved = byte_level()
    saved.save_pretrained(tmp_path)
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        found = fast_tokenizer(str(source))
        assert found.encode(TEXT) == saved.encode(TEXT)
        assert (found.eos_token, found.chat_template) == ("<end>", TEMPLATE)


def test_the_embedded_one_and_a_gguf_file_are_the_default_models(
    tmp_path: Path, gguf_path: Path
) -> None:
    (tmp_path / "MODEL.GGUF").symlink_to(gguf_path)
    for source in ("embedded", str(tmp_path / "MODEL.GGUF")):
        found = fast_tokenizer(source)
        assert len(found) == 49_152 and found.eos_token == "<|im_end|>"
        # Each digit is a token of its own, which GPT-2's pattern alone does not see to.
        assert len(found.encode("a 123")) == len(found.encode("a ")) + 3


def test_a_special_token_may_be_named_in_either_file(tmp_path: Path) -> None:
    byte_level().backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"eos_token": {"content": "<end>"}, "pad_token": "<turn>"})
    )
    found = fast_tokenizer(str(tmp_path))
    assert (found.eos_token, found.pad_token) == ("<end>", "<turn>")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    found = fast_tokenizer(str(tmp_path))
    assert (found.eos_token, found.pad_token) == ("<end>", "<pad>")


@pytest.mark.parametrize("source", ["nope.json", "hollow", "text.txt", "zeros.gguf"])
def test_what_is_none_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hollow").mkdir()
    (tmp_path / "text.txt").write_text("words")
    (tmp_path / "zeros.gguf").write_bytes(bytes(99))
    with pytest.raises(TokenizerError, match=source.partition(".")[0]):
        fast_tokenizer(source)
