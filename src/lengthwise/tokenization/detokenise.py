"""Tokens turned back into text as they come, up to the first stop string.

The text of a request is always the tokenizer's `decode` of its tokens. What is streamed before the
end is what no further token can change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from lengthwise.errors import LengthwiseError

# What the bytes of a character decode to before all of them are there.
UNFINISHED = "\ufffd"
# A byte that has a token of its own, in vocabularies that fall back on bytes. Whether such bytes
# are text is known only when their run ends: one that is none spoils all of them.
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# Tokens that are decoded again for each new one, at least; more where a run of bytes is open.
_WINDOW = 16
# What `clean_up_tokenization_spaces` may still take back at the end of a text.
_CLEANED = 8


class Finishing(Protocol):
    """What a request is told its end through, such as `engine.request.RequestMetrics`."""

    finish_reason: str


class Incremental:
    """Decodes tokens as they come, at a cost that does not grow with the text.

    special: special tokens are text like any other, and it is left as it was written. ids: what was
    added. text: what they decode to. stable: how many characters of it no further token changes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, special: bool = False) -> None:
        self._tokenizer, self._special = tokenizer, special
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self._specials = {number for number, token in added.items() if token.special}
        self._specials |= set(tokenizer.all_special_ids)
        if special:
            self._specials.clear()
        self._silent: dict[int, bool] = {}
        self._hold = _CLEANED if self._cleans() else 0
        self.ids: list[int] = []
        # Those of them that are decoded: what decoding skips would only make the window longer.
        self._said: list[int] = []
        self.text = ""
        self.stable = 0
        # The window: tokens from start on are decoded together; up to read they are settled, since
        # a decoder treats the first token of what it is given differently.
        self._start = self._read = 0
        self._settled, self._base = "", ""

    def add(self, token: int) -> None:
        """Adds one token.

        Args:
            token: its id.
        """
        self.extend([token])

    def extend(self, tokens: Sequence[int]) -> None:
        """Adds tokens, decoded together.

        Args:
            tokens: ids that follow those added before.
        """
        self.ids.extend(tokens)
        self._said.extend(token for token in tokens if not self._skipped(token))
        window = self._decode(self._start, len(self._said))
        self.text = self._settled + window[len(self._base) :]
        end = self._run()
        whole = end == len(self._said)
        sure = window if whole else self._decode(self._start, max(end, self._read))
        stable = (self._settled + sure[len(self._base) :]).rstrip(UNFINISHED)
        self.stable = max(self.stable, len(stable) - self._hold)
        if whole and end - self._read >= _WINDOW and not self._open(window):
            base = self._decode(self._read, end)
            if base:
                self._settled, self._base = self.text, base
                self._start, self._read = self._read, end

    def _cleans(self) -> bool:
        return not self._special and bool(
            getattr(self._tokenizer, "clean_up_tokenization_spaces", False)
        )

    def _open(self, window: str) -> bool:
        return window.endswith(UNFINISHED)

    def _skipped(self, token: int) -> bool:
        """Whether decoding leaves a token out: a special one, or one of no vocabulary."""
        if token not in self._silent:
            known = self._tokenizer.convert_ids_to_tokens(token) is not None
            skips = token in self._specials or not known
            self._silent[token] = skips and not decode(self._tokenizer, [token], self._special)
        return self._silent[token]

    def _run(self) -> int:
        """Where the run of single bytes at the end begins."""
        end = len(self._said)
        while end > self._read and self._byte(self._said[end - 1]):
            end -= 1
        return end

    def _byte(self, token: int) -> bool:
        return is_byte(self._tokenizer, token)

    def _decode(self, start: int, stop: int) -> str:
        return decode(self._tokenizer, self._said[start:stop], self._special)


def is_byte(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether a token is one byte, of a vocabulary that falls back on bytes.

    Args:
        tokenizer: whose token it is.
        token: its id.
    """
    return bool(_BYTE.fullmatch(str(tokenizer.convert_ids_to_tokens(token))))


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], special: bool = False) -> str:
    """The text of tokens, without special ones.

    Args:
        tokenizer: whose tokens they are.
        ids: the tokens.
        special: with special tokens, and nothing cleaned up.
    """
    if special:
        found = tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
    else:
        found = tokenizer.decode(list(ids), skip_special_tokens=True)
    return str(found)


def whole_characters(
    tokenizer: PreTrainedTokenizerBase | None, ids: Sequence[int], text: str
) -> str:
    """`text` without the beginning of a character at its end whose other bytes were not said.

    Args:
        tokenizer: None leaves the text as it is.
        ids: the tokens that text was decoded from, which tell such a beginning from the character
            that stands for it when a model really says it.
        text: what they were decoded to.
    """
    if tokenizer is None or not text.endswith(UNFINISHED):
        return text
    said = tokenizer.encode(UNFINISHED, add_special_tokens=False)
    while said and not decode(tokenizer, said[:1]).strip():
        said = said[1:]
    if said and list(ids)[-len(said) :] == list(said):
        return text
    return text.rstrip(UNFINISHED)


class TextStream:
    """Decodes as tokens come; a piece is released once no stop string can begin in it.

    Raises LengthwiseError for stop strings where there is no tokenizer to find them with.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        stop: Sequence[str] = (),
        sink: Callable[[str], None] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._stop = [s for s in stop if s]
        if tokenizer is None and (self._stop or sink is not None):
            raise LengthwiseError(
                "stop strings and streamed text need a tokenizer, and this model has none; wrap it "
                "with one, or give stop_ids"
            )
        self._sink = sink
        # Nobody looks at the text before the end where nobody asked for it.
        watched = tokenizer is not None and (self._stop or sink is not None)
        self._decoder = Incremental(tokenizer) if watched and tokenizer is not None else None
        self._released = 0
        self._ended = False

    def add(self, tokens: Sequence[int], metrics: Finishing) -> int:
        """Adds tokens; a stop string ends the request through its metrics.

        Those after the token that completes a stop string do not count. They come with it where
        several were drafted, and would not have been said one by one.

        Args:
            tokens: the new ones.
            metrics: whose `finish_reason` becomes "stop" at a stop string.

        Returns:
            How many of the tokens count.
        """
        if self._ended:
            return len(tokens)
        decoder = self._decoder
        for number, token in enumerate(tokens, 1):
            self._ids.append(token)
            if decoder is None:
                continue
            decoder.add(token)
            if self._cut(decoder.text, self._search_from()) is not None:
                self._ended = True
                metrics.finish_reason = "stop"
                self._release(self._whole())
                return number
        if decoder is not None:
            hold = max((len(s) - 1 for s in self._stop), default=0)
            # A stop string may end in the character whose bytes are still coming.
            self._release(decoder.text[: max(0, min(decoder.stable, len(decoder.text)) - hold)])
        return len(tokens)

    def finish(self) -> str:
        """The whole text; releases what was held back (an unfinished character included)."""
        text = self._whole()
        self._release(text)
        return text

    def _whole(self) -> str:
        if self._tokenizer is None:
            return ""
        text = decode(self._tokenizer, self._ids)
        return text[: self._cut(text, 0)] if self._ended else text

    def _cut(self, text: str, start: int) -> int | None:
        """Where the first stop string begins in text from start on."""
        found = [at for s in self._stop if (at := text.find(s, start)) >= 0]
        return min(found, default=None)

    def _search_from(self) -> int:
        return max(0, self._released - max(map(len, self._stop), default=0))

    def _release(self, text: str) -> None:
        if self._sink is not None and len(text) > self._released:
            self._sink(text[self._released :])
        self._released = max(self._released, len(text))
