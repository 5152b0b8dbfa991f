"""What the engine asks of methods while a sequence runs. Methods implement these; none is a
must."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence as Seq
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from lengthwise.engine.policy import Pace

if TYPE_CHECKING:
    from lengthwise.engine.entries import Entries, Growing, Segment
    from lengthwise.engine.group import Group
    from lengthwise.engine.sampling import Sampling
    from lengthwise.engine.sequence import Sequence
    from lengthwise.engine.tree import Tree
    from lengthwise.models.probe import LayerFacts


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
class Choice:
    """The far entries that a block of queries reads.

    ids: int64 positions in the far segment, ascending: `[m]` for all heads, `[kv_heads, m]` or
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
    wants_stat: near entries accumulate the probability they receive (`Entries.stat`, summed over
        the query heads of a group) until they leave the window: from every query (1), from every
        n-th query of a prompt, weighted n (n), or not at all (0).
    """

    query_block: int | None
    last_alone: bool
    wants_stat: int

    def extend(self, entries: Entries, far: Segment) -> None:
        """Entries have just been appended to far (they are its newest)."""
        ...

    def plan(self, queries: Queries, far: Segment) -> Choice | None:
        """What these queries read of far; None is all of it."""
        ...

    def room(self, length: int, boundary: int) -> int | None:
        """Tokens that may be committed after `length` ones before a plan is made afresh that later
        queries use again; None is any number. boundary: as in `Queries`.

        Drafts never cross it, so that what a guess finds was found by a committed token.
        """
        ...

    def tensors(self) -> Seq[Tensor | None]:
        """Everything its index holds, for counting bytes."""
        ...


@dataclass(frozen=True)
class Moment:
    """When a retention or codec is called, and with what.

    kind: "chunk" (a part of the prompt was read), "prefill" (the whole prompt was read) or "step"
    (tokens were committed while decoding). layer: facts. queries: the last queries of the prompt as
    near keys see them, `[heads, at least window, head_dim]` (fewer where the prompt is shorter), at
    "prefill" where a retention or codec asked for a window; their birth ids in query_index int64. A
    codec gets only the heads that read the segment it is given.
    """

    kind: str
    layer: LayerFacts
    sequence: Sequence
    queries: Tensor | None = None
    query_index: Tensor | None = None


class Retention(Protocol):
    """Deletes or merges entries, irrevocably; one object per sequence.

    window: how many of the prompt's last queries it wants at the end of prefill (0: none).
    wants_stat: entries accumulate the probability they receive from every query.
    wants_surprise: `Sequence.surprise` is filled with -log p of every token.
    """

    window: int
    wants_stat: bool
    wants_surprise: bool

    def retain(self, group: Group, moment: Moment) -> Seq[Group] | None:
        """Changes the group in place, or returns the groups that replace it."""
        ...

    def room(self, sequence: Sequence) -> int | None:
        """Tokens that may be committed before the next deletion; None is any number.

        Drafts never cross it, so that drafting sees the cache that plain decoding would see.
        """
        ...


class Codec(Protocol):
    """Encodes entries in place; one object per layer and sequence.

    window: how many of the prompt's last queries it wants at the end of prefill (0: none).
    """

    window: int

    def encode(self, segment: Segment, moment: Moment) -> None:
        """May close the oldest plain entries of the segment into an encoded block.

        Called at "prefill" and at every "step", for each group of heads of the layer.
        """
        ...

    def room(self, segment: Segment) -> int | None:
        """Entries that may join the segment before the next encoding; None is any number.

        Drafts never cross it, so that drafting reads what plain decoding would read.
        """
        ...


class Channels(Protocol):
    """Chooses which channels of its keys an encoded entry keeps; one object per layer and sequence.

    window: how many of the prompt's last queries it wants at the end of prefill. recent: newest
    entries of the prompt whose keys stay whole.
    """

    window: int
    recent: int

    def kept(self, head_dim: int) -> int:
        """How many of head_dim channels stay."""
        ...

    def choose(self, queries: Tensor, key: Tensor) -> Tensor:
        """The channels that stay, int64 `[kv_heads, kept]`, ascending.

        queries `[heads, window, head_dim]` and key `[kv_heads, n, head_dim]`, both as attention
        sees them.
        """
        ...


class Format(Codec, Protocol):
    """A codec that rewrites the numbers of entries, however many channels their keys have.

    residual: newest entries that stay plain at least. step: entries encoded at a time.
    """

    residual: int
    step: int

    def close(self, entries: Entries) -> Growing:
        """Entries, a multiple of `step` of them, encoded, in memory of their own."""
        ...

    def entry_bytes(self, heads: int, key: int, value: int) -> float:
        """Bytes of one encoded entry, birth id included, of so many channels a head."""
        ...


class Drafter(ABC):
    """Guesses what comes next; one object per sequence.

    A drafter that raises is left out for the rest of the request. name: its method's, which the
    engine sets; what its nodes carry as their source. asks_model: a guess costs a forward, so the
    policy says how deep to go: `pace` is set before each `propose`, and its `go_on` is called after
    each level. drawing: guesses are drawn with noise of their own; asked before those who follow
    the target's noise. remember: last queries of the prompt it wants noted, for a fork that
    compresses. wants_states: it reads the target's hidden states: those of the prompt are in
    `Sequence.noted` at `begin`, and `states` `[nodes, hidden]`, of all that was verified, is set
    before each `learn`. notes: what the user has to know of it. lock: held while it begins,
    proposes, learns and finishes, for what it shares with requests of other threads.
    """

    name: str = "drafter"
    asks_model: bool = False
    drawing: bool = False
    remember: int = 0
    wants_states: bool = False
    states: Tensor | None = None
    pace: Pace = Pace()
    notes: Seq[str] = ()
    lock: AbstractContextManager[Any] = nullcontext()

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        """The prompt has been read; retention and codecs that wait for its end have not acted yet.

        Fork the sequence rather than keep it.
        """
        return None

    @abstractmethod
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        """Adds guesses to a tree whose root is tokens[-1], none deeper than `limit`.

        Nodes of drafters asked before stand there already. Where `tree.drawing` is set, neither
        what is guessed nor how much may follow the noise the target will choose with. tokens is the
        text as it grows: it cannot be changed, and costs time when copied.
        """

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        """After verification: logits `[nodes, vocab]`; tokens include the committed ones.

        The tree is what was verified, which may be less than was proposed.
        """
        return None

    def finish(self) -> None:
        """The request is over: what lives longer than a request is put away."""
        return None
