"""A chunk of a prompt that goes through the model a few layers at a time.

In between others may write. However long what was read is, and with it a layer of a chunk, nobody
waits for more than some layers; and the chunk stays long, which a short one reads far slower.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from contextlib import nullcontext
from functools import partial

import torch

from lengthwise.engine import loop
from lengthwise.engine.beside import take_back
from lengthwise.engine.kernels.choice import using
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.models.limits import require_positions


class Slices:
    """The chunk, under way.

    sequence: that reads it; nothing else may be done with it meanwhile. tokens: ids, at least one.
    possible: whether this model can rest between layers. seconds: that were spent so far. done:
    whether the sequence has read them, or never will because the model was changed meanwhile.
    Raises Refused where the model has no positions for them.
    """

    def __init__(self, sequence: Sequence, tokens: Seq[int]) -> None:
        model = sequence.model
        sequence.reading = max(sequence.reading, len(sequence) + len(tokens))
        require_positions(model, max(sequence.reading, sequence.expected - 1))
        loop.follow_model(sequence, len(tokens))
        self.sequence, self.tokens = sequence, tokens
        self._metadata = sequence.next_step(len(tokens))
        ids = torch.tensor(tokens, device=model.device)
        last = torch.tensor([len(tokens) - 1], device=model.device)
        attention = partial(sequence.attend, metadata=self._metadata)
        self._layers = model.in_layers(ids, self._metadata.index, attention, last)
        self.possible = self._layers is not None
        self.seconds, self.done = 0.0, False

    @torch.no_grad()
    def advance(self, seconds: float) -> None:
        """Goes through as many layers as that takes, one at least.

        Args:
            seconds: to spend.
        """
        assert self._layers is not None and not self.done
        model, layers = self.sequence.model, 0
        begin = time.perf_counter()
        with nullcontext() if model.kernel is None else using(model.kernel):
            while not self.done:
                try:
                    next(self._layers)
                    loop.synchronize(model.device)
                except StopIteration as end:
                    self._end(end.value)
                except Exception:
                    self.sequence.discard()
                    raise
                layers += 1
                spent = time.perf_counter() - begin
                if spent * (layers + 1) / layers > seconds:
                    break
        self.seconds += time.perf_counter() - begin

    def _end(self, logits: torch.Tensor | None) -> None:
        self.done = True
        if logits is None:
            take_back(self.sequence)
            return
        self.sequence.commit(self._metadata, self.tokens)
        self.sequence.last_logits = logits[-1].clone()


__all__ = ["Slices"]
