"""A sequence that has read something reads on: as one call would have, or as decoding does."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.chunks import chunk_of
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.losses import Losses, note_token_nll


def read_on(
    sequence: Sequence, tokens: Seq[int], chunk: int | None = None,
    progress: loop.Progress | None = None, losses: Losses | None = None,
) -> Tensor:  # fmt: skip
    """Reads more tokens; returns the logits `[vocab]` after the last one.

    Of a sequence whose prompt has not ended they are more of the prompt. Otherwise they are fed
    as decoding would, so that what deletes or encodes does it at the same moments.

    Args:
        sequence: it may have read nothing yet.
        tokens: none only where something was read last.
        chunk: tokens of a forward; None leaves it to the device.
        progress: called with the number of tokens of each forward.
        losses: receives those of more of a prompt.
    """
    if not tokens and sequence.last_logits is not None:
        return sequence.last_logits
    if sequence.prompt_length is None:
        return loop.prefill(sequence, tokens, chunk, progress, losses)
    most = chunk or loop.CHUNK
    if sequence.plan.selector is not None:
        # Decoding queries find by themselves what they read.
        most = 1
    start = 0
    while start < len(tokens):
        rooms = [most, sequence.max_block(), sequence.tokens_until_change()]
        count = max(1, min(room for room in rooms if room is not None))
        part = list(tokens[start : start + count])
        (logits,), (metadata,) = loop.extend([(sequence, part, None)], "all")
        if sequence.wants_token_nll:
            note_token_nll(sequence, logits, part)
        sequence.commit(metadata, part)
        sequence.last_logits = logits[-1].clone()
        start += len(part)
        if progress is not None:
            progress(len(part))
    assert sequence.last_logits is not None
    return sequence.last_logits


def make_room(sequence: Sequence, tokens: int) -> None:
    """Room for more entries at once, where they are added to what is there.

    Args:
        sequence: between two forwards.
        tokens: that are expected.
    """
    for _, group in sequence.groups():
        near = group.near
        if group.placement.window is None and len(near) and not near.closed:
            near.reserve(near.shared[-1] if near.tail is None else near.tail, tokens)


def unit(sequence: Sequence, chunk: int | None) -> int:
    """Tokens that are read together where that matters: a text cut at a multiple of it is read on
    as if it had not been cut.

    Args:
        sequence: under the plan in question.
        chunk: tokens of a forward; None leaves it to the device.
    """
    limit = sequence.max_block()
    size = chunk or chunk_of(sequence.model.device, sequence.wants_token_nll)
    step = max(1, min(size, limit or size))
    blocks = [1]
    for _, group in sequence.groups():
        selector, window = group.selector, group.placement.window
        if selector is not None and selector.query_block is not None and window is not None:
            blocks.append(min(selector.query_block, window))
        if selector is not None and selector.wants_attention_mass > 1:
            blocks.append(selector.wants_attention_mass)
    together = math.lcm(*blocks)
    return together if together > 1 and step % together == 0 else step


def same_frequencies(sequence: Sequence, length: int) -> bool:
    """Whether a prompt of `length` tokens is read with the frequencies that this one was read with.

    Args:
        sequence: its prompt not ended.
        length: of the longer prompt.
    """
    rope = sequence.model.rope
    rules = {layer.rule for layer in sequence.layers if layer.rule is not None}
    if rope is None or not len(sequence):
        return True
    before = max(sequence.reading, len(sequence))
    for rule in (rule for rule in rules if rule.dynamic):
        for facts in rope.facts.values():
            exponents = torch.arange(0, facts.rotary_dim, 2, dtype=torch.float64)
            own = (facts.theta ** -(exponents / facts.rotary_dim)).float()
            old, new = (rule.scale(own, facts, tokens) for tokens in (before, length))
            if old[1] != new[1] or not torch.equal(old[0], new[0]):
                return False
    return True
