"""A grammar over the tokens of a vocabulary, by llguidance: which of them may follow a path.

llguidance (Microsoft, MIT licence) walks a trie of the vocabulary's bytes with a lexer and an
Earley parser. A matcher follows one text, goes back as cheaply as it goes on, and is copied. So
guesses, and texts that fork, are asked about for a token's price each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as Seq
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise.engine.context_ids import common
from lengthwise.errors import RecipeError, Refused

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from transformers import PreTrainedTokenizerBase

    from lengthwise.models.adapted_model import AdaptedModel

# Vocabularies and grammars that stay at hand.
VOCABULARIES, GRAMMARS = 4, 64


def library(name: str) -> Any:
    """llguidance.

    Args:
        name: of the method that needs it.

    Raises:
        RecipeError: where it is not installed.
    """
    try:
        import llguidance
        import llguidance.hf
    except ImportError:
        raise RecipeError(
            f"{name} needs llguidance, which is not installed: pip install 'lengthwise[grammar]'"
        ) from None
    return llguidance


class Matcher:
    """Which tokens may follow a path, for one text; it moves along paths."""

    def __init__(self, beginning: LLMatcher, ends: Seq[int]) -> None:
        self._beginning, self._ends = beginning, list(ends)
        self._restart()

    def __deepcopy__(self, memo: dict[int, Any]) -> Matcher:
        copied = Matcher(self._beginning, self._ends)
        if not self._matcher.is_error():
            copied._matcher, copied._path = self._matcher.deep_copy(), list(self._path)
        return copied

    def _restart(self) -> None:
        self._matcher = self._beginning.deep_copy()
        self._path: list[int] = []
        self._mask: Tensor | None = None

    def go(self, path: Seq[int]) -> bool:
        """Moves to a path; False where it leaves the grammar, and then only as far as it goes.

        Args:
            path: ids from the beginning of the text.
        """
        path = list(path)
        if self._matcher.is_error() and path != self._path:
            # It cannot go back from there.
            self._restart()
        same = common(self._path, path)
        if same < len(self._path):
            self._matcher.rollback(len(self._path) - same)
            self._mask = None
        if same < len(path):
            taken = self._matcher.try_consume_tokens(path[same:])
            self._mask = None
            self._path = path[: same + taken]
            return len(self._path) == len(path) and not self.error
        self._path = path
        return not self.error

    def allowed(self, count: int) -> Tensor:
        """bool `[count]`, on the CPU: the tokens that may follow here, no stop token among them.

        Empty where the library gives up (see `error`).

        Args:
            count: tokens of the model's vocabulary.
        """
        if self._mask is None or len(self._mask) != count:
            found, bits = np.zeros(count, bool), self.bits()
            known = np.unpackbits(bits, count=min(count, 8 * len(bits)), bitorder="little")
            found[: len(known)] = known
            self._mask = torch.from_numpy(found)
        return self._mask

    def bits(self) -> NDArray[np.uint8]:
        """The same, a bit a token, the least first; empty where nothing may follow."""
        if self._matcher.is_stopped():
            return np.zeros(0, np.uint8)
        found = np.frombuffer(self._matcher.compute_bitmask(), np.uint8).copy()
        # At its end the library gives the bit of the text's end alone.
        for token in self._ends:
            if token < 8 * len(found):
                found[token >> 3] &= ~np.uint8(1 << (token & 7))
        return found

    @property
    def whole(self) -> bool:
        """Whether the text may end here."""
        return bool(self._matcher.is_accepting()) and not self.error

    @property
    def over(self) -> bool:
        """Whether the text may end here and nothing may follow."""
        return bool(self._matcher.is_stopped()) and self.whole

    @property
    def error(self) -> str:
        """Why the library gave up; "" where it did not."""
        if not self._matcher.is_error():
            return ""
        why = str(self._matcher.get_error())
        return "" if why.startswith(_NOTHING_FITS) else first_line(ValueError(why))

    def forced(self) -> list[int]:
        """Tokens that the grammar leaves no choice about, as the tokenizer would cut their text."""
        if self._matcher.is_stopped():
            return []
        return [int(token) for token in self._matcher.compute_ff_tokens()]


# How llguidance names a place where no token fits: it counts as an error there and ends the text.
_NOTHING_FITS = "NoExtension"


def start(name: str, grammar: str, model: AdaptedModel) -> Matcher:
    """A matcher at the beginning of a text.

    Args:
        name: of the method that asks.
        grammar: as llguidance writes it.
        model: with its tokenizer.

    Raises:
        RecipeError: for a grammar that is none, or that no text satisfies.
        Refused: for a tokenizer whose tokens have no bytes.
    """
    tokens = vocabulary(name, model)
    return Matcher(_compiled(name, grammar, tokens), tokens.eos_tokens)


@lru_cache(maxsize=GRAMMARS)
def _compiled(name: str, grammar: str, tokens: LLTokenizer) -> LLMatcher:
    found: LLMatcher = library(name).LLMatcher(tokens, grammar, log_level=0)
    if not found.is_error():
        first = Matcher(found, tokens.eos_tokens)
        if first.allowed(tokens.vocab_size).any() or first.whole:
            return found
        if not first.error:
            raise RecipeError(f"{name}: no text satisfies this grammar")
        raise RecipeError(f"{name}: this grammar is too large: {first.error}")
    raise RecipeError(f"{name}: {_reason(str(found.get_error()))}")


def _reason(text: str) -> str:
    """What is wrong with a grammar, in one line of the library's several."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith("error:")]
    head = lines[0] if lines else "it cannot be read"
    return f"{head.rstrip(':')}: {wrong[-1].removeprefix('error: ')}" if wrong else head


_OF_OBJECT: WeakKeyDictionary[Any, dict[int, str]] = WeakKeyDictionary()
_TEXTS: dict[str, LLTokenizer] = {}


def vocabulary(name: str, model: AdaptedModel) -> LLTokenizer:
    """The trie of a model's vocabulary, made once a tokenizer.

    Args:
        name: of the method that asks.
        model: with its tokenizer.

    Raises:
        Refused: without a tokenizer, or for one whose tokens have no bytes.
    """
    tokenizer, hf = model.tokenizer, library(name).hf
    if tokenizer is None:
        raise Refused(
            f"{name} reads the text of tokens, and this {model.family!r} model has no tokenizer",
            "wrap it with one: lengthwise.wrap(model, tokenizer)",
        )
    count = max(len(tokenizer), model.vocab_size)
    known = _OF_OBJECT.setdefault(tokenizer, {})
    if count not in known:
        known[count] = _fingerprint(tokenizer, count)
    key = known[count]
    if key not in _TEXTS:
        try:
            made = hf.from_tokenizer(tokenizer, n_vocab=count)
        except Exception as error:
            raise Refused(
                f"{name} reads the bytes of tokens, and this tokenizer does not tell them "
                f"({first_line(error)})",
                "use a model whose tokenizer is a byte-level BPE or falls back to bytes",
            ) from None
        while len(_TEXTS) >= VOCABULARIES:
            _TEXTS.pop(next(iter(_TEXTS)), None)
        _TEXTS[key] = made
    return _TEXTS[key]


def _fingerprint(tokenizer: PreTrainedTokenizerBase, count: int) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else str(id(tokenizer))
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    digest.update(f"{tokenizer.eos_token_id} {count}".encode())
    return digest.hexdigest()


__all__ = ["Matcher", "library", "start", "vocabulary"]
