"""What the cache asks of a retention, what it shows it, and when."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.query_moments import QueryMoments
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.rope import FrequencyRule


class Phase(Enum):
    """When a retention or a codec is called."""

    CHUNK = "chunk"
    """A part of the prompt was read."""
    PREFILL = "prefill"
    """The whole prompt was read."""
    DECODE = "decode"
    """Tokens were committed while decoding."""


class CacheView(Protocol):
    """What a retention sees of the sequence whose cache it prunes. `len` is the tokens committed.

    Attributes:
        tokens: ids of the tokens committed.
        prompt_length: tokens committed that are the prompt's; None until the prompt is read.
        expected_prompt: tokens of the prompt. Those still to be read are included where their
            number is known.
        token_nll: -log p of each token given those before it, where the retention asked for it.
        offset: added to every position.
    """

    @property
    def model(self) -> AdaptedModel: ...

    @property
    def prompt_length(self) -> int | None: ...

    @property
    def expected_prompt(self) -> int: ...

    @property
    def tokens(self) -> Seq[int]: ...

    @property
    def token_nll(self) -> Seq[float]: ...

    @property
    def offset(self) -> int: ...

    @property
    def frequency_rule(self) -> FrequencyRule | None:
        """What replaces the model's rotary frequencies, if anything."""
        ...

    def __len__(self) -> int: ...

    def pruned_layers(self) -> list[int]:
        """Layers that a retention prunes: all but those with a window of the model's own."""
        ...

    def head_groups(self, layer: int) -> list[HeadGroup]:
        """What a layer keeps now.

        Args:
            layer: its index.
        """
        ...


@dataclass(frozen=True)
class CacheUpdate:
    """When a retention or codec is called, and with what.

    Attributes:
        phase: when it is called.
        layer: facts of the layer.
        sequence: what it may see of the sequence.
        queries: the last queries of the prompt as near keys see them, `[heads, at least window,
            head_dim]`. They are fewer where the prompt is shorter. They are there at PREFILL, where
            a retention or codec asked for a window. A codec gets only the heads that read the store
            it is given. At DECODE they are those of the newest tokens, for a retention that
            follows them (`follows_queries`).
        query_index: birth ids of these queries, int64.
        moments: mean and covariance of the prompt's queries before rotation. They are there at
            PREFILL for a retention that asks for them (`wants_moments`).
        heads: key heads int64 `[h]` of the layer whose entries these are, or None for all of them.
    """

    phase: Phase
    layer: LayerFacts
    sequence: CacheView
    queries: Tensor | None = None
    query_index: Tensor | None = None
    moments: QueryMoments | None = None
    heads: Tensor | None = None


class Retention(Protocol):
    """Deletes or merges entries, irrevocably; one object per sequence.

    Attributes:
        window: how many of the prompt's last queries it wants at the end of prefill (0: none).
        wants_attention_mass: entries accumulate the probability they receive from every query.
        wants_token_nll: `CacheView.token_nll` is filled with -log p of every token.

    What only few ask for may be left out:
        sums_prompt_only: True where attention mass is no longer wanted after PREFILL, at which the
            retention drops it (`KVStore.replace`).
        follows_queries: True where `CacheUpdate.queries` is wanted at DECODE as well.
        wants_moments: a number where `CacheUpdate.moments` is wanted: how many first tokens of the
            text it leaves out.
    """

    window: int
    wants_attention_mass: bool
    wants_token_nll: bool

    def retain(self, group: HeadGroup, update: CacheUpdate) -> Seq[HeadGroup] | None:
        """Changes the group in place, or returns the groups that replace it.

        Args:
            group: key heads of one layer, and what they keep.
            update: when this is called, and with what.

        Returns:
            The groups that replace it; None where it was changed in place.
        """
        ...

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        """How far off the next deletion is.

        Drafts never cross it, so that drafting sees the cache that plain decoding would see.

        Args:
            sequence: the sequence whose cache it prunes.

        Returns:
            Tokens that may be committed before the next deletion; None is any number.
        """
        ...


class WatchLayer(Protocol):
    """What is shown each layer of a forward whose tokens are not kept."""

    def __call__(self, layer: LayerFacts, query: Tensor, held: Tensor, new: Tensor) -> None:
        """Looks at one layer, before its tokens attend.

        Args:
            layer: facts of the layer.
            query: of the forward's tokens, rotated, `[heads, n, head_dim]`.
            held: keys of the prompt as these queries meet them, `[kv_heads, entries, head_dim]`.
            new: keys of the forward's own tokens, `[kv_heads, n, head_dim]`.
        """
        ...


class ReadAside(Protocol):
    """Reads tokens behind a finished prompt, shows every pruned layer, and forgets them."""

    def __call__(self, tokens: Seq[int], watch: WatchLayer) -> None:
        """One forward.

        Args:
            tokens: ids, at least one, which stand behind the prompt.
            watch: is shown the layers, one after another.
        """
        ...


@runtime_checkable
class AskingRetention(Retention, Protocol):
    """A retention that runs the model behind the prompt before anything is dropped.

    What it runs counts as time to first token. All entries have to be near and plain, so its method
    is `ordinary_only`.
    """

    def ask_model(self, sequence: CacheView, read: ReadAside) -> None:
        """Asks once, when the prompt is complete, before `retain` is called for any layer.

        Args:
            sequence: what was read.
            read: runs a forward; any number of times.
        """
        ...


class Renewal(Protocol):
    """Computes entries of written tokens again, at moments that token counts alone decide.

    One object per sequence.
    """

    def renew(self, sequence: CacheView) -> None:
        """Tokens were committed behind the prompt, and windows have moved.

        Args:
            sequence: whose entries may be computed again now.
        """
        ...

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        """How far off the next time is; drafts never cross it.

        Args:
            sequence: whose entries they are.

        Returns:
            Tokens that may be committed before entries are computed again; None is any number.
        """
        ...


def notes_prompt(retention: Retention) -> bool:
    """Whether something has to be noted of every token of a prompt while it is read.

    Args:
        retention: of a sequence. One that notes nothing can be taken on once a prompt was read.
    """
    wants = retention.wants_attention_mass or retention.wants_token_nll
    return wants or getattr(retention, "wants_moments", None) is not None
