"""Tokens turned back into text as they come, up to the first stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from lengthwise.engine.request import Ledger


class TextStream:
    """Decodes incrementally; a piece is released once no stop string can begin in it."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        stop: Sequence[str] = (),
        sink: Callable[[str], None] | None = None,
    ) -> None:
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._tokenizer = tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._stop = [s for s in stop if s]
        self._sink = sink
        self._text = ""
        self._released = 0
        self._ended = False

    def add(self, tokens: Sequence[int], ledger: Ledger) -> int:
        """Adds tokens; a stop string ends the request through its ledger.

        Returns how many of them count: those after the one that completes a stop string, which come
        with it where several were guessed, would never have been said one by one.
        """
        if self._ended or self._tokenizer is None:
            return len(tokens)
        for number, token in enumerate(tokens, 1):
            self._ids.append(token)
            if self._backend is not None:
                self._text += self._decoder.step(self._backend, token) or ""
            elif self._stop or number == len(tokens):
                self._text = str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
            start = self._search_from()
            if found := [at for s in self._stop if (at := self._text.find(s, start)) >= 0]:
                self._text = self._text[: min(found)]
                self._ended = True
                ledger.finish_reason = "stop"
                self._release(len(self._text))
                return number
        self._release(self._safe())
        return len(tokens)

    def finish(self) -> str:
        """The whole text; releases what was held back (an unfinished character included)."""
        if self._tokenizer is not None and not self._ended:
            whole = str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
            if whole.startswith(self._text):
                self._text = whole
        self._release(len(self._text))
        return self._text

    def _search_from(self) -> int:
        return max(0, self._released - max(map(len, self._stop), default=0))

    def _safe(self) -> int:
        """How much of the text no stop string can reach back into."""
        hold = max((len(s) - 1 for s in self._stop), default=0)
        return max(self._released, len(self._text) - hold)

    def _release(self, upto: int) -> None:
        if self._sink is not None and upto > self._released:
            self._sink(self._text[self._released : upto])
        self._released = max(self._released, upto)
