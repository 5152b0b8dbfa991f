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
    return (logits for _, logits in forced_together([(sequence, tokens)], most))


def forced_together(
    rows: Seq[tuple[Sequence, Seq[int]]], most: int = MOST
) -> Iterator[tuple[int, Tensor]]:
    """`forced` for several sequences of one model, in the same forwards.

    Args:
        rows: sequences, each with the tokens that it is fed. No two are one.
        most: tokens of a row in a forward.

    Yields:
        The number of a row, and logits `[n, vocab]` that predicted its next n tokens.

    Raises:
        NotFinite: for logits that are no numbers.
        LengthwiseError: for a sequence that has read no prompt, or has not ended it.
    """
    first, done = [len(sequence) for sequence, _ in rows], [0] * len(rows)
    found: list[tuple[int, Tensor]] = []
    for number, (sequence, tokens) in enumerate(rows):
        if sequence.last_logits is None or sequence.prompt_length is None:
            raise LengthwiseError("tokens can only be fed after a prompt that was read and ended")
        if tokens:
            found.append((number, sequence.last_logits[None]))
    while found:
        parts: dict[int, list[int]] = {}
        for number, logits in found:
            require_numbers(logits, first[number] + done[number])
            yield number, logits
            done[number] += len(logits)
            sequence, tokens = rows[number]
            fed = done[number] - 1
            part = list(tokens[fed : fed + most_fed(sequence, most)])[: len(tokens) - fed - 1]
            if part:
                parts[number] = part
        fed_rows = [(rows[number][0], part) for number, part in parts.items()]
        found = list(zip(parts, _feed(fed_rows), strict=True))


def most_fed(sequence: Sequence, most: int = MOST) -> int:
    """Tokens that one forward may feed as decoding would.

    Args:
        sequence: its prompt read.
        most: no more than that.
    """
    limits = [
        limit
        for limit in (sequence.tokens_until_change(), sequence.max_block())
        if limit is not None
    ]
    return max(1, min([most, *limits]))


def _feed(parts: Seq[tuple[Sequence, list[int]]]) -> list[Tensor]:
    if not parts:
        return []
    items = []
    for sequence, part in parts:
        tree = Tree(part[0])
        tree.add_chain(part[1:])
        items.append((sequence, part, tree))
    found, steps = extend(items, "all")
    for (sequence, part), logits, metadata in zip(parts, found, steps, strict=True):
        if sequence.wants_token_nll:
            note_token_nll(sequence, logits, part)
        sequence.commit(metadata, part, range(len(part)))
        sequence.last_logits = logits[-1].clone()
    return found


def require_numbers(logits: Tensor, start: int) -> None:
    """Raises NotFinite for logits `[n, vocab]` that are no numbers; the first is of token start."""
    bad = (~logits.amax(-1).isfinite()).nonzero()
    if len(bad):
        dtype = str(logits.dtype).removeprefix("torch.")
        raise NotFinite(start + int(bad[0]), dtype=dtype)


__all__ = ["MOST", "forced", "forced_together", "most_fed", "require_numbers"]
