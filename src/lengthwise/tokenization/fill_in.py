"""The tokens by which a model was trained to fill in the middle of a text."""

from __future__ import annotations

from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from lengthwise.errors import LengthwiseError

# In front of the prefix, of the suffix, and of the middle, as families call them.
_NAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
)


class FillIn(NamedTuple):
    """Ids in front of the prefix, of the suffix and of the middle."""

    prefix: int
    suffix: int
    middle: int


def fill_in_tokens(tokenizer: PreTrainedTokenizerBase) -> FillIn:
    """The tokens of a tokenizer for filling in.

    Args:
        tokenizer: the model's.

    Raises:
        LengthwiseError: for one that has none.
    """
    known = tokenizer.get_added_vocab()
    for names in _NAMES:
        if all(name in known for name in names):
            return FillIn(*(int(known[name]) for name in names))
    raise LengthwiseError(
        "this tokenizer has no tokens for filling in (such as <|fim_prefix|>, <|fim_suffix|> and "
        "<|fim_middle|>); leave the suffix out, or take a model that learnt it, such as "
        "Qwen2.5-Coder"
    )


__all__ = ["FillIn", "fill_in_tokens"]
