"""The text that encoders of soft contexts are trained on and measured on, and what all checks do.

The default document, Python's language reference: its last tenth is held out. Losses are nats a
token of the same held-out tokens behind nothing, behind soft embeddings and behind the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

from benchmarks.reproduction.harness import load
from torch.optim import Adam

from lengthwise.documents.files import read_document
from lengthwise.soft_contexts.base import Encoder, Example, SoftContext
from lengthwise.training.soft import Settings, fit
from lengthwise.training.soft_data import Held, texts_of
from lengthwise.training.soft_loss import losses_of


class Bench:
    """A model, an encoder that is trained, and examples that are held out."""

    def __init__(self, how: SoftContext, settings: Settings) -> None:
        self.model, self.how, self.settings = load(), how, settings
        self.data: Held = texts_of(self.model, [read_document().text], settings.length)
        self.encoder: Encoder = how.start(self.model.adapted)
        self._optimizer = Adam(self.encoder.parameters(), lr=settings.lr or how.rate)

    def examples(self, stage: str, count: int, seed: int = 1) -> list[Example]:
        """Examples of the text that is held out."""
        assert self.data.held is not None
        chance = Random(seed)
        return [self.how.example(stage, self.data.held, chance) for _ in range(count)]

    def trained(self, stage: str, at: Sequence[int]) -> Iterator[int]:
        """Trains to each of these steps in turn, and says when it is there."""
        yield 0
        for start, stop in pairwise((0, *at)):
            fit(self.encoder, self.how, self.data.train, self.settings, [stage], start,
                self._optimizer, lambda step, record, stop=stop: step < stop)  # fmt: skip
            yield stop

    def loss(self, examples: Sequence[Example], behind: str = "soft") -> float:
        """Nats a token behind "soft" embeddings, the "text" itself, or "without" either."""
        return round(losses_of(self.encoder, examples, 8, [behind])[behind], 4)
