"""SAQ: entries in fewer bits the older they are, 16, 8, 4 and 2.

Staircase adaptive quantisation of Fulu Li, "The Nature of Mathematical Modeling and Probabilistic
Optimization Engineering in Generative AI", 2024, arXiv:2410.18441, which proposes it for caches of
multi-query attention. What follows is a reconstruction from the abstract; the formulas are ours.

    age <  a1            16 bits, as it is
    a1 <= age < a2        8 bits
    a2 <= age < a3        4 bits
    a3 <= age             2 bits

Age is the number of newer entries. An entry goes down the stairs from where it is: its 4 bits are
made of its 8 bits, not of what it was, for that is gone; so it bears the errors of all stairs. A
prompt goes down them too when it ends, and what is held does not depend on how it came. Stairs are
taken by G entries at a time, as soon as G are old enough.

Keys are quantised per channel over G tokens, values per token over G channels, with a minimum and a
scale, as in KIVI (`methods/codecs/quantised.py`); with one key head of many query heads that is one
scale for all of these. Thresholds that no entry reaches leave everything as it is.

The oldest entries of all are those that many heads rest on, whatever the text (Xiao et al.,
"Efficient Streaming Language Models with Attention Sinks"). `first` keeps so many of them at 8
bits; 0 is as proposed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.retention import CacheUpdate
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.codecs.quantised import Quantised, QuantisedEntries, group_size
from lengthwise.models.layer_facts import LayerFacts

STAIRS = (8, 4, 2)


@dataclass(frozen=True)
class Saq(Method):
    """a1, a2, a3: ages in tokens from which on entries have 8, 4 and 2 bits."""

    name: ClassVar[str] = "saq"
    question: ClassVar[Question] = Question.CODECS
    paper: ClassVar[Paper] = Paper(
        "The Nature of Mathematical Modeling and Probabilistic Optimization Engineering in "
        "Generative AI",
        "Fulu Li",
        2024,
        arxiv="2410.18441",
    )
    best_known: ClassVar[str] = "saq(first=32)"
    decoding_exact: ClassVar[bool] = False
    shift_exact: ClassVar[bool] = False

    a1: int = option(128, "age in tokens from which on entries have 8 bits", low=1)
    a2: int = option(512, "age in tokens from which on entries have 4 bits", low=1)
    a3: int = option(2048, "age in tokens from which on entries have 2 bits", low=1)
    first: int = option(0, "oldest entries that stay at 8 bits, whole groups of them", low=0)
    group: int = option(32, "numbers that share a scale", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.a1 <= self.a2 <= self.a3:
            raise RecipeError(
                f"saq: ages rise, and a1={self.a1}, a2={self.a2}, a3={self.a3} do not; give "
                "a1 <= a2 <= a3"
            )

    @classmethod
    def identity(cls, length: int) -> Saq:
        return cls(a1=length, a2=length, a3=length)

    @classmethod
    def example(cls) -> Saq:
        return cls(a1=8, a2=24, a3=48, group=8)

    def start_codec(self, layer: LayerFacts) -> SaqCodec:
        first = -(-self.first // self.group) * self.group
        return SaqCodec((self.a1, self.a2, self.a3), self.group, first)

    def bytes_per_token(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Mean bytes of a token in this layer after a prompt of n tokens, birth ids included."""
        return self.start_codec(layer).bytes_held(layer, dtype, n) / n


class SaqCodec:
    """State of one layer: none but the settings. A store has a block of the `first` entries, where
    they are to be spared, then one for each number of bits, the fewest first."""

    window = 0

    def __init__(self, ages: tuple[int, int, int], group: int, first: int = 0) -> None:
        self.ages = ages
        self.group = group
        self.first = first

    def encode(self, store: KVStore, update: CacheUpdate) -> None:
        """Takes what is old enough down its next stair, and on from there.

        Args:
            store: the entries of one group that may be encoded.
            update: when this is called, and with what.
        """
        tail = store.tail
        if tail is None or tail.log_weight is not None:
            return
        total = len(store)
        blocks: list[SaqBlock] = list(store.closed)  # type: ignore[arg-type]
        spared = blocks.pop(0) if self.first and blocks else None
        held = {block.key.bits: block for block in blocks}
        fresh = self.reached(total, self.ages[0]) - (total - len(tail))
        if fresh > 0:
            moved = self.close(tail.slice(0, fresh), STAIRS[0])
            # Room up to the next encoding at once: the plain part never moves in between.
            store.close(moved, fresh, self.group + self.ages[0] - (len(tail) - fresh))
            missing = min(fresh, self.first - (0 if spared is None else len(spared)))
            if missing > 0:
                spared = joined(spared, moved.slice(0, missing))
            if fresh > missing:
                held[STAIRS[0]] = joined(held.get(STAIRS[0]), moved.slice(missing, fresh))
        for bits, fewer, age in zip(STAIRS, STAIRS[1:], self.ages[1:], strict=False):
            lower = sum(len(each) for b, each in held.items() if b < bits)
            count = self.reached(total, age) - self.first - lower
            if bits in held and count > 0:
                self._step_down(held, bits, fewer, count)
        found = [held[bits] for bits in reversed(STAIRS) if bits in held]
        store.closed = [*([] if spared is None else [spared]), *found]

    def _step_down(self, held: dict[int, SaqBlock], bits: int, fewer: int, count: int) -> None:
        """The oldest entries of a block join that of fewer bits, which are made of theirs."""
        block = held.pop(bits)
        moved = self.close(block.slice(0, count).decode(), fewer)
        held[fewer] = joined(held.get(fewer), moved)
        if count < len(block):
            held[bits] = block.slice(count, len(block))

    def close(self, entries: KVEntries, bits: int) -> SaqBlock:
        """Encodes entries.

        Args:
            entries: plain ones, a multiple of the group.
            bits: of a number.
        """
        key = Quantised.make(entries.key, bits, "channel", self.group)
        each = group_size(entries.value.shape[-1], self.group)
        value = Quantised.make(entries.value, bits, "token", each)
        return SaqBlock(key, value, entries.index.clone())

    def reached(self, total: int, age: int) -> int:
        """How many of the oldest entries have taken a stair.

        Args:
            total: entries of a store.
            age: from which on they take it.
        """
        return max(0, (total - age) // self.group * self.group)

    def tokens_until_change(self, store: KVStore) -> int | None:
        """How far off the next stair is.

        Args:
            store: as in `encode`.

        Returns:
            Entries that may join the store before it; None where merged entries rule it out.
        """
        tail, total = store.tail, len(store)
        if tail is not None and tail.log_weight is not None:
            return None
        left = [age + self.reached(total, age) + self.group - total for age in self.ages]
        return max(1, min(left))

    def bytes_held(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Bytes of a layer after a prompt of n tokens, birth ids and spare room included.

        Args:
            layer: facts of the layer.
            dtype: the model's, in which the newest stay.
            n: tokens of the prompt.
        """
        reached = [self.reached(n, age) for age in self.ages]
        plain = n if not reached[0] else self.ages[0] + self.group
        reached = [reached[0], *(max(0, each - self.first) for each in reached[1:]), 0]
        total = plain * (layer.entry_numbers * dtype.itemsize + 4.0)
        for bits, count, less in zip(STAIRS, reached, reached[1:], strict=False):
            total += (count - less) * self._entry_bytes(layer, bits)
        return total

    def _entry_bytes(self, layer: LayerFacts, bits: int) -> float:
        key, value = layer.head_dim, layer.value_dim
        packed = math.ceil(key * bits / 8) + math.ceil(value * bits / 8)
        scales = key / self.group + value / group_size(value, self.group)
        return layer.num_kv_heads * (packed + 4 * scales) + 4


@dataclass(frozen=True)
class SaqBlock(QuantisedEntries):
    """Encoded entries of one number of bits."""


def joined(older: SaqBlock | None, newer: SaqBlock) -> SaqBlock:
    """Two blocks of as many bits as one, where there is an older one."""
    return newer if older is None else older.join(newer)


__all__ = ["Saq"]
