"""Which tokens may follow which: those that the tokenizer itself would write there.

A model was trained on what its tokenizer wrote, so other sequences of tokens that spell the same
text are none of its texts. A sequence is valid where the tokenizer writes it, in front of nothing
or of something. Many a tokenizer cuts spaces and line ends by what follows them: "\\n\\n" in front
of a word is other tokens than at the end.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence as Seq
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from lengthwise.errors import LengthwiseError
from lengthwise.tokenization.token_bytes import ByteVocabulary, byte_vocabulary

# Tokens in front of a candidate that are written again with it, and of these how many must come
# out the same: the first may not, for nothing is in front of them.
BEHIND, SAME = 6, 3
# What stands behind spaces and line ends to see how they are cut.
_NEXT = ("a", ".", "1", " a", "\na")
_SPACES = b" \t\r\n\x0b\x0c"
# Last bytes of a character that is not complete: some of each kind are enough.
_FIRST, _REST = range(0x80, 0xC0, 3), (0x80, 0x9F, 0xBF)


class Spelling(Protocol):
    """What exact byte laws ask of a tokenizer."""

    vocabulary: ByteVocabulary

    def viable(self, path: Seq[int], tokens: Seq[int]) -> NDArray[np.bool_]:
        """Which tokens may follow a valid sequence, in some text.

        Args:
            path: all tokens of the text before.
            tokens: the candidates.

        Returns:
            bool `[len(tokens)]`.
        """
        ...

    def complete(self, path: Seq[int]) -> bool:
        """Whether the tokenizer writes these tokens where nothing follows.

        Args:
            path: all tokens of the text.
        """
        ...


class TokenizerSpelling:
    """`Spelling` by asking a tokenizer of transformers, a fast one.

    lead: what it puts in front of every text: nothing, or a space.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.vocabulary = byte_vocabulary(tokenizer)
        # One of our own: special tokens written out are text, and nothing is cut or filled.
        self._own = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._own.encode_special_tokens = True
        self._own.no_padding()
        self._own.no_truncation()
        written = self.vocabulary.text(self.encode("a"))
        if written not in (b"a", b" a"):
            raise LengthwiseError(
                f"this tokenizer writes 'a' as {written!r}, so the bytes of its tokens are not "
                "those of the text; take a model whose tokenizer changes nothing"
            )
        self.lead = written[:-1]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens.

        Args:
            text: any.
        """
        return list(self._own.encode(text, add_special_tokens=False).ids)

    def viable(self, path: Seq[int], tokens: Seq[int]) -> NDArray[np.bool_]:
        """See `Spelling`.

        Args:
            path: all tokens of the text before.
            tokens: the candidates.
        """
        before = self._before(path)
        texts = [before.data + (self.vocabulary.spelled[token] or b"") for token in tokens]
        found = self._written(
            before, tokens, texts, [(number, b"") for number in range(len(texts))]
        )
        again = [
            (number, behind)
            for number, text in enumerate(texts)
            if not found[number]
            for behind in _behind(text)
        ]
        return found | self._written(before, tokens, texts, again)

    def complete(self, path: Seq[int]) -> bool:
        """See `Spelling`.

        Args:
            path: all tokens of the text.
        """
        if not path:
            return True
        before, last = self._before(path[:-1]), path[-1]
        text = before.data + (self.vocabulary.spelled[last] or b"")
        return bool(self._written(before, [last], [text], [(0, b"")])[0])

    def _before(self, path: Seq[int]) -> _Before:
        start = max(0, len(path) - BEHIND)
        while start and (self.vocabulary.spelled[path[start]] or b" ")[0] & 0xC0 == 0x80:
            start -= 1
        return _Before(self.vocabulary.text(path[start:]), tuple(path[start:]), not start)

    def _written(
        self, before: _Before, tokens: Seq[int], texts: Seq[bytes],
        tried: Seq[tuple[int, bytes]],
    ) -> NDArray[np.bool_]:  # fmt: skip
        """Which candidates the tokenizer writes, each in front of some of what was tried."""
        found = np.zeros(len(tokens), dtype=bool)
        numbers, given = [], []
        for number, behind in tried:
            data, whole = self._text(before, texts[number])
            try:
                text = (data + behind).decode()
            except UnicodeDecodeError:
                continue
            numbers.append((number, len(behind), whole))
            given.append(text)
        encoded = self._own.encode_batch(given, add_special_tokens=False)
        for (number, more, whole), each in zip(numbers, encoded, strict=True):
            if not found[number]:
                found[number] = self._same(before, tokens[number], each.ids, more, whole)
        return found

    def _text(self, before: _Before, data: bytes) -> tuple[bytes, bool]:
        """What to encode, and whether all of it must come out as it was."""
        if self.lead and data.startswith(self.lead):
            return data[len(self.lead) :], before.first
        return data, before.first and not self.lead

    def _same(self, before: _Before, token: int, ids: Seq[int], more: int, whole: bool) -> bool:
        """Whether tokens end with those before and the candidate, `more` bytes from their end."""
        end = len(ids)
        while more > 0 and end:
            end -= 1
            more -= len(self.vocabulary.spelled[ids[end]] or b"")
        if more:
            return False
        wanted = [*before.tokens, token]
        if whole:
            return list(ids[:end]) == wanted
        # The first token may be another one where nothing is in front of it.
        last = (wanted[1:] if before.first else wanted)[-SAME - 1 :]
        return bool(last) and list(ids[max(0, end - len(last)) : end]) == last


class _Before:
    """The end of the text before a candidate. first: it is all of that text."""

    def __init__(self, data: bytes, tokens: tuple[int, ...], first: bool) -> None:
        self.data, self.tokens, self.first = data, tokens, first


def _behind(text: bytes) -> list[bytes]:
    """What may stand behind a text, to see how its end is cut; nothing where that says nothing."""
    open_bytes = unfinished(text)
    if open_bytes:
        return completions(open_bytes)
    return [each.encode() for each in _NEXT] if text[-1:] in _SPACES and text else []


def unfinished(data: bytes) -> bytes:
    """The bytes of a character at the end whose last ones are missing.

    Args:
        data: what is UTF-8 in front of them.
    """
    for size in range(1, min(3, len(data)) + 1):
        lead = data[-size]
        if lead & 0xC0 == 0x80:
            continue
        needed = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
        return data[-size:] if size < needed else b""
    return b""


def completions(start: bytes) -> list[bytes]:
    """Some ways to complete a character.

    Args:
        start: its first bytes.
    """
    needed = (4 if start[0] >= 0xF0 else 3 if start[0] >= 0xE0 else 2) - len(start)
    rest = [b""]
    for _ in range(needed - 1):
        rest = [each + bytes([byte]) for each in rest for byte in _REST][:3]
    every = range(0x80, 0xC0) if needed == 1 else _FIRST
    return [bytes([byte]) + each for byte in every for each in rest]


def require_utf8(data: bytes) -> None:
    """Refuses bytes that no text has; the last character may be cut.

    Args:
        data: any.

    Raises:
        LengthwiseError: with the place of the first byte that is none.
    """
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError as error:
        raise LengthwiseError(
            f"byte {error.start} is not UTF-8 ({error.reason}); give text, or bytes of a text that "
            "may end within a character"
        ) from None


_SPELLINGS: WeakKeyDictionary[PreTrainedTokenizerBase, TokenizerSpelling] = WeakKeyDictionary()


def spelling_of(tokenizer: PreTrainedTokenizerBase) -> TokenizerSpelling:
    """The spelling of a tokenizer, made once.

    Args:
        tokenizer: a fast one.

    Raises:
        LengthwiseError: for one whose tokens' bytes cannot be told.
    """
    found = _SPELLINGS.get(tokenizer)
    if found is None:
        found = _SPELLINGS[tokenizer] = TokenizerSpelling(tokenizer)
    return found


__all__ = [
    "Spelling", "TokenizerSpelling", "completions", "require_utf8", "spelling_of", "unfinished",
]  # fmt: skip
