"""Given tokens, fed after a prompt as decoding would feed them, in as few forwards as that allows.

A draft whose guesses all come true is what decoding commits at once: a chain of tokens, verified in
one forward, no longer than the sequence has room for. That gives what one token a step gives, up to
rounding, by the law that drafting changes nothing, at a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence as Seq

from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend
from lengthwise.engine.losses import note_token_nll
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError, NotFinite

# Tokens of a forward: many enough for products of good speed, few enough that their logits are
# small beside the cache.
MOST = 64


def forced(sequence: Sequence, tokens: Seq[int], most: int = MOST) -> Iterator[Tensor]:
    """Feeds `tokens` and yields the logits `[n, vocab]` that predicted them, a part at a time.

    The sequence must have read its prompt, and ended it. Together the parts have as many rows as
    there are tokens; the last token is predicted and not fed. Raises NotFinite.
    """
    if sequence.last_logits is None or sequence.prompt_length is None:
        raise LengthwiseError("tokens can only be fed after a prompt that was read and ended")
    first, done = len(sequence), 0
    before = sequence.last_logits[None]
    while done < len(tokens):
        _check(before, first + done)
        yield before
        done += len(before)
        part = list(tokens[done - 1 : done - 1 + _most(sequence, most)])[: len(tokens) - done]
        if not part:
            return
        before = _feed(sequence, part)


def _most(sequence: Sequence, most: int) -> int:
    limits = [
        limit
        for limit in (sequence.tokens_until_change(), sequence.max_block())
        if limit is not None
    ]
    return max(1, min([most, *limits]))


def _feed(sequence: Sequence, part: list[int]) -> Tensor:
    tree = Tree(part[0])
    tree.add_chain(part[1:])
    (logits,), (metadata,) = extend([(sequence, part, tree)], "all")
    if sequence.wants_token_nll:
        note_token_nll(sequence, logits, part)
    sequence.commit(metadata, part, range(len(part)))
    sequence.last_logits = logits[-1].clone()
    return logits


def _check(logits: Tensor, start: int) -> None:
    bad = (~logits.amax(-1).isfinite()).nonzero()
    if len(bad):
        dtype = str(logits.dtype).removeprefix("torch.")
        raise NotFinite(start + int(bad[0]), dtype=dtype)
