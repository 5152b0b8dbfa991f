"""length: a text of at least, or at most, so many words, sentences or tokens.

Kikuchi et al., "Controlling Output Length in Neural Encoder-Decoders", EMNLP 2016,
arXiv:1609.09552. Its fixLen forbids the end of the text before the length that was asked for, and
cuts it there.

Ours counts words as a reader does (`tokenization.words`) and sentences as sentencex cuts them,
where the paper counts bytes. It leaves a text free between the least and the most:

    min_words, min_new_tokens   stop tokens are forbidden before
    max_words       tokens that would begin another word are forbidden; the text ends with the next
                    end of a sentence, or by a stop token
    max_sentences   the text ends with the last of them, its quotes and brackets closed

A text that runs out of words is cut where it stands: nothing here makes a model come to a point.
`ruler` tells a model that learned it how long an answer will be; transformers' own
min_new_tokens has the meaning that it has here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import ConstraintError, RecipeError, Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.decoding._shared.token_texts import TokenTexts, token_texts
from lengthwise.retrieval.sentences import sentences
from lengthwise.tokenization.words import count_words

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.sequence import Sequence
    from lengthwise.models.adapted_model import AdaptedModel

# What a sentence may end with, and what closes behind it.
_MAY_END = re.compile(r"[.!?…。！？\n][\"')\]”’»]*\s*$")
_CLOSERS = frozenset("\"')]”’»")
_PAIRS = (("(", ")"), ("[", "]"), ("“", "”"), ("«", "»"))
# Before a token: what it goes on with, by how the text ends.
_CONTEXTS = ("a", "a-", " ")
_JOINS = "'\u2019-"
# What stands in no word. Of a long text so many characters, and more up to it, are counted at once.
_APART = re.compile(r"[\s.,;:!?。，、！？]")
_BLOCK = 1024
# Behind a text it begins a sentence of its own.
_NEXT = " Next"
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Length(Method):
    """Bounds of what is written. None of them given does nothing."""

    name: ClassVar[str] = "length"
    question: ClassVar[str] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "Controlling Output Length in Neural Encoder-Decoders", "Kikuchi et al.", 2016,
        arxiv="1609.09552", venue="EMNLP",
    )  # fmt: skip
    min_words: int = option(0, "words before the text may end", low=0)
    max_words: int | None = option(None, "words that are written at most", low=1)
    max_sentences: int | None = option(None, "sentences that are written at most", low=1)
    min_new_tokens: int = option(0, "tokens before the text may end", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_words is not None and self.min_words > self.max_words:
            raise RecipeError(
                f"length(min_words={self.min_words}, max_words={self.max_words}): no text has so "
                f"many and so few; give a max_words of at least {self.min_words}"
            )

    @classmethod
    def identity(cls, length: int) -> Length:
        return cls()

    @classmethod
    def example(cls) -> Length:
        return cls(min_new_tokens=8)

    @property
    def _reads(self) -> bool:
        return bool(self.min_words or self.max_words or self.max_sentences)

    def check(self, model: AdaptedModel) -> None:
        if self._reads and model.tokenizer is None:
            raise Refused(
                f"{self.name} counts words, and this {model.family!r} model has no tokenizer",
                "wrap it with one: lengthwise.wrap(model, tokenizer), or give min_new_tokens alone",
            )

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        self.check(model)
        if not self._reads or model.tokenizer is None:
            return LengthLaw(self, None)
        return LengthLaw(self, token_texts(model.tokenizer, model.vocab_size))


class LengthLaw(NextTokenLaw):
    """Keeps a text from ending too soon, and ends it."""

    def __init__(self, options: Length, tokens: TokenTexts | None) -> None:
        self.options, self._tokens = options, tokens
        self._stop_ids: list[int] = []
        self._notes: list[str] = []

    def begin(self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        self._stop_ids = list(stop_ids)

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        text, options = self._text(written), self.options
        words = _words(text)
        if len(written) < options.min_new_tokens or words < options.min_words:
            scores[self._stop_ids] = -torch.inf
        if options.max_words is not None and self._tokens is not None:
            self._hold_words(scores, text, options.max_words - words)
        if self._sentences_done(text):
            # All that is wanted is that what was opened is closed.
            self._keep(scores, _Vocabulary.of(self._tokens).closes)
        if not bool(scores.isfinite().any()):
            raise ConstraintError(
                f"{options.name}: nothing may follow token {len(written)}: the text is as long as "
                "it may be, and there is no stop token to end it with"
            )
        return scores

    def _hold_words(self, scores: Tensor, text: str, left: int) -> None:
        known = _Vocabulary.of(self._tokens)
        if left > known.most:
            return
        begun = known.begun[_context(text)].to(scores.device)
        scores.masked_fill_(begun[: len(scores)] > left, -torch.inf)
        if left <= 0:
            self._keep(scores, known.plain)

    def _keep(self, scores: Tensor, kept: Tensor) -> None:
        """Forbids all but some tokens and those that end the text."""
        kept = kept[: len(scores)].clone()
        kept[self._stop_ids] = True
        scores.masked_fill_(~kept.to(scores.device), -torch.inf)

    def ends(self, written: Seq[int]) -> bool:
        options = self.options
        if not (options.max_words or options.max_sentences):
            return False
        if len(written) < options.min_new_tokens:
            return False
        text = self._text(written)
        words = _words(text)
        if words < options.min_words or not _balanced(text):
            return False
        if self._sentences_done(text):
            return True
        full = options.max_words is not None and words >= options.max_words
        return full and _MAY_END.search(text) is not None

    def finish(self, written: Seq[int]) -> None:
        words = _words(self._text(written))
        if words < self.options.min_words:
            self._notes.append(
                f"{self.options.name}: the text has {words} words, and "
                f"min_words={self.options.min_words} were asked for: max_new_tokens or a stop "
                "string ended it"
            )

    @property
    def notes(self) -> Seq[str]:
        return self._notes

    def _text(self, written: Seq[int]) -> str:
        return "" if self._tokens is None else self._tokens.written(written)

    def _sentences_done(self, text: str) -> bool:
        most = self.options.max_sentences
        return most is not None and complete_sentences(text) >= most


def _words(text: str) -> int:
    """`count_words` of a text that grows: what was counted of it is remembered."""
    words = start = 0
    while (cut := _APART.search(text, start + _BLOCK)) is not None:
        words += _counted(text[start : cut.end()])
        start = cut.end()
    return words + count_words(text[start:])


@lru_cache(maxsize=1024)
def _counted(block: str) -> int:
    return count_words(block)


@lru_cache(maxsize=16)
def complete_sentences(text: str) -> int:
    """Sentences that are at their end.

    Args:
        text: as far as it is written. A dot behind a digit may be a decimal point, and ends none
            before white space follows.
    """
    if _MAY_END.search(text) is None or re.search(r"\d\.$", text):
        # Those before it count.
        return max(0, len(sentences(text)) - 1) if text.strip() else 0
    return len(sentences(text.rstrip() + _NEXT)) - 1


def _balanced(text: str) -> bool:
    """Whether quotes and brackets that were opened are closed."""
    pairs = all(text.count(opens) <= text.count(closes) for opens, closes in _PAIRS)
    return pairs and text.count('"') % 2 == 0


def _context(text: str) -> int:
    end = text[-16:]
    if count_words(end + "a") > count_words(end):
        return 2
    return 1 if end[-1] in _JOINS else 0


class _Vocabulary:
    """What tokens do to a text's words.

    begun: words that a token begins, int64 `[vocab]`, by what stands before it. most: the most of
    them. plain: tokens without white space. closes: of quotes and brackets alone.
    """

    def __init__(self, tokens: TokenTexts) -> None:
        texts = tokens.texts
        # A token that ends within a character may begin a word.
        self.begun = [
            torch.tensor([
                count_words(before + text) - count_words(before) + (UNFINISHED in text)
                for text in texts
            ])
            for before in _CONTEXTS
        ]  # fmt: skip
        self.most = int(max(int(each.max()) for each in self.begun))
        self.plain = torch.tensor([bool(text) and text.split() == [text] for text in texts])
        self.closes = torch.tensor([bool(text) and set(text) <= _CLOSERS for text in texts])

    @classmethod
    def of(cls, tokens: TokenTexts | None) -> _Vocabulary:
        assert tokens is not None
        return _vocabulary(tokens)


@lru_cache(maxsize=4)
def _vocabulary(tokens: TokenTexts) -> _Vocabulary:
    return _Vocabulary(tokens)


__all__ = ["Length", "LengthLaw", "complete_sentences"]
