"""The bytes of every token, and all tokens that go on with given bytes.

Tokens are held in the order of their bytes, so those that begin alike are a slice, and one byte
more is a slice of it: a trie without nodes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence as Seq
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lengthwise.errors import LengthwiseError

Span = tuple[int, int]
Floats = NDArray[np.float64]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# What sentencepiece writes a space as.
_SPACE = "\u2581"


class ByteVocabulary:
    """Tokens in the order of their bytes.

    spelled: of each id its bytes; None for one that is no text. ids: those that are text, in
    order, int64 `[n]`. marks: those that are none. longest: bytes of the longest token.
    """

    def __init__(self, spelled: Seq[bytes | None]) -> None:
        self.spelled = list(spelled)
        known = [(found, token) for token, found in enumerate(self.spelled) if found]
        known.sort()
        self.ids = np.array([token for _, token in known], dtype=np.int64)
        self.marks = np.array([t for t, found in enumerate(spelled) if not found], dtype=np.int64)
        self.lengths = np.array([len(found) for found, _ in known], dtype=np.int64)
        self.longest = int(self.lengths.max(initial=0))
        self._starts = np.cumsum(self.lengths) - self.lengths
        self._flat = np.frombuffer(b"".join(found for found, _ in known), dtype=np.uint8)

    @property
    def all(self) -> Span:
        """Every token that is text."""
        return 0, len(self.ids)

    def text(self, tokens: Seq[int]) -> bytes:
        """The bytes of tokens that are text.

        Args:
            tokens: ids; what is no text says nothing.
        """
        return b"".join(self.spelled[token] or b"" for token in tokens)

    def longer(self, span: Span, depth: int) -> Span:
        """Those of a slice that go on behind the bytes they share.

        Args:
            span: a slice whose tokens begin with the same bytes.
            depth: how many these are.
        """
        low, high = span
        return low + int(np.count_nonzero(self.lengths[low:high] == depth)), high

    def narrow(self, span: Span, depth: int, byte: int) -> Span:
        """Those of a slice whose next byte is a given one.

        Args:
            span: a slice whose tokens begin with the same bytes.
            depth: how many these are.
            byte: what follows.
        """
        low, high = self.longer(span, depth)
        column = self._flat[self._starts[low:high] + depth]
        ends = np.searchsorted(column, [byte, byte + 1])
        return low + int(ends[0]), low + int(ends[1])

    def within(self, data: bytes) -> Span:
        """The tokens that begin with given bytes.

        Args:
            data: none is every token.
        """
        span = self.all
        for depth, byte in enumerate(data):
            span = self.narrow(span, depth, byte)
        return span

    def by_next_byte(self, span: Span, depth: int, weights: Floats) -> Floats:
        """Sums of weights by the byte that follows.

        Args:
            span: a slice whose tokens begin with the same bytes.
            depth: how many these are.
            weights: of every token, in the order of `ids`.

        Returns:
            float64 `[256]`.
        """
        low, high = self.longer(span, depth)
        column = self._flat[self._starts[low:high] + depth]
        return np.bincount(column, weights[low:high], 256).astype(np.float64)


def byte_vocabulary(tokenizer: PreTrainedTokenizerBase) -> ByteVocabulary:
    """The bytes of a tokenizer's tokens, by what its decoder does.

    Args:
        tokenizer: a fast one, of bytes (GPT-2's letters) or of sentencepiece.

    Raises:
        LengthwiseError: for one whose tokens' bytes cannot be told.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    name = type(tokenizer).__name__
    if not isinstance(backend, Tokenizer):
        raise LengthwiseError(
            f"a tokenizer of class {name} does not tell the bytes of its tokens; load the fast one "
            "(AutoTokenizer.from_pretrained(..., use_fast=True))"
        )
    added = backend.get_added_tokens_decoder()
    marks = set(tokenizer.all_special_ids) | {t for t, token in added.items() if token.special}
    return ByteVocabulary(spelled_tokens(backend, marks))


def spelled_tokens(
    backend: Tokenizer, marks: Collection[int], word_pieces: bool = False
) -> list[bytes | None]:
    """The bytes of every token by id, by what the decoder does; None for a mark.

    Args:
        backend: of the `tokenizers` library.
        marks: ids that are no text.
        word_pieces: take WordPiece's tokens too, which do not say whether a space stands before
            them: "##ing" is "ing", and "the" is "the".

    Raises:
        LengthwiseError: for a decoder from which they cannot be told.
    """
    kinds = _kinds(json.loads(backend.to_str()).get("decoder"))
    spell = _spelling(kinds, word_pieces)
    if spell is None:
        raise LengthwiseError(
            f"the bytes of this tokenizer's tokens cannot be told: its decoder is "
            f"{' + '.join(sorted(kinds)) or 'none'}, and allowed are ByteLevel, ByteFallback and "
            "Metaspace; take a model with such a tokenizer"
        )
    dropped = _dropped(json.loads(backend.to_str())["decoder"])
    added, vocabulary = backend.get_added_tokens_decoder(), backend.get_vocab()
    spelled: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for word, token in vocabulary.items():
        if token not in marks:
            for mark in dropped:
                word = word if token in added else word.replace(mark, "")
            spelled[token] = added[token].content.encode() if token in added else spell(word)
    return spelled


def _spelling(kinds: set[str], word_pieces: bool) -> Callable[[str], bytes | None] | None:
    """How tokens are spelled by a decoder of these kinds; None where that cannot be told."""
    if "ByteLevel" in kinds:
        return bytes_of_letters
    if kinds & {"ByteFallback", "Metaspace"}:
        return bytes_of_piece
    if word_pieces and "WordPiece" in kinds:
        return lambda word: word.removeprefix("##").encode()
    return None


_LETTERS = {letter: byte for byte, letter in bytes_to_unicode().items()}


def bytes_of_letters(word: str) -> bytes | None:
    """The bytes of a token in GPT-2's letters; None where some letter of it is none of them.

    Args:
        word: as the vocabulary writes it.
    """
    found = [_LETTERS.get(letter) for letter in word]
    return None if None in found else bytes(each for each in found if each is not None)


def bytes_of_piece(word: str) -> bytes:
    """The bytes of a token of sentencepiece: U+2581 is a space, <0x41> a byte.

    Args:
        word: as the vocabulary writes it.
    """
    byte = _BYTE.fullmatch(word)
    return bytes([int(byte[1], 16)]) if byte else word.replace(_SPACE, " ").encode()


def _kinds(decoder: Any) -> set[str]:
    """The types of a decoder and of those in it."""
    if not isinstance(decoder, dict):
        return set()
    found = {str(decoder.get("type"))}
    for each in decoder.get("decoders", ()):
        found |= _kinds(each)
    return found - {"Sequence"}


def _dropped(decoder: Any) -> list[str]:
    """What a decoder takes out of tokens, as the mark of pieces within a word."""
    within = decoder.get("decoders", [decoder])
    replaced = [each for each in within if each.get("type") == "Replace" and not each["content"]]
    return [each["pattern"]["String"] for each in replaced if "String" in each["pattern"]]


__all__ = [
    "ByteVocabulary",
    "Floats",
    "Span",
    "byte_vocabulary",
    "bytes_of_letters",
    "bytes_of_piece",
    "spelled_tokens",
]
