"""A text put together of stored pieces: the most deviating of their tokens are computed again.

KVShare (2025) after CacheBlend (Yao and others, 2024). Layers below `check` are computed for all
tokens. There the new entries show by how much the stored ones deviate. Tokens that are in no piece
and the most deviating others are computed in all layers; the rest keeps what was stored.

A forward has one set of tokens for all its layers. So the first one, over all tokens, is broken off
at the check layer, and the second one begins again with the few that were chosen. Their first
layers are computed twice. For that any family's own forward can be used. `attended` has new tokens
read what is stored before: what they attend to, in all layers, is what should be right.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import Part, attend
from lengthwise.engine.attention.scores import column_sums
from lengthwise.engine.kv_cache.editing import Turner, opened, plain
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.mixed import Enough, recompute, settle

# How the tokens are chosen that are computed again.
CHOICES = ("gradual", "deviating", "attended", "random")
# New tokens, the last ones, that say what is attended to.
ASKING = 64
# CacheBlend's gradual choice: how many times the share are looked at, layer by layer.
GRADUAL = (1.5, 1.25, 1.0)


@dataclass(frozen=True)
class Borrowed:
    """Entries `source : source + length` of a sequence, for tokens of a text from `start` on."""

    sequence: Sequence
    source: int
    start: int
    length: int


@dataclass(frozen=True)
class Choice:
    """Which tokens of pieces are computed again.

    share: of those that are reused elsewhere than in their own place behind their own beginning.
    by: one of CHOICES. check: the layer where deviation is seen. seed: of `random`.
    """

    share: float
    by: str = "gradual"
    check: int = 1
    seed: int = 0


@dataclass
class Blended:
    """A text that was put together.

    exact: tokens of its beginning that are another text's beginning too. reused: tokens found in
    pieces behind them. chosen: those of them that were computed again, int64. stale: the others.
    deviation: float32 `[n]`, |k - stored k| + |v - stored v| at the check layer, 0 where computed.
    """

    sequence: Sequence
    exact: int
    reused: int
    chosen: Tensor
    stale: Tensor
    deviation: Tensor


@dataclass
class _Seen:
    """What a forward that is broken off at a layer shows of it: squared differences of keys and of
    values `[n]`."""

    layer: int
    key: Tensor
    value: Tensor

    def __call__(
        self, layer: LayerCache, query: Tensor, key: Tensor, value: Tensor, rows: Tensor
    ) -> None:
        if layer.facts.index < self.layer:
            return
        tail = layer.groups[0].near.tail
        assert tail is not None
        here = rows.to(self.key.device)
        for new, old, found in ((key, tail.key, self.key), (value, tail.value, self.value)):
            gap = (new.float() - old[:, rows].float()).square().sum((0, 2))
            found[here] = gap.to(found.device)
        # Entries of this layer are as fresh as those below it.
        tail.key[:, rows], tail.value[:, rows] = key, value
        raise Enough


@dataclass
class _Received:
    """Adds up the probability `[n]` that tokens receive from some, over all layers and heads."""

    asking: Tensor
    total: Tensor

    def __call__(
        self, layer: LayerCache, query: Tensor, key: Tensor, value: Tensor, rows: Tensor
    ) -> None:
        asks = torch.isin(rows, self.asking.to(rows.device))
        if not bool(asks.any()):
            return
        facts, tail = layer.facts, layer.groups[0].near.tail
        assert tail is not None
        tail.key[:, rows], tail.value[:, rows] = key, value
        mine, stop = rows[asks], int(rows[asks][-1]) + 1
        distance = mine[:, None] - torch.arange(stop, device=rows.device)
        mask = distance >= 0
        if facts.window is not None:
            mask &= distance < facts.window
        part = Part(query[:, asks], tail.key[:, :stop], tail.value[:, :stop], mask)
        lse = attend([part], facts.scaling, facts.softcap, facts.sinks, need_lse=True)[1]
        assert lse is not None
        found = column_sums(part, lse, facts.scaling, facts.softcap).sum(0)
        self.total[:stop] += found.to(self.total.device)


@torch.no_grad()
def blend(
    empty: Sequence, tokens: Seq[int], pieces: Seq[Borrowed], choice: Choice,
    chunk: int | None = None,
) -> Blended:  # fmt: skip
    """Reads a text of which pieces are known.

    Args:
        empty: a sequence that has read nothing.
        tokens: ids of the text, of which some are in no piece, or the last one is.
        pieces: what is known, by `start`; at least one, none over another. `why_not_movable` has
            nothing against their sequences.
        choice: which of their tokens are computed again.
        chunk: tokens of a forward; None leaves it to the device.
    """
    count, device = len(tokens), empty.model.device
    sequence = opened(pieces[0].sequence, count)
    sequence._observation.expected = empty.expected
    known = _place(sequence, pieces)
    exact = pieces[0].length if pieces[0].start == pieces[0].source == 0 else 0
    exact = min(exact, count - 1)
    reused = known.clone()
    reused[:exact], reused[-1] = False, False
    none = torch.zeros(count, device=device)
    seen = _Seen(choice.check, none, none.clone())
    chosen = torch.zeros_like(reused)
    wanted = round(choice.share * int(reused.sum()))
    if wanted < int(reused.sum()) and choice.check < len(sequence.layers):
        recompute(sequence, tokens, torch.arange(exact, count, device=device), chunk, seen)
        chosen = _chosen(sequence, tokens, ~known, reused, choice, seen, chunk)
    elif wanted:
        chosen = reused.clone()
    fresh = ~known | chosen
    fresh[-1] = True
    fresh[:exact] = False
    states: list[Tensor] | None = None if sequence.noted is None else []
    last = recompute(sequence, tokens, fresh.nonzero()[:, 0], chunk, states=states)
    assert last is not None
    settle(sequence, tokens, last)
    if states is not None:
        sequence.noted = [_noted(pieces, fresh, torch.cat(states))]
    stale = reused & ~fresh
    sequence.stale = bool(stale.any())
    deviation = torch.where(stale, seen.key.sqrt() + seen.value.sqrt(), 0.0)
    return Blended(sequence, exact, int(reused.sum()), (chosen & reused).nonzero()[:, 0],
                   stale.nonzero()[:, 0], deviation)  # fmt: skip


def _place(sequence: Sequence, pieces: Seq[Borrowed]) -> Tensor:
    """Puts entries of pieces where they belong now; bool `[n]`, which tokens have some."""
    model = sequence.model
    known = torch.zeros(len(sequence.layers[0].groups[0].near), dtype=torch.bool)
    for piece in pieces:
        here = slice(piece.start, piece.start + piece.length)
        there = slice(piece.source, piece.source + piece.length)
        known[here] = True
        shift = torch.tensor([piece.start - piece.source], device=model.device)
        turner = Turner(model, shift, sequence.reading)
        for layer, stored in zip(sequence.layers, piece.sequence.layers, strict=True):
            room, tail = layer.groups[0].near.tail, plain(stored)
            assert room is not None
            room.key[:, here] = turner(layer, tail.key[:, there])
            room.value[:, here] = tail.value[:, there]
    return known.to(model.device)


def _chosen(
    sequence: Sequence, tokens: Seq[int], new: Tensor, reused: Tensor, choice: Choice, seen: _Seen,
    chunk: int | None,
) -> Tensor:  # fmt: skip
    """Bool `[n]`: tokens of pieces that are computed again."""
    total = int(reused.sum())
    if choice.by == "random":
        generator = torch.Generator().manual_seed(choice.seed)
        score = torch.rand(len(tokens), generator=generator).to(reused.device)
    elif choice.by == "attended":
        # New tokens read what is stored, in all layers: what they attend to is what matters.
        asking = new.index_fill(0, torch.tensor(len(new) - 1, device=new.device), True)
        rows = asking.nonzero()[:, 0]
        received = _Received(rows[-ASKING:], torch.zeros_like(seen.value))
        recompute(sequence, tokens, rows, chunk, received)
        score = seen.value * received.total
    else:
        score = seen.value
    if choice.by != "gradual":
        return _most(score, reused, round(choice.share * total))
    candidates = reused
    for step, factor in enumerate(GRADUAL):
        if step and choice.check + step < len(sequence.layers):
            # Those that are left show their deviation one layer further up.
            seen.layer = choice.check + step
            recompute(sequence, tokens, (candidates | new).nonzero()[:, 0], chunk, seen)
        candidates = _most(seen.value, candidates, round(min(1.0, choice.share * factor) * total))
    return candidates


def _most(score: Tensor, among: Tensor, count: int) -> Tensor:
    """Bool `[n]`: the highest scores among some."""
    chosen = torch.zeros_like(among)
    chosen[torch.where(among, score, -1.0).topk(count).indices] = True
    return chosen & among


def _noted(pieces: Seq[Borrowed], fresh: Tensor, states: Tensor) -> Tensor:
    """What the head read of every token, `[n, hidden]`: new where computed, as stored elsewhere.

    Of the last token alone where of some piece no more is stored.
    """
    if any(sum(map(len, each.sequence.noted or ())) < len(each.sequence) for each in pieces):
        return states[-1:]
    found = states.new_zeros(len(fresh), states.shape[1])
    for piece in pieces:
        stored = torch.cat(piece.sequence.noted or [])
        found[piece.start : piece.start + piece.length] = stored[
            piece.source : piece.source + piece.length
        ]
    found[fresh] = states
    return found


__all__ = ["CHOICES", "Blended", "Borrowed", "Choice", "blend"]
