"""What the cache asks of a selection: which far entries a block of queries reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries, KVStore


@dataclass(frozen=True)
class Queries:
    """A block of queries that plans together.

    raw: un-rotated `[heads, n, head_dim]`; far: rotated as they reach far keys (equal to the
    ordinary rotation unless the placement says otherwise); index: int64 `[n]` birth ids.
    near: how many near keys precede the block. decoding: a single new token. span: first and last
    birth id. boundary: that of the oldest token that has not become a far one, so that a query with
    birth id i reads at most i + 1 - boundary keys besides far ones. far_at: int64 `[n]`, where
    `far` is rotated to. ends: the newest query is the last that is known to be read before
    something is written. rotate: turns un-rotated queries or keys `[heads, n, head_dim]` to int64
    positions `[n]`.
    """

    raw: Tensor
    far: Tensor
    index: Tensor
    near: int
    decoding: bool
    span: tuple[int, int]
    boundary: int
    far_at: Tensor | None = None
    ends: bool = False
    rotate: Callable[[Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class SelectedKeys:
    """The far entries that a block of queries reads.

    ids: int64 positions in the far store, ascending: `[m]` for all heads, `[kv_heads, m]` or
    `[heads, m]`. mask: bool broadcastable to `[heads, queries, m]`, or None. key_positions `[m]`
    and query_positions `[queries]` place them anew (far keys must be raw then); None leaves the
    placement's.
    """

    ids: Tensor
    mask: Tensor | None = None
    key_positions: Tensor | None = None
    query_positions: Tensor | None = None


class Selector(Protocol):
    """Chooses far entries for blocks of queries; revocable, one object per layer and sequence.

    query_block: queries of a prefill that share a plan, at most as many as the window has (a chunk
        of a prompt is cut into blocks of so many, and each finds what a chunk of that size would);
        None means that prefill reads everything.
    last_alone: a text's last query plans by itself, as decoding would, and not with its block.
    wants_attention_mass: near entries accumulate the probability they receive
        (`KVEntries.attention_mass`, summed over the query heads of a group) until they leave the
        window: from every query (1), from every n-th query of a prompt, weighted n (n), or not at
        all (0).
    """

    query_block: int | None
    last_alone: bool
    wants_attention_mass: int

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        """Entries have just been appended to the far ones.

        Args:
            entries: what was appended.
            far: the store, of which they are the newest.
        """
        ...

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        """What a block of queries reads.

        Args:
            queries: the block.
            far: the far entries, as `extend` has seen them come.

        Returns:
            The far entries that are read; None is all of them.
        """
        ...

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        """Tokens that may be committed before a plan is made afresh that later queries use again.

        Drafts never cross it, so that what a guess finds was found by a committed token.

        Args:
            length: tokens committed so far.
            boundary: as in `Queries`.

        Returns:
            A number of tokens; None is any number.
        """
        ...

    def tensors(self) -> Seq[Tensor | None]:
        """Everything its index holds, for counting bytes."""
        ...
