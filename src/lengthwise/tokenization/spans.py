"""Where tokens stand in the text that they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence as Seq
from typing import Any

# Tokens that are decoded together where a tokenizer has no offsets, behind as many before them: how
# many characters a token says may hang on the last few.
WINDOW = 32


def token_spans(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Where each token of a text stands in it, in characters, half open.

    Args:
        tokenizer: of transformers; special tokens written out in the text are text.
        text: any.
    """
    if getattr(tokenizer, "is_fast", False):
        given = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True,
                          split_special_tokens=True, verbose=False)  # fmt: skip
        return [(int(start), int(end)) for start, end in given["offset_mapping"]]
    # One without offsets: a token ends where the text of all before it does.
    found, start = [], 0
    for end in _ends(tokenizer, tokenizer.encode(text, add_special_tokens=False)):
        end = max(start, min(end, len(text)))
        found.append((start, end))
        start = end
    return found


def token_count(tokenizer: Any, text: str) -> int:
    """How many tokens `token_spans` finds, without their places.

    Args:
        tokenizer: of transformers; special tokens written out in the text are text.
        text: any.
    """
    if getattr(tokenizer, "is_fast", False):
        given = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return len(given["input_ids"])
    return len(tokenizer.encode(text, add_special_tokens=False))


def _ends(tokenizer: Any, ids: Seq[int]) -> Iterator[int]:
    """Characters that the first 1, 2, ... tokens say together."""
    before = 0
    for first in range(0, len(ids), WINDOW):
        low = max(0, first - WINDOW)
        known = len(tokenizer.decode(ids[low:first])) if first else 0
        for stop in range(first + 1, min(first + WINDOW, len(ids)) + 1):
            end = before + len(tokenizer.decode(ids[low:stop])) - known
            yield end
        before = end


__all__ = ["WINDOW", "token_count", "token_spans"]
