"""Another prompt, or another model, that is read along with what is written.

No method of its own: contrasts and routers ask it for its logits behind a path of tokens. It reads
what it has missed when it is asked, in one forward, at the positions where it stands.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Seq

from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import CHUNK, extend, prefill
from lengthwise.models.adapted_model import AdaptedModel

# Paths that are remembered, the latest; a search asks of many, plain writing of one.
LINES = 8


class Reading:
    """What a model says behind a prompt of its own and the tokens written so far.

    Nothing is read before it is asked. asked: how often that was. read: tokens that were read
    behind the prompt. caught_up: of these, all but the last of each forward.
    """

    def __init__(self, model: AdaptedModel, prompt: Seq[int], limit: int) -> None:
        """limit: most tokens that will be written."""
        self.model, self.prompt, self.limit = model, list(prompt), limit
        self.asked = self.read = self.caught_up = 0
        self._base: Sequence | None = None
        self._lines: OrderedDict[int, Sequence] = OrderedDict()
        self._made = 0

    def logits(self, written: Seq[int]) -> Tensor:
        """Logits `[vocab]` of the token behind the prompt and `written`, the model's own.

        Args:
            written: ids behind the prompt.
        """
        self.asked += 1
        line = self._line(written)
        missed = list(written[len(line) - len(self.prompt) :])
        for start in range(0, len(missed), self._most(line)):
            part = missed[start : start + self._most(line)]
            (logits,), (metadata,) = extend([(line, part, None)])
            line.commit(metadata, part)
            line.last_logits = logits[-1].clone()
        self.read += len(missed)
        self.caught_up += max(0, len(missed) - 1)
        assert line.last_logits is not None
        return line.last_logits

    def held(self) -> list[Sequence]:
        """The sequences that hold entries now."""
        return [*([] if self._base is None else [self._base]), *self._lines.values()]

    def _line(self, written: Seq[int]) -> Sequence:
        """The longest sequence that reads on to `written`; that of the prompt has a fork made."""
        begin = len(self.prompt)
        best: int | None = None
        for number, line in self._lines.items():
            known = line.tokens_from(begin)
            if known == list(written[: len(known)]) and (
                best is None or len(line) > len(self._lines[best])
            ):
                best = number
        if best is None:
            best, self._made = self._made, self._made + 1
            self._lines[best] = self._prompt_read().branch()
            if len(self._lines) > LINES:
                self._lines.popitem(last=False)
        self._lines.move_to_end(best)
        return self._lines[best]

    def _prompt_read(self) -> Sequence:
        if self._base is None:
            self._base = Sequence(self.model, expected=len(self.prompt) + self.limit)
            prefill(self._base, self.prompt)
            self._base.end_prefill()
        return self._base

    def _most(self, line: Sequence) -> int:
        limits = [CHUNK, line.tokens_until_change(), line.max_block()]
        return max(1, min(limit for limit in limits if limit is not None))


def fitted(logits: Tensor, scores: Tensor) -> Tensor:
    """Logits of another model or prompt in the shape of this one's, float32 `[vocab]`.

    Rows of weights that fill a vocabulary up stand for no token. What an earlier law forbids stays
    forbidden.

    Args:
        logits: `[other vocab]`.
        scores: `[vocab]`, what a law was given.
    """
    found = scores.new_full(scores.shape, float("-inf"))
    size = min(len(logits), len(scores))
    found[:size] = logits[:size].to(scores.device, scores.dtype)
    return found.masked_fill(scores.isneginf(), float("-inf"))


__all__ = ["Reading", "fitted"]
