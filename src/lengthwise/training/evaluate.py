"""Validation by document and by position.

Documents come from the token store of a built data set, so they are whole and unpacked whatever
the method: models trained on differently built rows are measured on the same thing. The longest
prefix allowed is read, and each token is predicted from all those before it; of a prompt with its
answer, each token of the answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lengthwise.sequences.files import digest
from lengthwise.sequences.store import tokens_in
from lengthwise.sequences.token_store import PROMPTS, TokenStore
from lengthwise.training.config import TrainingError
from lengthwise.training.data import IGNORED, Batch
from lengthwise.training.model import learned_positions
from lengthwise.training.parallel import Ranks
from lengthwise.training.step import token_losses

FIRST = 32
"""Positions in the first bucket; each further one ends at twice the position."""


@dataclass(frozen=True)
class Evaluation:
    """Losses in nats. per_token: mean over all predicted tokens. per_document: mean over documents
    of their means. by_position: mean of the positions from each key to the next one's."""

    per_token: float
    per_document: float
    by_position: dict[int, float]
    tokens: int
    documents: int

    def record(self) -> dict[str, Any]:
        """As a record of the log; `L` is the name that scaling laws have for it."""
        positions = {str(start): loss for start, loss in self.by_position.items()}
        return {
            "L": self.per_token, "L_document": self.per_document, "documents": self.documents,
            "predicted": self.tokens, "by_position": positions,
        }  # fmt: skip


class Validation:
    """The first `documents` documents of the data set in `folder`, `max_length` tokens of each.

    Raises TrainingError where the data set has no token store or no document of two tokens.
    """

    def __init__(
        self, folder: Path, documents: int, max_length: int, tokens_per_batch: int
    ) -> None:
        place = tokens_in(folder)
        if not (place / "store.json").is_file():
            raise TrainingError(
                f"data.validation: {folder} has no token store ({place.name}/), which validation "
                "reads documents from: build it without --tokens"
            )
        store = TokenStore(place)
        # Of its tokens and of where documents end: of all that is measured.
        measured = [n for n in ("tokens.bin", "ends.bin", PROMPTS) if n in store.facts["sha256"]]
        self.checksum = digest([store.facts["sha256"][name] for name in measured])
        numbers = np.arange(min(documents, store.documents), dtype=np.int64)
        starts, lengths = store.spans(numbers)
        lengths = np.minimum(lengths, max_length)
        order = np.argsort(lengths, kind="stable")
        prompts = store.prompts(numbers)
        read = np.ones_like(lengths) if prompts is None else prompts
        order = order[lengths[order] > np.maximum(read[order], 1)]
        if not len(order):
            what = "document of two tokens" if prompts is None else "answer within max_length"
            raise TrainingError(f"data.validation: {folder} has no {what}")
        self.max_length = int(lengths.max())
        self._store, self._starts, self._lengths, self._read = store, starts, lengths, read
        self._batches: list[NDArray[np.int64]] = []
        first = 0
        for end in range(1, len(order) + 1):
            # Sorted by length, so the next one would be the longest.
            full = end < len(order) and (end + 1 - first) * lengths[order[end]] > tokens_per_batch
            if full or end == len(order):
                self._batches.append(order[first:end])
                first = end

    def check_positions(self, config: Any) -> None:
        """Raises TrainingError for a model that does not know the positions of the longest one."""
        learned, longest = learned_positions(config), self._lengths[self._batches[-1]].max()
        # The last token is only a target.
        if learned and learned < longest - 1:
            raise TrainingError(
                f"the model has {learned:,} learned positions and data.validation is read up to "
                f"{longest:,} tokens: set evaluation.max_length to {learned}"
            )

    @torch.no_grad()
    def run(self, model: nn.Module, ranks: Ranks) -> Evaluation:
        """Losses of the model as it is. All ranks call it together and get the same."""
        sums = np.zeros(self.max_length), np.zeros(self.max_length)
        means = 0.0
        documents = 0
        training = model.training
        model.eval()
        # Sharded models need all ranks in every forward pass: some repeat a batch and drop it.
        for first in range(0, len(self._batches), ranks.world):
            number = first + ranks.rank
            batch = self._batch(self._batches[min(number, len(self._batches) - 1)])
            with ranks.autocast():
                losses = token_losses(model, batch.to(ranks.device)).cpu().double().numpy()
            if number >= len(self._batches):
                continue
            counted = batch.targets.numpy() != IGNORED
            length = counted.shape[1]
            sums[0][:length] += losses.sum(axis=0)
            sums[1][:length] += counted.sum(axis=0)
            means += float((losses.sum(axis=1) / counted.sum(axis=1)).sum())
            documents += len(losses)
        model.train(training)
        found = np.array(ranks.total(means, documents, *sums[0], *sums[1]))
        return _summary(found[2 : 2 + self.max_length], found[2 + self.max_length :], *found[:2])

    def _batch(self, documents: NDArray[np.int64]) -> Batch:
        lengths = self._lengths[documents]
        inputs = np.zeros((len(documents), int(lengths.max()) - 1), np.int64)
        targets = np.full_like(inputs, IGNORED)
        ids = self._store.gather(self._starts[documents], lengths)
        for r, one in enumerate(np.split(ids, np.cumsum(lengths)[:-1])):
            inputs[r, : len(one) - 1] = one[:-1]
            targets[r, : len(one) - 1] = one[1:]
            targets[r, : self._read[documents[r]] - 1] = IGNORED
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))


def _summary(
    losses: NDArray[np.float64], counts: NDArray[np.float64], means: float, documents: float
) -> Evaluation:
    by_position = {}
    start, end = 0, FIRST
    while start < len(counts) and counts[start:].sum():
        if counts[start:end].sum():
            by_position[start] = float(losses[start:end].sum() / counts[start:end].sum())
        start, end = end, 2 * end
    tokens = counts.sum()
    return Evaluation(
        float(losses.sum() / tokens), float(means / documents) if documents else math.nan,
        by_position, int(tokens), int(documents),
    )  # fmt: skip
