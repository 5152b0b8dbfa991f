"""What the checks of codecs share: slices of a book, read, encoded and fed through what is stored.

From the book come slices of 2,048 tokens; of each the first 1,536 are read and encoded, and the
other 512 fed in blocks of 32 through what is stored. `loss` is their mean loss in nats per token,
`KL to full` the mean divergence from full attention's predictions, `top-1 equal` the share of equal
best guesses. `copy loss` is the loss of a list of words that stood in the text before (see
`lengthwise.evaluation.tasks.probes`). `bytes held` is what is held after the 1,536 tokens, as a
share of full. All in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
import torch.nn.functional as F
from benchmarks.reproduction.book import moby_dick
from benchmarks.reproduction.harness import Row, encode, load

from lengthwise.engine.kv_cache.codec import Codec
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.plan import FULL, Plan
from lengthwise.evaluation.tasks.probes import copy_probe
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.recipes import resolve

SLICES = 4
LENGTH = 2048
FED = 512
BLOCK = 32
WINDOW = 32
COLUMNS = {
    "recipe": "", "loss": ".4f", "KL to full": ".4f", "top-1 equal": ".3f", "copy loss": ".4f",
    "bytes held": ".3f",
}  # fmt: skip

Start = Callable[[LayerFacts], Codec | None]


@dataclass
class Sums:
    """Totals over the tokens of all slices."""

    loss: float = 0.0
    kl: float = 0.0
    top1: float = 0.0
    copy: float = 0.0
    bytes: float = 0.0
    tokens: int = 0

    def figures(self, slices: int) -> dict[str, float]:
        """What stands in a row, each figure to four digits."""
        figures = {
            "loss": self.loss / self.tokens, "KL to full": self.kl / self.tokens,
            "top-1 equal": self.top1 / self.tokens, "copy loss": self.copy / slices,
            "bytes held": self.bytes / slices,
        }  # fmt: skip
        return {name: round(value, 4) for name, value in figures.items()}


def recipes(texts: list[str], count: int = SLICES) -> Iterator[Row]:
    """Rows of recipes whose prompt is read as full attention reads it, H2O's notes apart."""
    model = load("bfloat16").adapted
    return compared({recipe: resolve(recipe, model) for recipe in texts}, count)


def codecs(starts: dict[str, Start]) -> Iterator[Row]:
    """Rows of full attention and of each codec over the same slices."""
    return compared({name: Plan(name, codec=start) for name, start in starts.items()})


def compared(others: dict[str, Plan], count: int = SLICES) -> Iterator[Row]:
    """Rows of full attention and of each plan over the same slices, the first `count` of them."""
    model = load("bfloat16")
    book = encode(model, moby_dick())
    plans = {"full": FULL} | others
    sums = {name: Sums() for name in plans}
    for ids in islice(slices(book), count):
        probe = copy_probe(ids, model.tokenizer, LENGTH)
        asked = list(probe.probes[0].suffix), list(probe.probes[0].target), probe.probes[0].skip
        _slice(model.adapted, ids, plans, sums)
        _copies(model.adapted, list(probe.context), asked, plans, sums)
    for name, total in sums.items():
        yield {"recipe": name, **total.figures(count)}


def slices(book: list[int]) -> Iterator[list[int]]:
    step = len(book) // (SLICES + 1)
    return (book[start : start + LENGTH] for start in range(step, step * SLICES + 1, step))


class Readings:
    """Sequences that have read ids, for plans to be forked from: one that sums the probabilities
    that entries receive, for plans that want them, and one that does not."""

    def __init__(self, model: AdaptedModel, ids: list[int]) -> None:
        self.model = model
        self.ids = ids
        self._read: dict[bool, Sequence] = {}

    def fork(self, plan: Plan) -> Sequence:
        """One that goes on under the plan, with the end of the prompt behind it."""
        summing = plan.retention is not None and plan.retention().wants_attention_mass
        if summing not in self._read:
            like = replace(plan, codec=None) if summing else FULL
            self._read[summing] = Sequence(self.model, like, remember=WINDOW)
            prefill(self._read[summing], self.ids)
        sequence = self._read[summing].fork(plan)
        sequence.end_prefill()
        return sequence


def _slice(
    model: AdaptedModel, ids: list[int], plans: dict[str, Plan], sums: dict[str, Sums]
) -> None:
    base, rest = Readings(model, ids[:-FED]), ids[-FED:]
    targets = torch.tensor(rest)
    truth, held = torch.empty(0), 1
    for name, plan in plans.items():
        sequence = base.fork(plan)
        size = sequence.nbytes()
        scores = teacher_force(sequence, rest, BLOCK).float().log_softmax(-1)
        if plan is FULL:
            truth, held = scores, size
        total = sums[name]
        total.loss += float(F.nll_loss(scores, targets, reduction="sum"))
        total.kl += float(F.kl_div(scores, truth, reduction="sum", log_target=True))
        total.top1 += float((scores.argmax(-1) == truth.argmax(-1)).sum())
        total.tokens += len(rest)
        total.bytes += size / held


def _copies(
    model: AdaptedModel, context: list[int], asked: tuple[list[int], list[int], int],
    plans: dict[str, Plan], sums: dict[str, Sums],
) -> None:  # fmt: skip
    suffix, target, skip = asked
    # The cue is read with the text, so that the window of queries is the one that asks.
    base = Readings(model, context + suffix)
    for name, plan in plans.items():
        sequence = base.fork(plan)
        scores = teacher_force(sequence, target, BLOCK).float()[skip:]
        sums[name].copy += float(F.cross_entropy(scores, torch.tensor(target[skip:])))
