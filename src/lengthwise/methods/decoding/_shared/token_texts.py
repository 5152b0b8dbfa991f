"""The text of every token of a vocabulary as it stands behind others, and who begins with what."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence as Seq
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lengthwise.tokenization.detokenise import UNFINISHED, decode, is_byte

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What stands before a token whose text is looked up: at the beginning of a text a space may go.
BEFORE = "a."
# Tokens decoded at once.
BATCH = 4096
# Tokens of a text that are decoded together, at least, and how many such runs are remembered.
RUN, RUNS = 64, 4096

Run = tuple[int, ...]


class TokenTexts:
    """The vocabulary of a tokenizer as texts.

    texts: by id; "" for special tokens, and for ids that the tokenizer does not know.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, count: int) -> None:
        """count: tokens of the model's vocabulary, which may be more than the tokenizer has."""
        before = tokenizer.encode(BEFORE, add_special_tokens=False)
        known = min(count, len(tokenizer))
        special = self._special = frozenset(tokenizer.all_special_ids)
        self._tail, self._tokenizer = tuple(before), tokenizer
        self._said: Callable[[Run, Run], tuple[str, bool, Run]] = lru_cache(RUNS)(self._decoded)
        self.texts: list[str] = []
        start = len(_raw(tokenizer, [before])[0])
        for first in range(0, known, BATCH):
            rows = [[*before, token] for token in range(first, min(known, first + BATCH))]
            self.texts += [text[start:] for text in _raw(tokenizer, rows)]
        self.texts += [""] * (count - known)
        for token in special:
            if token < count:
                self.texts[token] = ""

    @cached_property
    def _sorted(self) -> tuple[list[str], list[int]]:
        order = sorted((text, token) for token, text in enumerate(self.texts) if text)
        return [text for text, _ in order], [token for _, token in order]

    def of(self, text: str) -> Iterator[int]:
        """The tokens of exactly this text."""
        texts, tokens = self._sorted
        place = bisect_left(texts, text)
        while place < len(texts) and texts[place] == text:
            yield tokens[place]
            place += 1

    def beginning(self, prefix: str) -> Iterator[tuple[str, int]]:
        """The tokens whose text begins with this and is longer, with their texts."""
        texts, tokens = self._sorted
        place = bisect_left(texts, prefix)
        while place < len(texts) and texts[place].startswith(prefix):
            if len(texts[place]) > len(prefix):
                yield texts[place], tokens[place]
            place += 1

    def written(self, tokens: Seq[int]) -> str:
        """The text of tokens that stand behind others, special ones left out.

        It is put together of runs, which are remembered: a text that goes on, or goes back and on
        another way, costs what is new.
        """
        before, texts, start = self._tail, [""], 0
        while start < len(tokens):
            end = start + RUN
            while True:
                text, whole, said = self._said(before, tuple(tokens[start:end]))
                if whole or end >= len(tokens):
                    break
                # Of text that is bytes for long not every place is tried.
                end += 1 + (end - start - RUN) // 8
            texts.append(text)
            start, before = end, said
        return "".join(texts)

    def _decoded(self, before: Run, run: Run) -> tuple[str, bool, Run]:
        """The text of a run behind another, whether no further token can change it, and the tokens
        that what follows stands behind."""
        said = tuple(each for each in run if each not in self._special)
        if not said:
            return "", True, before
        base, text = _raw(self._tokenizer, [before, before + said])
        whole = not text.endswith(UNFINISHED) and not is_byte(self._tokenizer, said[-1])
        return text[len(base) :], whole, said


def _raw(tokenizer: PreTrainedTokenizerBase, rows: Seq[Seq[int]]) -> list[str]:
    return [decode(tokenizer, row, special=True) for row in rows]


_KNOWN: WeakKeyDictionary[Any, dict[int, TokenTexts]] = WeakKeyDictionary()


def token_texts(tokenizer: PreTrainedTokenizerBase, count: int) -> TokenTexts:
    """The vocabulary of a tokenizer as texts, made once.

    Args:
        tokenizer: the model's.
        count: tokens of the model's vocabulary.
    """
    known = _KNOWN.setdefault(tokenizer, {})
    if count not in known:
        known[count] = TokenTexts(tokenizer, count)
    return known[count]


__all__ = ["TokenTexts", "token_texts"]
