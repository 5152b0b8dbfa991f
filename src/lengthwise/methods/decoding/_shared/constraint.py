"""The law that a grammar makes of a model's: masked where the text would leave the language."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import ConstraintError
from lengthwise.methods.decoding._shared.closing import FAR, SPARE, Closing
from lengthwise.methods.decoding._shared.matcher import Matcher

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.sequence import Sequence


# A text's end may come nearer by so many tokens with each that is written.
GROWTH = 4
# Tokens that are written towards the end before it is looked at again how far it is.
AGAIN = 16


@dataclass(frozen=True)
class _End:
    """Whether a text has to come to its end now. look: the place that looks again."""

    near: bool
    look: int


class GrammarLaw(NextTokenLaw):
    """Masks what a grammar forbids.

    closing: brings a text to its end in time; None leaves it to the model.
    """

    def __init__(self, name: str, matcher: Matcher, closing: Closing | None = None) -> None:
        self.name, self.matcher, self.closing = name, matcher, closing
        self._window, self._first_closed = 0, -1
        self._looked: dict[tuple[int, int], _End] = {}
        self.stop_ids: list[int] = []
        self.limit = 0
        self.seconds, self.asked = 0.0, 0
        self._notes: list[str] = []

    def begin(self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        self.limit, self.stop_ids = limit, list(stop_ids)
        self._looked.clear()
        if self.closing is not None:
            # What a text opens takes about as long to end as a text of its own.
            self._window = 2 * self.closing.steps(self.matcher, [], FAR) + 32

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        begin = time.perf_counter()
        scores = scores.masked_fill_(
            ~self.allowed(len(scores), written).to(scores.device), -torch.inf
        )
        self.seconds += time.perf_counter() - begin
        self.asked += 1
        return scores

    def allowed(self, count: int, written: Seq[int]) -> Tensor:
        """bool `[count]`: the tokens that may follow, those that end the text among them.

        Args:
            count: tokens of the vocabulary.
            written: ids behind the prompt.

        Raises:
            ConstraintError: where none may.
        """
        matcher, place = self.matcher, len(written)
        if not matcher.go(written):
            why = matcher.error or "the text before it is not of the grammar"
            raise ConstraintError(f"{self.name}: nothing may follow token {place}: {why}")
        found = matcher.allowed(count).clone()
        # A stop token may be one that the grammar's own texts have: choosing it ends the text.
        found[self.stop_ids] = matcher.whole
        if not found.any():
            why = matcher.error or "no token of this vocabulary goes on, and the text is not whole"
            if matcher.whole:
                why = "the text is whole, and there is no stop token to end it with"
            raise ConstraintError(f"{self.name}: nothing may follow token {place}: {why}")
        return self._closed(found, written) if self.limit - place <= self._window else found

    def _closed(self, found: Tensor, written: Seq[int]) -> Tensor:
        """The tokens that bring the text to its end, where few are left for it."""
        assert self.closing is not None
        if not self._end(written).near:
            return found
        self.matcher.go(written)
        if self.matcher.whole and self.stop_ids:
            end = torch.zeros_like(found)
            end[self.stop_ids] = True
            return end
        if self._first_closed < 0 or len(written) < self._first_closed:
            self._first_closed = len(written)
        found[self.stop_ids] = False
        return self.closing.narrowed(found, self.closing.in_string(written))

    def _end(self, written: Seq[int]) -> _End:
        """Whether the end is near behind a path, which follows from the path alone.

        To look how far it is takes a walk to the end, so that is done the more seldom the more room
        is left: each place says when the next one looks.
        """
        path = tuple(written)
        first = max(0, self.limit - self._window)
        place = len(path)
        while place > first and (place, hash(path[:place])) not in self._looked:
            place -= 1
        end = self._looked.get((place, hash(path[:place])))
        while end is None or place < len(path):
            place = first if end is None else place + 1
            if end is None or place >= end.look:
                end = self._look(path[:place])
            self._looked[place, hash(path[:place])] = end
        return end

    def _look(self, path: Seq[int]) -> _End:
        assert self.closing is not None
        left = self.limit - len(path)
        room = left - SPARE - self.closing.steps(self.matcher, path, left)
        near = room <= 0
        return _End(near, len(path) + (AGAIN if near else max(1, room // GROWTH)))

    def ends(self, written: Seq[int]) -> bool:
        return self.matcher.go(written) and self.matcher.over

    def forced(self, written: Seq[int]) -> Seq[int]:
        return self.matcher.forced() if self.matcher.go(written) else ()

    def finish(self, written: Seq[int]) -> None:
        if 0 <= self._first_closed < len(written):
            self._notes.append(
                f"{self.name}: from token {self._first_closed} on the text was brought to its end, "
                f"for max_new_tokens={self.limit} was near; allow more, or bound what may be long"
            )
        if self.matcher.go(written) and self.matcher.whole:
            return
        ended = (
            f"max_new_tokens={self.limit} ended it" if len(written) >= self.limit else "it ended"
        )
        self._notes.append(
            f"{self.name}: the text is not whole: {ended} before the grammar was satisfied; "
            "allow more tokens, or a grammar that bounds its texts"
        )

    @property
    def notes(self) -> Seq[str]:
        return self._notes

    @property
    def figures(self) -> dict[str, float]:
        return {f"{self.name}: seconds": self.seconds, f"{self.name}: tokens asked": self.asked}


__all__ = ["GrammarLaw"]
