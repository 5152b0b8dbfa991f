"""Bringing a JSON text to its end while there are tokens left for it.

Nothing in a grammar keeps a string, a number or a list from going on until max_new_tokens ends
them, and small models do go on. So where few tokens are left, the grammar's tokens are narrowed to
those of the best class that has any:

    in a string:  its closing quote, then whole letters
    elsewhere:    closing brackets, then , and :, what opens nothing, a quote, the rest

How many tokens that takes is found by doing so on a copy, with the shortest token of the class. The
model may choose any token of it, and longer ones are rather sooner through.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from llguidance import LLTokenizer

    from lengthwise.methods.decoding._shared.matcher import Matcher

Bits = NDArray[np.uint8]

# Steps after which an end is given up that has not come.
FAR = 512
# Tokens kept beside those that an end takes.
SPARE = 4
WORST = 9


class Closing:
    """The classes of a vocabulary's tokens, and what follows from them for a text."""

    def __init__(self, tokens: LLTokenizer) -> None:
        count = tokens.vocab_size
        self.texts = [tokens.decode_bytes([token]) for token in range(count)]
        self._lengths = np.array([len(text) for text in self.texts])
        inside = np.array([_inside(text) for text in self.texts], np.int8)
        outside = np.array([_outside(text) for text in self.texts], np.int8)
        self._inside, self._outside = torch.from_numpy(inside), torch.from_numpy(outside)
        self._classes = {True: _packed(inside), False: _packed(outside)}

    def in_string(self, path: Seq[int], inside: bool = False) -> bool:
        """Whether a JSON text ends within a string.

        Args:
            path: its tokens.
            inside: whether what came before them did.
        """
        escaped = False
        for letter in b"".join(self.texts[token] for token in path if token < len(self.texts)):
            if escaped:
                escaped = False
            elif inside and letter == ord("\\"):
                escaped = True
            elif letter == ord('"'):
                inside = not inside
        return inside

    def narrowed(self, allowed: Tensor, inside: bool) -> Tensor:
        """The tokens of the best class.

        Args:
            allowed: bool `[vocab]`, at least one of them.
            inside: whether the text ends within a string.
        """
        ranks = (self._inside if inside else self._outside)[: len(allowed)]
        known = allowed[: len(ranks)]
        best = ranks[known].min() if bool(known.any()) else WORST
        found = torch.zeros_like(allowed)
        found[: len(ranks)] = known & (ranks == best)
        return found

    def _shortest(self, bits: Bits, inside: bool) -> int | None:
        """The shortest token of the best class among those of a mask; None of an empty one."""
        for members in self._classes[inside]:
            # The library's masks are filled up to whole words.
            size = min(len(bits), len(members))
            found = bits[:size] & members[:size]
            if found.any():
                count = min(len(self.texts), 8 * len(found))
                each = np.unpackbits(found, count=count, bitorder="little")
                # Of bytes numpy looks for others than 0 ten times as long.
                tokens = np.flatnonzero(each.view(bool))
                return int(tokens[self._lengths[tokens].argmin()])
        return None

    def steps(self, matcher: Matcher, path: Seq[int], most: int) -> int:
        """Tokens that the end takes from a path on; more than `most` where it is farther.

        Args:
            matcher: of the text; it stays where it is.
            path: ids from the beginning of the text.
            most: steps that are looked at.
        """
        ahead, path = copy.deepcopy(matcher), list(path)
        inside = self.in_string(path)
        for taken in range(min(most, FAR) + 1):
            if not ahead.go(path):
                break
            if ahead.whole:
                return taken
            token = self._shortest(ahead.bits(), inside)
            if token is None:
                break
            path.append(token)
            inside = self.in_string([token], inside)
        return most + 1


def _packed(classes: NDArray[np.int8]) -> list[Bits]:
    """A mask of bits for each class that there is, the best first."""
    return [np.packbits(classes == each, bitorder="little") for each in np.unique(classes)]


def _inside(text: bytes) -> int:
    """The class of a token within a string."""
    if text.startswith(b'"'):
        return 0 if not text.strip(b'"}],:') else 1
    if not text or text.strip() != text or b"\\" in text:
        return 4
    # Of other characters a token may be a part.
    return 2 if text.isascii() else 3


def _outside(text: bytes) -> int:
    """The class of a token between values."""
    if not text or text.strip() != text:
        return 5
    if not text.strip(b"}]"):
        return 0
    if not text.strip(b"}],:"):
        return 1
    if text.startswith(b'"'):
        return 3
    return 4 if set(text) & set(b'{["-+.') else 2


_BY_TABLE: dict[int, tuple[Any, Closing]] = {}


def closing(tokens: LLTokenizer) -> Closing:
    """The classes of a vocabulary, made once.

    Args:
        tokens: the vocabulary.
    """
    found = _BY_TABLE.get(id(tokens))
    if found is None or found[0] is not tokens:
        while len(_BY_TABLE) >= 4:
            _BY_TABLE.pop(next(iter(_BY_TABLE)))
        found = _BY_TABLE[id(tokens)] = tokens, Closing(tokens)
    return found[1]


__all__ = ["SPARE", "Closing", "closing"]
