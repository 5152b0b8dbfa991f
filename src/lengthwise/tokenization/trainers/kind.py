"""What a kind of tokenizer is, and which there are.

`pyproject.toml` declares ours under the group `lengthwise.tokenizers`, as a third party does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from tokenizers import Tokenizer

from lengthwise._utils.papers import Paper
from lengthwise._utils.registry import Registry
from lengthwise.errors import TokenizerError

Texts = Callable[[], Iterator[str]]
"""The documents of a corpus from their first, in the same order each time it is called."""
Told = Callable[[str, float], None]
"""Progress: what is being done, and which share of it is done (0 to 1)."""


class TokenizerKind(ABC):
    """A way to train a tokenizer; its fields are the options a user may set.

    paper: where it comes from; None for one that has no paper of its own.
    best_known: options that measurements found best for some purpose, where they are no defaults.
    """

    paper: ClassVar[Paper | None] = None
    best_known: ClassVar[str] = ""

    @abstractmethod
    def train(self, texts: Texts, size: int, work: Path, told: Told) -> Tokenizer:
        """Learns a tokenizer. The same texts, size and options give the same one.

        Args:
            texts: the corpus; it may be gone through more than once.
            size: tokens of the vocabulary, special ones included.
            work: an existing folder for what was done so far; a second call with the same
                arguments goes on from there.
            told: called with progress.

        Raises:
            TokenizerError: a corpus or size that nothing can be learned from.
        """


def _kind(name: str, value: object) -> type[TokenizerKind]:
    if not (isinstance(value, type) and issubclass(value, TokenizerKind)):
        raise TypeError(f"{name} is no TokenizerKind")
    return value


KINDS = Registry("lengthwise.tokenizers", "kind of tokenizer", _kind, TokenizerError)

__all__ = ["KINDS", "Texts", "Told", "TokenizerKind"]
