"""KVzip: a list and a text that nobody has asked for yet, at several budgets: see copying.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.retention.copying import AFTER, bench, means
from torch import Tensor

from lengthwise.engine.kv_cache.retention import CacheView, ReadAside
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.retention.h2o import H2O
from lengthwise.methods.retention.kvzip import KVzip, Reconstruction
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

SHARES = (10, 30)
KINDS: dict[str, dict[str, str]] = {"kvzip": {}, "`compete=head`": {"compete": "head"}}
OTHER = "`snapkv(window=8, kernel=31)`"
PROMPT = 2048
PLACES = range(0, 60_000, 10_000)

_FOUND: dict[tuple[object, ...], dict[int, Tensor]] = {}


@dataclass(frozen=True)
class Remembered(KVzip):
    """KVzip that scores a prompt once, for all its budgets."""

    name: ClassVar[str] = "kvzip"

    def start_retention(self, model: AdaptedModel) -> Reconstruction:
        return _Remembered(self)


class _Remembered(Reconstruction):
    def scores(
        self, layers: list[LayerFacts], sequence: CacheView, read: ReadAside
    ) -> dict[int, Tensor]:
        method = self.method
        key = (method.chunk, method.instruct, method.sinks, *sequence.tokens)
        if key not in _FOUND:
            _FOUND[key] = super().scores(layers, sequence, read)
        return {layer: scores.clone() for layer, scores in _FOUND[key].items()}


def share(percent: float) -> Budget:
    return Budget(percent, "%")


@check({"kept": "", **dict.fromkeys(KINDS, ".2f"), OTHER: ".2f"})
def kvzip(shares: tuple[int, ...] = SHARES, length: int = 1024) -> Iterator[Found]:
    """A list that no word of the prompt asks for: one budget for all heads, or one for each."""
    chosen, best = bench(), SnapKV(window=8, kernel=31)
    methods: dict[str, Method | None] = {"full": None}
    for percent in shares:
        for kind, given in KINDS.items():
            methods[f"{kind} {percent}"] = Remembered(budget=share(percent), **given)  # type: ignore[arg-type]
        methods[f"{OTHER} {percent}"] = replace(best, budget=share(percent))
    found = chosen.copies(methods, 0, length=length)
    for percent in shares:
        yield {"kept": f"{percent}%", **{k: found[f"{k} {percent}"] for k in (*KINDS, OTHER)}}
    yield Note(full=found["full"])


SETTINGS: tuple[Method, ...] = (
    Remembered(),
    Remembered(instruct=False),
    Remembered(chunk=512),
    Remembered(chunk=128),
    Remembered(recent=64),
)


@check({"10% of the prompt": "", "loss of the copy": ".2f"})
def settings(percent: int = 10, length: int = 1024) -> Iterator[Found]:
    """What the request, the length of chunks and fixed entries are worth."""
    methods = [replace(each, budget=share(percent)) for each in SETTINGS]  # type: ignore[type-var]
    found = bench().copies({f"`{each}`": each for each in methods}, 0, length=length)
    for name, loss in found.items():
        yield {"10% of the prompt": name, "loss of the copy": loss}


@check({"what is kept": "", "loss": ".3f", "at the six places": ".3f"})
def text(percent: int = 30) -> Iterator[Found]:
    """The 256 tokens after a prompt of 2,048: what is needed at once, not some day."""
    chosen = bench()
    methods: dict[str, Method | None] = {
        "everything": None,
        f"`kvzip(budget={percent}%)`": Remembered(budget=share(percent)),
        f"`kvzip(budget={percent}%, compete=head)`": Remembered(
            budget=share(percent), compete="head"
        ),
        f"`kvzip(budget={percent}%, recent=64)`": Remembered(budget=share(percent), recent=64),
        f"`snapkv(budget={percent}%)`": SnapKV(budget=share(percent)),
    }
    losses: dict[str, list[float]] = {name: [] for name in methods}
    heavy = f"`h2o(budget={percent}%, normalise=true)`"
    losses[heavy] = []
    for start in PLACES:
        ids = chosen.document()[start : start + PROMPT + AFTER]
        read = chosen.read(ids[:PROMPT])
        for name, method in methods.items():
            losses[name].append(chosen.after(read, method, ids[PROMPT:], 0))
        h2o = H2O(budget=share(percent), normalise=True)
        own = chosen.read(ids[:PROMPT], h2o)
        losses[heavy].append(chosen.after(own, None, ids[PROMPT:], 0))
    for name, each in losses.items():
        found = means(each)
        yield {"what is kept": name, "loss": found["mean"], "at the six places": found["each"]}
