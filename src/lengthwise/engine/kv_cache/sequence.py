"""One sequence under one plan: its tokens and, layer by layer, what is kept of them.

Rows of a batch are separate sequences. The model's linear work is done for all of them at once and
attention for each alone, so a row gets exactly what it would get by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence as Seq
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.cache_plan import FULL_CACHE, CachePlan
from lengthwise.engine.kv_cache.changes import encode, own_what_changes, retain
from lengthwise.engine.kv_cache.codec import Codec
from lengthwise.engine.kv_cache.contexts import Apart, Places
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.head_policy import first_groups
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.new_parts import most_together
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.prompt_end import show_prompt
from lengthwise.engine.kv_cache.retention import Phase, Renewal, Retention
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.kv_cache.stepping import Observation
from lengthwise.engine.kv_cache.watching import watch
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.token_view import TokenView
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.limits import position_limit
from lengthwise.models.rope import FrequencyRule, StepAngles


class Sequence:
    """Tokens seen so far and the entries kept of them.

    tokens: committed ids, to be read. prompt_length: of those, the prompt's (set by `end_prefill`).
    reading: tokens there will be when the prefill under way is through.
    token_nll: -log p of each token given those before it, where somebody asked for it.
    noted: the hidden states `[tokens, hidden]` that the head reads, a chunk of the prompt each,
    where somebody asked for them; None otherwise. notes_last: of all tokens read, the last alone.
    offset: added to every position. apart: which tokens are documents set apart, if any.
    places: where tokens stand that are read next, if not in a row.
    position_limit: tokens that the model has positions for; None where any number will do.
    read_with: `phase` of what is kept. read_again: lengths at which the model changed its own
    frequencies and all was read again. lossy: the codec of a file that some of it came through.
    stale: some entries have not seen all tokens before them. given: some are not what the model
    makes of the ids they stand for: they were trained, or came of soft embeddings.
    """

    def __init__(
        self, model: AdaptedModel, plan: CachePlan = FULL_CACHE, expected: int = 0,
        offset: int = 0, remember: int = 0,
    ) -> None:  # fmt: skip
        """expected: tokens there will be in the end, 0 where unknown, to make room for at once.
        remember: last queries of the prompt to keep at least, for a plan that a fork may adopt."""
        self.model = model
        self.position_limit, self.plan = position_limit(model), plan
        self._remember_at_least = remember
        self.offset = offset
        self.apart: Apart | None = None
        self.places: Places | None = None
        self._tokens: list[int] = []
        self.tokens = TokenView(self._tokens)
        self.prompt_length: int | None = None
        self.token_nll: list[float] = []
        self.noted: list[Tensor] | None = None
        self.notes_last = False
        self.reading = self.peak_bytes = self.read_with = self._transient = 0
        self.read_again: list[int] = []
        self.lossy, self.stale, self.given = "", False, False
        self.last_logits: Tensor | None = None
        self._observation = Observation(expected=expected)
        self.layers = [self._layer(facts) for facts in model.layers]
        self._follow(plan)

    def _follow(self, plan: CachePlan) -> None:
        """Takes on a plan's retention, renewal and codecs, and what they ask to be noted."""
        self.plan = plan
        self.retention: Retention | None = plan.retention() if plan.retention else None
        self.renewal: Renewal | None = plan.renewal() if plan.renewal else None
        for layer in (layer for layer in self.layers if not layer.own_window):
            layer.codec = plan.codec(layer.facts) if plan.codec is not None else None
            layer.bias = plan.bias(layer.facts) if plan.bias is not None else None
        self._encodes = any(layer.codec is not None for layer in self.layers)
        watch(self._observation, self.layers, self.retention, self._remember_at_least)

    def remember(self, queries: int) -> None:
        """Keeps at least so many last queries of the prompt, for a plan that a fork may adopt.

        Args:
            queries: how many, a layer.
        """
        self._remember_at_least = max(self._remember_at_least, queries)
        self._observation.remember = max(self._observation.remember, queries)

    @property
    def frequency_rule(self) -> FrequencyRule | None:
        """What replaces the model's rotary frequencies, if anything."""
        return self.plan.rule

    def pruned_layers(self) -> list[int]:
        """Layers that a retention prunes: all but those with a window of the model's own."""
        return [index for index, layer in enumerate(self.layers) if not layer.own_window]

    def head_groups(self, layer: int) -> list[HeadGroup]:
        """What a layer keeps now.

        Args:
            layer: its index.
        """
        return self.layers[layer].groups

    def groups(self) -> Iterator[tuple[LayerCache, HeadGroup]]:
        """Every group with its layer."""
        return ((layer, group) for layer in self.layers for group in layer.groups)

    def tokens_from(self, start: int) -> list[int]:
        """Committed tokens from one on.

        Args:
            start: birth id of the first.
        """
        return self._tokens[start:]

    def __len__(self) -> int:
        return len(self._tokens)

    def _layer(self, facts: LayerFacts) -> LayerCache:
        if facts.window is not None:
            groups = [HeadGroup(Placement(window=facts.window, keeps_far=False))]
        else:
            groups = first_groups(self.plan, facts)
        return LayerCache(self.model, facts, groups, self.plan, self._observation)

    def __deepcopy__(self, memo: dict[int, Any]) -> Sequence:
        # What a copy shares with its original: everything that no sequence ever changes.
        for shared in (self.model, self.plan):
            memo[id(shared)] = shared
        for layer in self.layers:
            memo[id(layer.facts)] = layer.facts
            memo[id(layer.rule)] = layer.rule
        new = object.__new__(type(self))
        memo[id(self)] = new
        for name, value in self.__dict__.items():
            new.__dict__[name] = copy.deepcopy(value, memo)
        return new

    def fork(self, plan: CachePlan | None = None) -> Sequence:
        """An independent copy: what is done to one does not touch the other.

        Args:
            plan: what the copy does from now on; None is the same. It may differ in retention,
                codec and drafting, and only before the prompt has ended.
        """
        new = copy.deepcopy(self)
        if plan is not None:
            new._follow(plan)
        return new

    def branch(self) -> Sequence:
        """`fork`, for one that is to be forked often: what both hold plain is not copied.

        Only where nothing moves what is held; the rest is copied as ever. Behind a prompt that is
        a codec too, which encodes plain entries as decoding goes on.
        """
        for layer, group in self.groups():
            if self.prompt_length is not None and layer.codec is not None:
                continue
            if not layer.own_window and group.placement.window is None and not group.on_evict:
                group.near.freeze()
        return self.fork()

    @property
    def expected(self) -> int:
        """Tokens there will be in the end, where known; what is kept never depends on it."""
        return self._observation.expected

    # Bytes.

    def nbytes(self) -> int:
        """KV bytes allocated now, indices and scales included."""
        return sum(layer.nbytes() for layer in self.layers)

    def note_peak(self, metadata: StepMetadata | None = None) -> None:
        """Raises `peak_bytes` to what is allocated now.

        Args:
            metadata: of a step whose copies are alive beside it; None counts none.
        """
        extra = 0 if metadata is None else metadata.transient
        self.peak_bytes = max(self.peak_bytes, self.nbytes() + extra)

    @property
    def wants_token_nll(self) -> bool:
        """Whether the retention wants -log p of every token."""
        return self.retention is not None and self.retention.wants_token_nll

    @property
    def observes_prompt(self) -> bool:
        """Whether reading sums up something beside the entries."""
        noted = self._observation.stride or self._observation.moments is not None
        return bool(noted) or self.wants_token_nll

    @property
    def remembered(self) -> int:
        """How many last queries of the prompt are kept until it ends."""
        return self._observation.remember

    def dropped(self) -> bool:
        """Whether some token is no longer held, windows of the model's own left aside."""
        return any(g.kept() < len(self) for layer, g in self.groups() if not layer.own_window)

    # Limits.

    def max_block(self) -> int | None:
        """Most tokens one forward may bring: new ones must be near each other, if far ones move."""
        windows = [most_together(group) for _, group in self.groups()]
        return min((window for window in windows if window is not None), default=None)

    def tokens_until_change(self) -> int | None:
        """Tokens that may be committed before the next deletion or encoding, or before a selection
        gets entries that a query within a draft would not find yet; None is any number."""
        changing = self.retention, self.renewal
        found = [each.tokens_until_change(self) for each in changing if each is not None]
        for layer, group in self.groups():
            if group.selector is not None:
                found.append(group.tokens_until_change(len(self._tokens)))
            if layer.codec is not None:
                found.append(self._entries_until_encoding(layer.codec, group))
        rules = {layer.rule for layer in self.layers if layer.rule is not None}
        found += [rule.tokens_until_change(len(self._tokens)) for rule in rules]
        if self.model.rope is not None:
            found.append(self.model.rope.tokens_until_switch(len(self._tokens)))
        return min((room for room in found if room is not None), default=None)

    def _entries_until_encoding(self, codec: Codec, group: HeadGroup) -> int | None:
        entries = codec.tokens_until_change(group.compressible)
        if entries is None or group.placement.window is None:
            return entries
        # Entries join the far store a slack at a time, when they leave the window.
        left = -(-(group.near_start + entries) // group.slack) * group.slack
        return max(1, left + group.placement.window - 1 - len(self._tokens))

    # Frequencies of the model's own that change with the length.

    def phase(self, ahead: int) -> int:
        """Which of the model's own frequencies the next `ahead` tokens are read with.

        Args:
            ahead: tokens.

        Returns:
            0 for the first frequencies, which is all that most models have.
        """
        rope = self.model.rope
        if rope is None or rope.switch is None:
            return 0
        return rope.phase(max(self.expected_prompt, len(self._tokens) + ahead))

    def begin_with(self, tokens: Seq[int]) -> None:
        """Counts as read the tokens whose entries an empty sequence was given.

        Args:
            tokens: ids, one for each entry of every layer.
        """
        self._tokens.extend(tokens)

    def empty(self) -> Sequence:
        """A sequence such as this one was when it had read nothing."""
        new = Sequence(self.model, self.plan, self.expected, self.offset, self._remember_at_least)
        new._observation.remember = self._observation.remember
        return new

    def become(self, other: Sequence) -> None:
        """Takes on all that another sequence of the same tokens has kept.

        Args:
            other: what it holds is shared from now on, so it is not to be used again.
        """
        other.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.__dict__.update(other.__dict__)

    # One forward.

    def next_step(self, count: int, tree: Tree | None = None) -> StepMetadata:
        """The next `count` tokens, or the nodes of a tree whose root is the next token.

        Args:
            count: new tokens, or nodes of the tree.
            tree: None for tokens that follow each other.
        """
        start = len(self._tokens)
        device = self.model.device
        # A tree is as long as its deepest path, however many its nodes.
        ahead = count if tree is None else max(tree.depths) + 1
        length = max(self.expected_prompt, start + ahead)
        # Under a selection every node of a draft plans for itself, as decoding would.
        alike = self.plan.selector is None or count == 1
        if tree is None or (alike and tree.is_chain()):
            index = torch.arange(start, start + count, device=device)
            prompt = self.prompt_length is None
            angles = self._angles(index, start, length)
            return StepMetadata(start, index, None, length, self.offset, angles, prompt=prompt)
        index = torch.tensor(tree.depths, device=device) + start
        angles = self._angles(index, None, length)
        return StepMetadata(start, index, tree.ancestors().to(device), length, self.offset, angles)

    def _angles(self, index: Tensor, start: int | None, length: int) -> StepAngles | None:
        rope = self.model.rope
        if self.places is not None:
            index, start = self.places.at(index), None
        return None if rope is None else StepAngles(rope, index, start, self.offset, length)

    @property
    def expected_prompt(self) -> int:
        """Tokens of the prompt, those still to be read included where `prefill` knows them."""
        return self.prompt_length or self.reading

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, metadata: StepMetadata
    ) -> Tensor:
        """Attention of one layer over what it keeps and the new tokens: see `LayerCache.attend`.

        Args:
            layer: its index.
            query: un-rotated, `[heads, n, head_dim]`.
            key: un-rotated, `[kv_heads, n, head_dim]`.
            value: `[kv_heads, n, value_dim]`.
            metadata: what `next_step` gave for these tokens.

        Returns:
            `[heads, n, value_dim]`.
        """
        if len(self.model.devices) == 1:
            return self.layers[layer].attend(query, key, value, metadata)
        there = metadata.on(query.device)
        out = self.layers[layer].attend(query, key, value, there)
        metadata.transient = max(metadata.transient, there.transient)
        return out

    # Committing.

    def commit(
        self, metadata: StepMetadata, tokens: Seq[int], accepted: Seq[int] | None = None
    ) -> None:
        """Makes the new tokens of a step, or accepted nodes of its tree, part of the sequence.

        Args:
            metadata: what `next_step` gave, after every layer attended.
            tokens: ids that join the sequence.
            accepted: which nodes they are, ascending; None is all of the step.
        """
        ids = None
        if accepted is not None and len(accepted) != len(metadata.index):
            ids = torch.tensor(accepted, device=self.model.device)
        first = ids is not None and list(accepted or ()) == list(range(len(ids)))
        for layer in self.layers:
            layer.commit(ids, first)
        self._tokens.extend(tokens)
        if self.prompt_length is None or metadata.transient > self._transient:
            self._transient = metadata.transient
            self.note_peak(metadata)
        for layer in self.layers:
            layer.slide_window(len(self._tokens), self.expected_prompt, self.offset)
        phase = Phase.CHUNK if self.prompt_length is None else Phase.DECODE
        if self.retention is not None:
            retain(self, phase)
        if self._encodes and phase is Phase.DECODE:
            encode(self, phase)
        if self.renewal is not None and phase is Phase.DECODE:
            self.renewal.renew(self)

    def discard(self) -> None:
        """Forgets the forward under way: none of its tokens becomes part of the sequence."""
        for layer in self.layers:
            layer.discard()

    def end_prefill(self) -> None:
        """The prompt is complete: retention and codecs that wait for it act now."""
        if self.prompt_length is not None:
            return
        self.note_peak()
        own_what_changes(self)
        self.prompt_length = len(self._tokens)
        self._observation.reading = False
        retain(self, Phase.PREFILL)
        watch(self._observation, self.layers, self.retention, self._remember_at_least)
        show_prompt(self.layers, len(self._tokens), self.offset)
        encode(self, Phase.PREFILL)
        for layer in self.layers:
            layer.forget_queries()
        self.note_peak()
