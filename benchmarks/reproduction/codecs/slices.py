"""The small checks of the codecs on the real 135M model.

    python -m benchmarks.checks.codecs NAME

prints one JSON line; NAME is int8, kivi, think, think_pairs or think_h2o. From a book come slices
of 2,048 tokens; of each the first 1,536 are read and encoded, and the other 512 fed in blocks of 32
through what is stored. `loss` is their mean loss in nats per token, `kl` the mean divergence from
full attention's predictions, `top1` the share of equal best guesses. `copy` is the loss of a list
of words that stood in the text before (see `lengthwise.tasks.probes`). `bytes` is what is held
after the 1,536 tokens, as a share of full. All in bfloat16.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.reproduction.book import moby_dick
from torch import Tensor

from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.roles import Codec
from lengthwise.engine.sequence import Sequence
from lengthwise.methods.codecs.int8 import Int8
from lengthwise.methods.codecs.kivi import Kivi, KiviCodec
from lengthwise.methods.codecs.pruned import PruneCodec
from lengthwise.methods.codecs.think import Think, ThinkChannels
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.load import load_pretrained
from lengthwise.models.probe import LayerFacts
from lengthwise.recipes import resolve
from lengthwise.tasks.probes import copy_probe

SLICES = 4
LENGTH = 2048
FED = 512
BLOCK = 32
WINDOW = 32

Start = Callable[[LayerFacts], Codec | None]


class PerTokenKeys(KiviCodec):
    """KIVI with keys grouped along tokens, the paper's ablation."""

    key_axis = "token"


class NormChannels(ThinkChannels):
    """ThinK that looks at the keys alone."""

    def scores(self, queries: Tensor, key: Tensor) -> Tensor:
        return key.float().square().mean(1)


class RandomChannels(ThinkChannels):
    """ThinK that drops channels blindly."""

    def scores(self, queries: Tensor, key: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(len(key), key.shape[-1], generator=generator)


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
        each = {name: getattr(self, name) / self.tokens for name in ("loss", "kl", "top1")}
        each |= {"copy": self.copy / slices, "bytes": self.bytes / slices}
        return {name: round(value, 4) for name, value in each.items()}


def int8() -> dict[str, Any]:
    """8 bits against full."""
    return measure({"int8": Int8().start_codec})


def kivi() -> dict[str, Any]:
    """8, 4 and 2 bits, unequal bits of keys and values, and keys grouped the wrong way."""
    recipes = (
        Kivi(bits=8), Kivi(bits=4), Kivi(key_bits=4, value_bits=2),
        Kivi(key_bits=2, value_bits=4), Kivi(bits=2),
    )  # fmt: skip
    starts: dict[str, Start] = {str(m): m.start_codec for m in recipes}
    starts["keys per token, 4 bits"] = lambda layer: PerTokenKeys(4, 4, 32, 128)
    starts["keys per token, 2 bits"] = lambda layer: PerTokenKeys(2, 2, 32, 128)
    return measure(starts)


def think() -> dict[str, Any]:
    """Channels scored by queries and keys, by keys alone, and by nothing."""
    starts: dict[str, Start] = {
        str(m): m.start_codec for m in (Think(ratio=0.2), Think(ratio=0.3), Think(ratio=0.4))
    }
    for name, kind in (("key norm", NormChannels), ("random", RandomChannels)):
        starts[f"{name}, ratio=0.4"] = partial(_fixed, kind)
    return measure(starts)


def _fixed(kind: type[ThinkChannels], layer: LayerFacts) -> PruneCodec:
    return PruneCodec(kind(0.4, 32, WINDOW))


def think_pairs() -> dict[str, Any]:
    """ThinK with KIVI and int8, each beside the format alone."""
    formats = ("int8", "kivi(bits=4)", "kivi(bits=2)")
    return measured([r for f in formats for r in (f, f"think(ratio=0.2) + {f}", f"think + {f}")])


def think_h2o() -> dict[str, Any]:
    """H2O alone, and with ThinK and int8 over what it keeps."""
    kept = "h2o(budget=50%)"
    others = ("think(ratio=0.2)", "think", "int8", "think(ratio=0.2) + int8")
    return measured([kept, *(f"{kept} + {other}" for other in others)])


def measured(recipes: list[str]) -> dict[str, Any]:
    """Figures of recipes whose prompt is read as full attention reads it, H2O's notes apart."""
    model, _ = loaded()
    return compared({recipe: resolve(recipe, model) for recipe in recipes})


def measure(starts: dict[str, Start]) -> dict[str, Any]:
    """Figures of full attention and of each codec over the same slices."""
    return compared({name: Plan(name, codec=start) for name, start in starts.items()})


def compared(others: dict[str, Plan]) -> dict[str, Any]:
    """Figures of full attention and of each plan over the same slices."""
    model, tokenizer = loaded()
    book = tokenizer.encode(moby_dick(), add_special_tokens=False)
    plans = {"full": FULL} | others
    sums = {name: Sums() for name in plans}
    for ids in slices(book):
        probe = copy_probe(ids, tokenizer, LENGTH)
        asked = list(probe.probes[0].suffix), list(probe.probes[0].target), probe.probes[0].skip
        _slice(model, ids, plans, sums)
        _copies(model, list(probe.context), asked, plans, sums)
    figures = {name: total.figures(SLICES) for name, total in sums.items()}
    return {"model": "SmolLM2-135M-Instruct", "dtype": "bfloat16", "length": LENGTH,
            "slices": SLICES, "recipes": figures}  # fmt: skip


def slices(book: list[int]) -> Iterator[list[int]]:
    step = len(book) // (SLICES + 1)
    return (book[start : start + LENGTH] for start in range(step, step * SLICES + 1, step))


class Readings:
    """Sequences that have read ids, for plans to be forked from: one that sums the probabilities
    that entries receive, for plans that want them, and one that does not."""

    def __init__(self, model: Adapted, ids: list[int]) -> None:
        self.model = model
        self.ids = ids
        self._read: dict[bool, Sequence] = {}

    def fork(self, plan: Plan) -> Sequence:
        """One that goes on under the plan, with the end of the prompt behind it."""
        summing = plan.retention is not None and plan.retention().wants_stat
        if summing not in self._read:
            like = replace(plan, codec=None) if summing else FULL
            self._read[summing] = Sequence(self.model, like, remember=WINDOW)
            prefill(self._read[summing], self.ids)
        sequence = self._read[summing].fork(plan)
        sequence.end_prefill()
        return sequence


def _slice(model: Adapted, ids: list[int], plans: dict[str, Plan], sums: dict[str, Sums]) -> None:
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
    model: Adapted, context: list[int], asked: tuple[list[int], list[int], int],
    plans: dict[str, Plan], sums: dict[str, Sums],
) -> None:  # fmt: skip
    suffix, target, skip = asked
    # The cue is read with the text, so that the window of queries is the one that asks.
    base = Readings(model, context + suffix)
    for name, plan in plans.items():
        sequence = base.fork(plan)
        scores = teacher_force(sequence, target, BLOCK).float()[skip:]
        sums[name].copy += float(F.cross_entropy(scores, torch.tensor(target[skip:])))


@cache
def loaded() -> tuple[Adapted, Any]:
    model, tokenizer, _ = load_pretrained(dtype="bfloat16")
    return adapt(model), tokenizer


CHECKS: dict[str, Callable[[], dict[str, Any]]] = {
    "int8": int8, "kivi": kivi, "think": think, "think_pairs": think_pairs, "think_h2o": think_h2o,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in CHECKS:
        print(f"give one of: {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    print(json.dumps({"check": arguments[0], **CHECKS[arguments[0]]()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
