"""Where tokens stand in the text that they are of."""

from __future__ import annotations

from typing import Any


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
    ids = tokenizer.encode(text, add_special_tokens=False)
    for number in range(1, len(ids) + 1):
        end = min(len(tokenizer.decode(ids[:number])), len(text))
        found.append((start, max(start, end)))
        start = max(start, end)
    return found


__all__ = ["token_spans"]
