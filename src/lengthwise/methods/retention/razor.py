"""RazorAttention: a few retrieval heads keep everything, the others a short cache.

Tang et al., "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads", ICLR 2025,
arXiv:2407.15891.

Few heads look far back; these keep everything. The others keep N0 sinks and a buffer of the latest
L_h = max(S0, N / C) tokens. They also keep one compensation entry: the mean of the N_d dropped keys
and values. It counts N_d times in their softmax:

    k^ = mean(k_d),  v^ = mean(v_d),  its logit = q k^ / sqrt(d) + log N_d

Tokens that leave the buffer while decoding are added to the means. Retrieval heads are found once
for a model, on repeated random tokens (`lengthwise calibrate razor`). Over all layers, one in
fifteen of the retrieval heads is chosen by its echo score, the others by their induction score.

Ours: means are kept as float32 sums. The buffer moves in small runs (a 64th of itself), so heads
hold up to that much more than L_h. Heads are searched on two repeats, not four, and under the
model's own frequencies.

Defaults are the paper's: 15% of the heads, N0 = 4, S0 = 4,000, C = 5. With these a prompt of 4,000
tokens is left whole. A small model needs a smaller S0 to gain anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries, concatenate
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.retention import CacheUpdate, CacheView, Phase
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.calibration import retrieval_heads
from lengthwise.methods.retention.counting import full_layers, needs_full_layers

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel

# Of 15 retrieval heads one is chosen by its echo score.
ECHO = 1 / 15


@dataclass(frozen=True)
class Razor(Method):
    """Retrieval heads keep everything, the others a buffer and the mean of the rest."""

    name: ClassVar[str] = "razor"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads",
        "Tang et al.",
        2025,
        arxiv="2407.15891",
        venue="ICLR",
    )
    frozen_positions: ClassVar[bool] = True
    ordinary_only: ClassVar[bool] = True
    best_known: ClassVar[str] = "razor(buffer=256, compensate=false)"

    heads: float = option(0.15, "share of key heads that keep everything", low=0.0, high=1.0)
    buffer: int = option(4000, "latest tokens other heads keep at least (S0)", low=1)
    share: float = option(0.2, "share of the prompt they keep at least (1/C)", low=0.0, high=1.0)
    sinks: int = option(4, "first tokens they keep (N0)", low=0)
    compensate: bool = option(True, "one entry stands for all that is dropped")

    @classmethod
    def identity(cls, length: int) -> Razor:
        return cls(buffer=length)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> Razor:
        # At most half of the bytes belong to heads that keep everything.
        heads = min(self.heads, share / 2)
        others = (share - heads) / (1 - heads) if heads < 1 else 0.0
        return replace(self, heads=round(heads, 4), buffer=1, share=round(others, 4))

    def check(self, model: AdaptedModel) -> None:
        needs_full_layers(self.name, model)
        retrieval_heads(model)

    def start_retention(self, model: AdaptedModel) -> _Razor:
        return _Razor(self, model)


def choose_heads(echo: Tensor, induction: Tensor, share: float) -> Tensor:
    """Bool `[heads]` from scores `[heads]`: the best of each, `share` of all heads in union."""
    count = len(echo)
    chosen = torch.zeros(count, dtype=torch.bool)
    by_echo = math.ceil(count * share * ECHO)
    chosen[echo.topk(by_echo).indices] = True
    # A product such as 0.07 x 100 may come out a hair above the whole number it stands for.
    wanted = max(by_echo, math.ceil(count * share - 1e-9))
    chosen[induction.masked_fill(chosen, -1.0).topk(wanted - by_echo).indices] = True
    return chosen


class _Razor:
    """table: by layer, which key heads keep everything."""

    window = 0
    wants_attention_mass = False
    wants_token_nll = False

    def __init__(self, method: Razor, model: AdaptedModel) -> None:
        self.method = method
        layers = [layer.index for layer in full_layers(model)]
        scores = retrieval_heads(model)
        echo, induction = (
            torch.tensor([score for i in layers for score in scores[name][i]])
            for name in ("echo", "induction")
        )
        chosen = choose_heads(echo, induction, method.heads)
        rows = chosen.split([model.layers[i].num_kv_heads for i in layers])
        self.table = dict(zip(layers, rows, strict=True))

    def retain(self, group: HeadGroup, update: CacheUpdate) -> list[HeadGroup] | None:
        if update.phase is not Phase.PREFILL:
            return None
        length = len(update.sequence)
        keeps = self.table[update.layer.index].to(update.layer.device)
        if bool(keeps.all()):
            return None
        buffer = max(self.method.buffer, math.ceil(length * self.method.share))
        entries = group.near.tail
        assert entries is not None
        if not bool(keeps.any()):
            return [self._slide(entries, None, buffer)]
        full, others = keeps.nonzero()[:, 0], (~keeps).nonzero()[:, 0]
        kept = HeadGroup(group.placement, full)
        kept.near.replace(entries.heads(full))
        return [kept, self._slide(entries.heads(others), others, buffer)]

    def _slide(self, entries: KVEntries, heads: Tensor | None, buffer: int) -> HeadGroup:
        on_evict = OnEvict(self.method.sinks, self.method.compensate)
        group = HeadGroup(Placement(window=buffer, anchored=True), heads, on_evict=on_evict)
        gone = max(0, (len(entries) - buffer + 1) // group.slack * group.slack)
        if gone:
            on_evict(group, entries.slice(0, gone))
        group.near.replace(entries.slice(gone, len(entries)), room=group.slack)
        group.near_start = gone
        return group

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        if sequence.prompt_length is None:
            return None
        groups = [group for index in self.table for group in sequence.head_groups(index)]
        found = [group.tokens_until_change(len(sequence)) for group in groups]
        return min((room for room in found if room is not None), default=None)


@dataclass
class OnEvict:
    """What happens to entries that leave the buffer: sinks stay, the rest go into one mean.

    key_sum, value_sum: float32 `[heads, 1, dim]`, sums over the `dropped` entries.
    """

    sinks: int
    compensate: bool
    dropped: int = 0
    key_sum: Tensor | None = None
    value_sum: Tensor | None = None

    def __call__(self, group: HeadGroup, leaving: KVEntries) -> None:
        """Puts entries `[heads, n, ...]`, the oldest of the buffer, where they belong in `far`."""
        stay = int((leaving.index[0] < self.sinks).sum())
        held = group.far.read()
        first = min(self.sinks, int(leaving.index[0, 0]))
        found = [] if held is None else [held.slice(0, first)]
        found.append(leaving.slice(0, stay))
        gone = leaving.slice(stay, len(leaving))
        if self.compensate and len(gone):
            self._add(gone)
            found.append(self._mean(gone))
        group.far.replace(concatenate(found))

    def nbytes(self) -> int:
        return sum(t.nbytes for t in (self.key_sum, self.value_sum) if t is not None)

    def _add(self, gone: KVEntries) -> None:
        key, value = (x.float().sum(1, keepdim=True) for x in (gone.key, gone.value))
        self.key_sum = key if self.key_sum is None else self.key_sum + key
        self.value_sum = value if self.value_sum is None else self.value_sum + value
        self.dropped += len(gone)

    def _mean(self, like: KVEntries) -> KVEntries:
        assert self.key_sum is not None and self.value_sum is not None
        key = (self.key_sum / self.dropped).to(like.key.dtype)
        value = (self.value_sum / self.dropped).to(like.value.dtype)
        weight = torch.full(key.shape[:2], math.log(self.dropped), device=key.device)
        return KVEntries(key, value, like.index[:, -1:], weight)


__all__ = ["OnEvict", "Razor", "choose_heads"]
