"""Bytes cut into the tokens of a tokenizer, those of half a character too.

Another tokenizer's token need not be a text: it may end inside a character, and a sentencepiece
tokenizer puts a space before whatever it is given. So a cut counts if its tokens have the very
bytes that were asked for. Tried are the tokenizer as it is, then its model alone, without what
prepares a text, and last the longest token that fits, again and again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Seq

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lengthwise.tokenization.token_bytes import ByteVocabulary
from lengthwise.tokenization.transplant.dressing import backend_of

_LETTERS = bytes_to_unicode()
_SPACE = "\u2581"
_KEPT = 1 << 18


class Pieces:
    """Cuts by a tokenizer. What was cut once is kept.

    Args:
        tokenizer: a fast one.
        vocabulary: the bytes of its tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: ByteVocabulary) -> None:
        self._tokenizer = backend_of(tokenizer)
        self._tokenizer.encode_special_tokens = True
        self._vocabulary, self._known = vocabulary, dict[bytes, tuple[int, ...]]()
        decoder = json.loads(self._tokenizer.to_str())["decoder"]
        self._letters = '"ByteLevel"' in json.dumps(decoder)

    def cut(self, data: bytes) -> tuple[int, ...]:
        """The tokens that spell some bytes; none where no tokens do.

        Args:
            data: any bytes.
        """
        found = self._known.get(data)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[data] = tuple(self._cut(data))
        return found

    def _cut(self, data: bytes) -> Seq[int]:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        if text:
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
            if self._vocabulary.text(ids) == data:
                return ids
        if self._letters or text:
            word = "".join(_LETTERS[b] for b in data) if self._letters else text.replace(
                " ", _SPACE)  # fmt: skip
            ids = [token.id for token in self._tokenizer.model.tokenize(word)]
            if self._vocabulary.text(ids) == data:
                return ids
        return self._greedy(data)

    def _greedy(self, data: bytes) -> Seq[int]:
        """The longest token that fits, from the first byte on."""
        found, at, vocabulary = [], 0, self._vocabulary
        while at < len(data):
            span, best, size = vocabulary.all, -1, 0
            for depth, byte in enumerate(data[at : at + vocabulary.longest]):
                span = vocabulary.narrow(span, depth, byte)
                if span[0] == span[1]:
                    break
                if vocabulary.lengths[span[0]] == depth + 1:
                    best, size = int(vocabulary.ids[span[0]]), depth + 1
            if best < 0:
                return ()
            found.append(best)
            at += size
        return found


__all__ = ["Pieces"]
