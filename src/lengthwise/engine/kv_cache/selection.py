"""What the cache asks of a selection: which far entries a block of queries reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore


@dataclass(frozen=True)
class Queries:
    """A block of queries that plans together.

    Attributes:
        raw: un-rotated, `[heads, n, head_dim]`.
        far: rotated as they reach far keys, `[heads, n, head_dim]`. This is the ordinary rotation
            unless the placement says otherwise.
        index: int64 `[n]` birth ids.
        near: how many near keys precede the block.
        decoding: a single new token.
        span: first and last birth id.
        boundary: birth id of the oldest token that has not become a far one. So a query with birth
            id i reads at most i + 1 - boundary keys besides far ones.
        far_at: int64 `[n]`, where `far` is rotated to.
        ends: the newest query is the last that is known to be read before something is written.
        rotate: turns un-rotated queries or keys `[heads, n, head_dim]` to int64 positions `[n]`.
        notes: what selectors of earlier layers left for these queries in this forward, by name; and
            where this one may leave something for later layers. It is gone after the forward.
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
    notes: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class SelectedKeys:
    """The far entries that a block of queries reads.

    Attributes:
        ids: int64 positions in the far store, ascending: `[m]` for all heads, `[kv_heads, m]` or
            `[heads, m]`.
        mask: bool, broadcastable to `[heads, queries, m]`, or None.
        key_positions: `[m]`, places the keys anew, which must be stored raw then. None leaves the
            placement's.
        query_positions: `[queries]`, places the queries anew. None leaves the placement's.
    """

    ids: Tensor
    mask: Tensor | None = None
    key_positions: Tensor | None = None
    query_positions: Tensor | None = None


class Selector(Protocol):
    """Chooses far entries for blocks of queries; revocable, one object per layer and sequence.

    Attributes:
        query_block: queries of a prefill that share a plan, at most as many as the window has. A
            chunk of a prompt is cut into blocks of so many. Each block finds what a chunk of that
            size would find. None means that prefill reads everything.
        last_alone: a text's last query plans by itself, as decoding would, and not with its block.
        wants_attention_mass: whether near entries accumulate the probability they receive until
            they leave the window. It stands in `KVEntries.attention_mass`, summed over the query
            heads of a group. 1: from every query. n: from every n-th query of a prompt, weighted n.
            0: not at all.
    """

    query_block: int | None
    last_alone: bool
    wants_attention_mass: int

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        """Entries have just been appended to far.

        Args:
            entries: what was appended. They are the newest of far.
            far: the far entries of one layer.
        """
        ...

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        """Chooses what these queries read of far.

        Args:
            queries: those that plan together.
            far: the far entries of one layer.

        Returns:
            What they read; None is all of far.
        """
        ...

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        """How far off the next plan is that later queries use again.

        Drafts never cross it, so that what a guess finds was found by a committed token.

        Args:
            length: tokens that are committed.
            boundary: as in `Queries`.

        Returns:
            Tokens that may be committed before such a plan is made afresh; None is any number.
        """
        ...

    def tensors(self) -> Seq[Tensor | None]:
        """Everything its index holds, for counting bytes."""
        ...


@runtime_checkable
class PromptSelector(Selector, Protocol):
    """A selector that looks at the whole prompt once, when it is complete, and with all layers.

    First each layer's is shown its own part of the prompt, then they agree. So what all layers have
    found may decide what each of them reads. Codecs encode after that. A prompt that has left
    nothing behind the window is not shown.

    Attributes:
        window: how many of the prompt's last queries it wants.
    """

    window: int

    def index_prompt(self, queries: Tensor, far: KVStore) -> None:
        """The prompt is complete.

        Args:
            queries: its last ones, rotated as they reach far keys, `[heads, up to window,
                head_dim]`.
            far: the far entries of one layer, at least one. Later ones are appended to them.
        """
        ...

    def agree(self, layers: Seq[Self]) -> None:
        """Every layer was shown the prompt; called once, on the selector of the first of them.

        Args:
            layers: the selectors of all layers that have one, in their order.
        """
        ...


@runtime_checkable
class PromptReader(Selector, Protocol):
    """A selector that attends for the queries of a prompt by itself; decoding reads all.

    It is for layers without a window, whose entries all stand in one store. Its `plan` is None and
    its `query_block` too.

    Attributes:
        copied: bytes of keys and values that the last call of `read_prompt` held beside the cache.
    """

    copied: int

    def read_prompt(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor | None:
        """Attention of the tokens of one forward over what its choice leaves of the prompt.

        Args:
            query: rotated, `[heads, n, head_dim]`.
            key: rotated, of all tokens up to the last query's, `[kv_heads, m, head_dim]`.
            value: of the same tokens, `[kv_heads, m, value_dim]`.

        Returns:
            `[heads, n, value_dim]`; None has the queries read everything.
        """
        ...


@runtime_checkable
class RawSelector(Selector, Protocol):
    """A selector whose index is made of un-rotated keys, wherever the far ones stand."""

    def extend_raw(self, key: Tensor) -> None:
        """Entries have just been appended to far; called before `extend`.

        Args:
            key: theirs as they were before rotation, `[kv_heads, n, head_dim]`.
        """
        ...
