"""Where keys and values live: entries that can be appended, moved, dropped and encoded for real.

A store holds the entries of some key heads of one layer, in the order of their birth ids. A birth
id is the index of the token in its sequence; it survives deletion, and a position is made from it
when it is needed. Heads of a store may keep different tokens, but equally many; heads that keep
unequal numbers live in stores of their own. Bytes are those of the tensors that are allocated.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import Deletable, Encoded, KVEntries, concatenate, pick
from lengthwise.engine.kv_cache.taking import every_key, joined, some_entries
from lengthwise.errors import LengthwiseError

_FIELDS = ("key", "value", "index", "log_weight", "attention_mass")
# Shared blocks that a store holds at most when it is frozen: each is a product of every step.
MOST_SHARED = 16


class KVStore:
    """Shared blocks, then encoded ones, oldest first, then a plain tail that grows in place.

    capacity grows by 1/64 of what is held (at least 16 entries), so spare room stays under 2%.
    `reserve` makes room at once where the final length is known. What an observer accumulates for
    encoded entries is kept beside them, so no codec need know of it.

    shared: plain entries that several stores hold by reference, and none writes to. What deletes
    or encodes needs entries of the store's own: see `own`.
    copied: most bytes of keys and values that `take` and `keys` held beside the store, until
    whoever counts them sets it back. What is taken of a tail alone is left out.
    """

    def __init__(self) -> None:
        self.shared: tuple[KVEntries, ...] = ()
        self.closed: list[Encoded] = []
        self._closed_mass: Tensor | None = None
        self._tail: KVEntries | None = None
        self._length = 0
        self.copied = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> KVStore:
        # Rows that step together share memory, of which a copy needs its own part alone.
        new = KVStore()
        new.shared = self.shared
        new.closed = copy.deepcopy(self.closed, memo)
        new._closed_mass = copy.deepcopy(self._closed_mass, memo)
        new._tail = None if self._tail is None else self._tail.clone()
        new._length = self._length
        return new

    def __len__(self) -> int:
        return sum(map(len, self.shared)) + sum(map(len, self.closed)) + self._length

    @property
    def tail(self) -> KVEntries | None:
        """The plain entries, as views."""
        return None if self._tail is None else self._tail.slice(0, self._length)

    @property
    def tail_length(self) -> int:
        return self._length

    @property
    def allocated(self) -> KVEntries | None:
        """The plain entries with the room behind them. It is another object where memory moves."""
        return self._tail

    @property
    def capacity(self) -> int:
        """Plain entries there is room for."""
        return 0 if self._tail is None else self._tail.key.shape[1]

    @property
    def room(self) -> int:
        """Plain entries that can be added without asking for memory."""
        return self.capacity - self._length

    @property
    def key_heads(self) -> int:
        """Key heads of a store that holds something."""
        return (self._tail if self._tail is not None else self.blocks()[0]).key.shape[0]

    @property
    def shared_bytes(self) -> int:
        """Bytes of the shared blocks, which other stores may hold too."""
        return sum(t.numel() * t.element_size() for block in self.shared for t in block.tensors())

    @property
    def offloaded(self) -> int:
        """Bytes held off the device."""
        return 0

    @property
    def is_plain(self) -> bool:
        """Some entries, none of them encoded and none standing for several tokens."""
        plain = [*self.shared, *([] if self._tail is None else [self._tail])]
        return bool(plain) and not self.closed and all(b.log_weight is None for b in plain)

    def nbytes(self) -> int:
        tensors = [t for block in self.closed for t in block.tensors()]
        if self._tail is not None:
            tensors += self._tail.tensors()
        if self._closed_mass is not None:
            tensors.append(self._closed_mass)
        return self.shared_bytes + sum(t.numel() * t.element_size() for t in tensors)

    # What several stores hold.

    def share(self, blocks: Sequence[KVEntries]) -> None:
        """Begins with entries that others hold too.

        Args:
            blocks: plain ones, older than all that is held, in their order.
        """
        self.shared = (*blocks, *self.shared)

    def freeze(self) -> tuple[KVEntries, ...]:
        """Makes all plain entries shared ones, so that a copy of the store costs nothing. Where
        they are more than MOST_SHARED blocks, the smallest neighbours become one.

        Returns:
            The shared blocks.
        """
        tail = self.tail
        if tail is not None and len(tail) and not self.closed and tail.attention_mass is None:
            self.shared = (*self.shared, tail)
            self._tail, self._length = None, 0
        self.shared = joined(self.shared, MOST_SHARED)
        return self.shared

    def own(self, room: int = 0) -> None:
        """Holds shared entries as its own from now on, in a copy.

        Args:
            room: how many more entries to make room for.
        """
        if self.shared:
            self.replace(self.read(), room)

    def reserve(self, like: KVEntries, room: int) -> None:
        """Makes room for more plain entries.

        Args:
            like: entries of the shape they will have.
            room: how many.
        """
        if self._length + room <= self.capacity:
            return
        size = self._length + room
        if self._tail is not None:
            size += max(16, size // 64)
        old = self.tail

        def grow(t: Tensor, before: Tensor | None) -> Tensor:
            fresh = t.new_empty((t.shape[0], size, *t.shape[2:]))
            fresh[:, : self._length] = 0 if before is None else before
            return fresh

        parts = [(getattr(like, n), getattr(old, n, None)) for n in _FIELDS]
        if old is not None and old.index.shape[0] > like.index.shape[0]:
            parts[2] = (like.index.expand(old.index.shape[0], -1), old.index)
        if old is not None and old.log_weight is not None:
            # Entries that stand for one token each may follow some that stand for several.
            parts[3] = (old.log_weight, old.log_weight)
        self._tail = KVEntries(*(None if t is None else grow(t, before) for t, before in parts))  # type: ignore[arg-type]

    def append(self, entries: KVEntries) -> None:
        """Adds plain entries behind those there are.

        Args:
            entries: plain ones of the same heads, newer than all that is held.
        """
        count = len(entries)
        if not count:
            return
        self.reserve(entries, count)
        assert self._tail is not None
        stop = self._length + count
        for name in _FIELDS:
            mine, theirs = getattr(self._tail, name), getattr(entries, name)
            if mine is not None:
                mine[:, self._length : stop] = 0 if theirs is None else theirs
        self._length = stop

    def push(self, key: Tensor, value: Tensor, birth: int) -> tuple[Tensor, Tensor]:
        """Appends one plain entry, as `append` does, in fewer calls.

        Args:
            key: `[heads, 1, head_dim]`.
            value: `[heads, 1, value_dim]`.
            birth: its birth id.

        Returns:
            All keys and all values of the plain tail.
        """
        tail = self._tail
        if tail is None or self._length == tail.key.shape[1]:
            index = torch.tensor([[birth]], dtype=torch.int32, device=key.device)
            self.append(KVEntries(key, value, index))
            tail = self._tail
            assert tail is not None
        else:
            tail.key[:, self._length] = key[:, 0]
            tail.value[:, self._length] = value[:, 0]
            tail.index[:, self._length] = birth
            self._length += 1
        return tail.key[:, : self._length], tail.value[:, : self._length]

    def advance(self, count: int) -> None:
        """Holds entries that were written into the room behind the others.

        Args:
            count: how many.
        """
        self._length += count

    def move(self, memory: KVEntries) -> None:
        """Holds its plain entries in memory of somebody's choice.

        Args:
            memory: room for at least as many entries; what lies in it is overwritten.
        """
        assert self._tail is not None
        for mine, theirs in zip(self._tail.tensors(), memory.tensors(), strict=True):
            theirs[:, : self._length] = mine[:, : self._length]
        self._tail = memory

    def blocks(self) -> list[KVEntries]:
        """All entries as plain blocks, oldest first (encoded ones decoded now)."""
        found = [block.decode() for block in self.closed]
        if self._closed_mass is not None:
            stats = self._closed_mass.split([len(block) for block in self.closed], 1)
            found = [replace(b, attention_mass=mass) for b, mass in zip(found, stats, strict=True)]
        return [*self.shared, *found, *self._plain()]

    def read(self) -> KVEntries | None:
        """All entries in one block; copies where there are several."""
        blocks = self.blocks()
        return concatenate(blocks) if blocks else None

    def index(self) -> Tensor:
        """Birth ids int32 `[1 or heads, n]`."""
        found = [*(block.index for block in self.shared), *(block.index for block in self.closed)]
        if self._tail is not None:
            found.append(self._tail.index[:, : self._length])
        heads = max((i.shape[0] for i in found), default=1)
        return torch.cat([i.expand(heads, -1) for i in found], 1) if found else torch.empty(1, 0)

    def attention_mass(self) -> Tensor | None:
        """What was accumulated for each entry, float32 `[heads, n]`, without decoding any."""
        tail = self.tail
        found = [self._closed_mass, None if tail is None else tail.attention_mass]
        known = [t for t in found if t is not None]
        return torch.cat(known, 1) if known else None

    def add_attention_mass(self, total: Tensor) -> None:
        """Adds to what was accumulated for each entry.

        Args:
            total: float32 `[heads, n]`, one number an entry.
        """
        before = 0
        if self._closed_mass is not None:
            before = self._closed_mass.shape[1]
            self._closed_mass += total[:, :before]
        tail = self.tail
        if tail is not None and len(tail):
            assert tail.attention_mass is not None
            tail.attention_mass.add_(total[:, before:])

    def take(self, ids: Tensor) -> KVEntries:
        """Copies some entries; of encoded ones no others are decoded, where their codec can.

        Args:
            ids: which ones, `[n]` or `[heads, n]`, counted over the whole store.
        """
        if not self.closed and not self.shared:
            assert self._tail is not None
            return self._tail.take(ids)
        found, held = some_entries([*self.shared, *self.closed, *self._plain()], ids)
        self.copied = max(self.copied, held)
        mass = None if self._closed_mass is None else self.attention_mass()
        return found if mass is None else replace(found, attention_mass=pick(mass, ids))

    def keys(self) -> Tensor:
        """The keys of `read`, of at least one entry, without its values."""
        found, held = every_key([*self.shared, *self.closed, *self._plain()])
        self.copied = max(self.copied, held)
        return found

    def _plain(self) -> list[KVEntries]:
        """The tail where it has entries."""
        tail = self.tail
        return [tail] if tail is not None and len(tail) else []

    def replace(self, entries: KVEntries | None, room: int = 0) -> None:
        """Holds exactly these entries, in memory of their own.

        Args:
            entries: what is held from now on; None is nothing.
            room: how many more entries to make room for.
        """
        self.shared, self.closed, self._closed_mass = (), [], None
        self._tail, self._length = None, 0
        if entries is not None and len(entries):
            self.reserve(entries, len(entries) + room)
            self.append(entries)

    def keep(self, ids: Tensor, room: int = 0) -> None:
        """Deletes all entries but some.

        Encoded entries that can be deleted one by one stay encoded. Heads may keep unequal numbers
        of them: what some keep beyond the fewest is held plain, as it decodes.

        Args:
            ids: which ones stay, `[n]` or `[heads, n]`, ascending over the whole store.
            room: how many more entries to make room for.

        Raises:
            LengthwiseError: where encoded entries cannot be deleted one by one.
        """
        self.own()
        # Layers may attend on several devices and be given the same ids.
        ids = ids.to((self.closed[0].index if self._tail is None else self._tail.index).device)
        if not self.closed:
            self.replace(self.take(ids), room)
            return
        block = self.closed[0]
        if len(self.closed) > 1 or not isinstance(block, Deletable):
            raise LengthwiseError(
                f"{type(block).__name__} cannot lose entries while they are encoded: a codec that "
                "declares `deletable` keeps one block with a method `take`"
            )
        attention_mass = self._closed_mass
        fewest = int((ids < len(block)).sum(-1).min())
        rest = self.take(ids[..., fewest:]) if fewest < ids.shape[-1] else None
        stay = ids[..., :fewest]
        self.replace(rest, room)
        if fewest:
            self.closed = [block.take(stay)]
            self._closed_mass = None if attention_mass is None else pick(attention_mass, stay)

    def drop_front(self, count: int) -> None:
        """Deletes the oldest plain entries by moving the rest down in place.

        Args:
            count: how many.
        """
        assert self._tail is not None
        rest = self._length - count
        for t in self._tail.tensors():
            t[:, :rest] = t[:, count : self._length].clone()
        self._length = rest

    def close(self, block: Encoded, count: int, room: int = 0) -> None:
        """The oldest plain entries become an encoded block; what is left is made tight.

        Args:
            block: these entries encoded.
            count: how many they are.
            room: how many more plain entries to make room for, where some are left.
        """
        assert self._tail is not None
        leaving, rest = self._tail.slice(0, count), self._tail.slice(count, self._length)
        stats = [t for t in (self._closed_mass, leaving.attention_mass) if t is not None]
        closed = [*self.closed, block]
        self.replace(rest if len(rest) else None, room)
        self.closed = closed
        if stats:
            self._closed_mass = torch.cat(stats, 1)

    def retract(self, count: int, ids: Tensor | int = 0) -> None:
        """Keeps some of the newest plain entries.

        Args:
            count: how many entries are the newest.
            ids: which of them stay, int64 `[n]`, ascending; or a number, for the first so many,
                which need not be moved.
        """
        base = self._length - count
        if isinstance(ids, int):
            self._length = base + ids
            return
        assert self._tail is not None
        for t in self._tail.tensors():
            t[:, base : base + len(ids)] = t[:, base + ids]
        self._length = base + len(ids)
