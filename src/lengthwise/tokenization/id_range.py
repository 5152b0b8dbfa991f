"""How many ids a tokenizer has: a vocabulary may have gaps, so tokens are not counted."""

from __future__ import annotations

from tokenizers import Tokenizer


def id_range(tokenizer: Tokenizer) -> int:
    """The largest id of a tokenizer, and one.

    Args:
        tokenizer: of the `tokenizers` library.
    """
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


__all__ = ["id_range"]
