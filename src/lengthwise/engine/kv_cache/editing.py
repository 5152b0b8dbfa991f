"""Entries at other places than those they were computed at: keys are turned, values stay.

A rotated key k = R(p) k~ stands at another position after one more rotation: R(q - p) k = R(q) k~.
What entries know of the tokens before them stays what it was, so a cache that was moved is not the
one that reading again gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import Angles, Rope


class Turner:
    """Turns rotated keys on by differences of positions, in float32 at least.

    shift: int64 `[n]`, or `[1]` for all keys alike. The angles are made once for all layers that
    share frequencies. A shift of 0 leaves every bit.
    """

    def __init__(self, model: AdaptedModel, shift: Tensor, length: int) -> None:
        """length: tokens of the text, by which frequencies may be chosen."""
        rope, wide = model.rope, torch.promote_types(model.dtype, torch.float32)
        self._rope = None if rope is None else Rope(rope.own, rope.facts, wide, rope.device)
        self._shift, self._length, self._wide = shift, length, wide
        self._angles: dict[tuple[object, ...], Angles] = {}

    def __call__(self, layer: LayerCache, key: Tensor) -> Tensor:
        """Keys `[heads, n, head_dim]` of a layer, turned."""
        facts = layer.facts
        if self._rope is None or facts.layout is None or not key.shape[1]:
            return key
        which = facts.layout, facts.rotary_type, layer.rule
        if which not in self._angles:
            # A pure rotation: the keys carry their amplitude already.
            self._angles[which] = self._rope.angles(
                facts.layout, facts.rotary_type, self._shift, layer.rule, self._length,
                amplitude=False,
            )  # fmt: skip
        return facts.layout.rotate(key.to(self._wide), self._angles[which]).to(key.dtype)


def why_not_movable(sequence: Sequence, length: int) -> str | None:
    """What keeps the entries of a sequence from being moved to another place.

    Args:
        sequence: between two forwards.
        length: tokens of the text that they are to stand in.

    Returns:
        The reason; None where every token has its plain entries and only rotations tell places.
    """
    model = sequence.model
    if sequence.prompt_length is not None:
        return "it is compressed, and what was kept of a text cannot be told from the text alone"
    if model.rope is None:
        return f"a {model.family!r} model has no rotary positions, so keys cannot be turned"
    if model.rope.switch is not None and model.rope.phase(length) != sequence.read_with:
        return f"this model reads {length:,} tokens with other frequencies"
    if sequence.apart is not None:
        return "it has documents set apart, which stand otherwise than text does"
    if sequence.plan.bias is not None:
        return "its recipe adds to every logit what its distance says"
    if sequence.retention is not None:
        return "its recipe decides by what it read which entries stay"
    for layer in sequence.layers:
        if layer.rule is not None and layer.rule.dynamic:
            return "its frequencies follow the length of the text"
        if (found := _not_plain(layer, len(sequence))) is not None:
            return found
    return None


def _not_plain(layer: LayerCache, length: int) -> str | None:
    group, window = layer.groups[0], layer.facts.window
    own = Placement() if window is None else Placement(window=window, keeps_far=False)
    if len(layer.groups) > 1 or group.selector is not None or group.placement != own:
        return "its recipe places or chooses entries by rules of its own"
    if layer.codec is not None:
        return "its recipe encodes entries"
    if not group.near.is_plain or len(group.near) != length:
        return (
            f"layer {layer.facts.index} of this model keeps a window of {window} tokens, and "
            "earlier ones are gone"
        )
    return None


@dataclass(frozen=True)
class FirstKeys:
    """Keys as they were computed, of all entries from one on.

    A key that is turned again and again is turned from here, so that rounding to 16 bits is done
    once and does not add up.

    start: index of the first entry. home: int64 `[n]`, where each was computed. keys: of every
    layer, `[heads, n, head_dim]`.
    """

    start: int
    home: Tensor
    keys: list[Tensor]

    @property
    def stop(self) -> int:
        """Index behind the last entry."""
        return self.start + len(self.home)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for t in (self.home, *self.keys))

    def until(self, stop: int) -> FirstKeys:
        """Those of entries before one, as views."""
        count = max(0, stop - self.start)
        return FirstKeys(self.start, self.home[:count], [key[:, :count] for key in self.keys])


def first_keys(sequence: Sequence, first: FirstKeys | None, start: int) -> FirstKeys:
    """The keys of entries from one on as they were computed: views where nothing was moved.

    Args:
        sequence: that holds them.
        first: of those that were moved before; None where none were.
        start: index of the first that is wanted.
    """
    device, stop = sequence.model.device, len(sequence)
    held = [plain(layer).key for layer in sequence.layers]
    own = torch.arange(start, stop, device=device)
    if first is None or first.stop <= start:
        return FirstKeys(start, own, [key[:, start:] for key in held])
    skip, low = max(0, start - first.start), max(start, first.start)
    home = torch.cat([own[: low - start], first.home[skip:], own[first.stop - start :]])
    keys = [
        torch.cat([now[:, start:low], then[:, skip:], now[:, first.stop :]], 1)
        for now, then in zip(held, first.keys, strict=True)
    ]
    return FirstKeys(start, home, keys)


def plain(layer: LayerCache) -> KVEntries:
    """All entries of a layer that keeps every token plain; a copy where they lie in pieces.

    Args:
        layer: to be read.
    """
    entries = layer.groups[0].near.read()
    assert entries is not None
    return entries


def opened(sequence: Sequence, length: int) -> Sequence:
    """A sequence of the same plan with room for entries of `length` tokens, none of them filled.

    Args:
        sequence: whose entries are to be placed in it; it is not changed.
        length: tokens there will be.
    """
    new = sequence.empty()
    new.reading, new.read_with, new.stale = length + 1, sequence.read_with, True
    new.lossy, new.given = sequence.lossy, sequence.given
    new.read_again = list(sequence.read_again)
    if sequence.noted is not None:
        new.noted, new.notes_last = [], sequence.notes_last
    for layer, old in zip(new.layers, sequence.layers, strict=True):
        like, near = old.groups[0].near.blocks()[0], layer.groups[0].near
        near.reserve(KVEntries(like.key[:, :0], like.value[:, :0], like.index[:1, :0]), length)
        near.advance(length)
        room = near.tail
        assert room is not None
        room.index[:] = torch.arange(length, device=room.index.device)
    return new


__all__ = ["FirstKeys", "Turner", "first_keys", "opened", "plain", "why_not_movable"]
