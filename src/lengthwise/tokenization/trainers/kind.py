"""What a kind of tokenizer is, and which there are.

`pyproject.toml` declares ours under the group `lengthwise.tokenizers`, as a third party does.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from tokenizers import Tokenizer

from lengthwise._utils.options import check_options, written
from lengthwise._utils.papers import Papers
from lengthwise._utils.registry import Registry
from lengthwise.errors import TokenizerError

Texts = Callable[[], Iterator[str]]
"""The documents of a corpus from their first, in the same order each time it is called."""
Told = Callable[[str, float], None]
"""Progress: what is being done, and which share of it is done (0 to 1)."""
END = "<|endoftext|>"
"""The token that ends a text, but for kinds that are given another."""


class TokenizerKind(ABC):
    """A way to train a tokenizer; its fields are the options a user may set.

    name: as its entry point says it (default: the class's, in small letters). paper: where it
    comes from; None for one that has no paper of its own. best_known: options that measurements
    found best for some purpose, where they are no defaults.

    Fields are declared as those of methods are, by `option` of `_utils.options`, and are checked
    when one is made.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[Papers] = None
    best_known: ClassVar[str] = ""
    _first: ClassVar[Any] = str

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "name" not in vars(cls):
            cls.name = cls.__name__.lower()

    def __post_init__(self) -> None:
        check_options(self)

    def __str__(self) -> str:
        return written(self)

    def least(self) -> int:
        """The smallest vocabulary it can begin with: its alphabet and what is of `special()`."""
        return 256

    def special(self) -> tuple[str, ...]:
        """The special tokens that it trains itself, and counts in its size."""
        return ()

    def end_token(self) -> str:
        """The token that ends a text; it is added where it is none of `special()`."""
        return END

    def check(self) -> None:
        """Raises TokenizerError for what it needs and cannot find, before any work."""
        return

    def reads(self) -> list[str]:
        """Files of the user's that its options name; others than those are another training."""
        return []

    def normalizing(self, first: Callable[[str], str]) -> Self:
        """This kind for texts that are normalized: words that a user lists are so, too.

        Args:
            first: what is done to a text before the kind reads it.

        Returns:
            A copy; its options are the same.
        """
        found = copy.copy(self)
        object.__setattr__(found, "_first", first)
        return found

    def learned_twice(self, tokenizer: Tokenizer) -> int:
        """How many tokens of its own list were learned as well, so that there are fewer in all.

        Args:
            tokenizer: as it is written.
        """
        return 0

    @abstractmethod
    def train(self, texts: Texts, size: int, work: Path, told: Told) -> Tokenizer:
        """Learns a tokenizer. The same texts, size and options give the same one.

        Args:
            texts: the corpus; it may be gone through more than once.
            size: tokens of the vocabulary, at least `least()`; special ones that are not of
                `special()` are added behind them by whoever asks, and are not counted here.
            work: an existing folder for what was done so far; a second call with the same
                arguments goes on from there.
            told: called with progress.

        Raises:
            TokenizerError: a corpus or size that nothing can be learned from.
        """

    def finish(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer once its normalizer and special tokens are set: as it is, but for kinds
        that fill it up.

        Args:
            tokenizer: what `train` gave, whole but for this.
        """
        return tokenizer

    def files(self, tokenizer: Tokenizer) -> dict[str, str]:
        """More files of the tokenizer's folder, by name, with their text.

        Args:
            tokenizer: as it is written.
        """
        return {}


def _kind(name: str, value: object) -> type[TokenizerKind]:
    if not (isinstance(value, type) and issubclass(value, TokenizerKind)):
        raise TypeError(f"{name} is no TokenizerKind")
    return value


KINDS = Registry("lengthwise.tokenizers", "kind of tokenizer", _kind, TokenizerError)

__all__ = ["END", "KINDS", "Texts", "Told", "TokenizerKind"]
