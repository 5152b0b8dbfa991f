"""A tokenizer as prompting methods see a model: it counts tokens, and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lengthwise.errors import Refused
from lengthwise.tokenization.spans import token_count, token_spans

# Behind it a line begins with a sign that is no space.
_LINE = re.compile(r"\n(?=\S)")
# Characters of a long text that are counted at once.
PART = 1 << 18


class TokenizerText:
    """A `methods.prompts.TextModel` that writes nothing: of methods that choose by texts alone."""

    def __init__(self, tokenizer: Any, name: str, trained_length: int) -> None:
        self.tokenizer, self.name, self.trained_length = tokenizer, name, trained_length

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text stands in it.

        Args:
            text: any.
        """
        return token_spans(self.tokenizer, text)

    def count(self, text: str) -> int:
        """Tokens of a text, as `count_tokens` has them.

        Args:
            text: any.
        """
        return count_tokens(self.tokenizer, text)

    def write(
        self, text: str, question: str, max_new_tokens: int,
        stream: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        """Refused: there is no model that writes."""
        raise Refused(
            "this recipe has a model write on the way, and here is a tokenizer alone",
            "take one that chooses by the texts, such as bm25, dense or reorder",
        )


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of a text. One of more than PART characters is counted in parts, cut where lines
    begin, so that no list of all its tokens is made; a part may be a token off.

    Args:
        tokenizer: of transformers.
        text: any.
    """
    return sum(token_count(tokenizer, part) for part in _parts(text))


def _parts(text: str) -> Iterator[str]:
    """A text in parts of about PART characters, each but the first beginning a line that does not
    begin with a space; one without such a line is whole."""
    start = 0
    while len(text) - start > PART:
        found = _LINE.search(text, start + PART)
        if found is None:
            break
        yield text[start : found.end()]
        start = found.end()
    if start < len(text) or not text:
        yield text[start:]


__all__ = ["PART", "TokenizerText", "count_tokens"]
