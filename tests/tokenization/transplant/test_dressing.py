"""Marks of a model in another tokenizer: what they strip, and whether they are special, stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.dressing import backend_of, dressed
from lengthwise.tokenization.transplant.extend import extended
from lengthwise.tokenization.transplant.surgery import transplant
from lengthwise.tokenization.transplant.trim import trimmed
from tests.tokenization.transplant.tiny_pairs import OTHER, TEMPLATE, TEXT, byte_level, model_of

TALK = "<turn>\nthe cat<end><tool_call>x"


def with_marks() -> PreTrainedTokenizerFast:
    """A mark that eats the line break behind it, as Phi-3's; one that is text, as Qwen3's."""
    own = byte_level.__wrapped__(specials=("<end>", "<pad>"), template=False)
    own.add_tokens([
        AddedToken("<turn>", special=True, rstrip=True, normalized=False),
        AddedToken("<tool_call>", special=False, normalized=False),
    ])  # fmt: skip
    own.chat_template = TEMPLATE + "{% if tools %}<tool_call>{% endif %}"
    return own


@pytest.mark.parametrize("which", ["other", "itself", "more", "fewer"])
def test_marks_strip_and_are_special_as_they_were(which: str, tmp_path: Path) -> None:
    own = with_marks()
    new: Any = {
        "other": lambda: byte_level(OTHER, 300, ("<|eot|>",), template=False),
        "itself": lambda: own,
        "more": lambda: extended(own, lambda: iter([OTHER]), 5),
        "fewer": lambda: trimmed(own, lambda: iter([TEXT])),
    }[which]()
    dressed(new, own).save_pretrained(tmp_path)
    made = AutoTokenizer.from_pretrained(tmp_path)
    ids = made.encode(TALK)
    assert made.decode(ids) == own.decode(own.encode(TALK)) == TALK.replace("\n", "")
    assert made.decode(ids, skip_special_tokens=True) == "the cat<tool_call>x"


def test_roles_are_special_whatever_their_tokenizer_says() -> None:
    own = byte_level.__wrapped__(specials=("<end>",), template=False)
    own.add_tokens([AddedToken("<stop>", special=False)])
    own.eos_token = "<stop>"
    made = dressed(byte_level(OTHER, 300, ("<|eot|>",), template=False), own)
    assert made.decode(made.encode("a<stop>"), skip_special_tokens=True) == "a"


def test_slow_tokenizers_are_refused_in_one_line() -> None:
    slow, own = ByT5Tokenizer(), byte_level()
    with pytest.raises(TokenizerError, match=r"the model's tokenizer: .*ByT5Tokenizer.*fast one"):
        transplant(model_of(own), slow, own)
    with pytest.raises(TokenizerError, match="the new tokenizer is of class ByT5Tokenizer"):
        transplant(model_of(own), own, slow)
    for change in (lambda: trimmed(slow, lambda: iter([TEXT])),
                   lambda: extended(slow, lambda: iter([TEXT]), 3)):  # fmt: skip
        with pytest.raises(TokenizerError, match="ByT5Tokenizer, which is no fast one"):
            change()


def test_a_copy_neither_shortens_nor_fills_up() -> None:
    own = byte_level.__wrapped__()
    whole = own.encode(TEXT)
    own(TEXT, truncation=True, max_length=4)
    own(TEXT[:9], padding="max_length", max_length=9)
    assert backend_of(own).encode(TEXT, add_special_tokens=False).ids == whole
    assert own.backend_tokenizer.padding is not None
