"""What a tokenizer makes of texts: how short, and whether they come back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from tokenizers import Tokenizer

from lengthwise.tokenization.words import count_words

_BATCH = 64


@dataclass(frozen=True)
class Measured:
    """Totals over texts. failures: texts that did not come back as they were normalized."""

    texts: int = 0
    tokens: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0
    failures: int = 0

    @property
    def bytes_per_token(self) -> float:
        """All bytes by all tokens; 0 without any."""
        return self.bytes / max(self.tokens, 1)

    @property
    def words_per_token(self) -> float:
        """All words by all tokens; 0 without any."""
        return self.words / max(self.tokens, 1)


def comes_back(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text is decoded as it was encoded; what a normalizer changes first is no failure.

    Args:
        tokenizer: any.
        text: any that is Unicode.
    """
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return bool(_decoded(tokenizer, ids) == _normalized(tokenizer, text))


def measure(tokenizer: Tokenizer, texts: Iterable[str]) -> Measured:
    """Encodes and decodes texts.

    Args:
        tokenizer: any.
        texts: each is encoded by itself.
    """
    tokens = size = characters = words = failures = count = 0
    for batch in _batches(texts):
        for text, found in zip(batch, tokenizer.encode_batch_fast(batch, add_special_tokens=False),
                               strict=True):  # fmt: skip
            count, tokens = count + 1, tokens + len(found.ids)
            size, characters = size + len(text.encode()), characters + len(text)
            words += count_words(text)
            failures += _decoded(tokenizer, found.ids) != _normalized(tokenizer, text)
    return Measured(count, tokens, size, characters, words, failures)


def _decoded(tokenizer: Tokenizer, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def _normalized(tokenizer: Tokenizer, text: str) -> str:
    if tokenizer.normalizer is None:
        return text
    return str(tokenizer.normalizer.normalize_str(text))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    given = iter(texts)
    while batch := list(islice(given, _BATCH)):
        yield batch


__all__ = ["Measured", "comes_back", "measure"]
