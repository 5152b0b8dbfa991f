"""The token that ends a text, declared or usual."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.end_tokens import declared_end, specials_of, usual_end


@pytest.mark.parametrize("config, end", [
    ({"eos_token": "<x>"}, "<x>"), ({"eos_token": {"content": "<x>"}}, "<x>"), ({}, None),
    ({"eos_token": None}, None),
])  # fmt: skip
def test_a_folder_declares_it(config: dict[str, Any], end: str | None, tmp_path: Path) -> None:
    assert declared_end(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert declared_end(tmp_path) == end


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_damaged_configuration_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "special_tokens_map.json").write_text(text)
    with pytest.raises(TokenizerError, match=r"special_tokens_map\.json cannot be read"):
        declared_end(tmp_path)


@pytest.mark.parametrize("specials, end", [
    (["<|x|>", "</s>"], "</s>"), (["[EOS]"], "[EOS]"), (["</s>", "<eos>"], None), ([], None),
])  # fmt: skip
def test_one_that_usually_is(specials: list[str], end: str | None) -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    # A word of the vocabulary that only looks like an end is none.
    tokenizer.add_tokens(["<eod>"])
    tokenizer.add_special_tokens(specials)
    assert specials_of(tokenizer) == specials and usual_end(tokenizer) == end
