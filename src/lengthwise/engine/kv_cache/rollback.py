"""Taking back the newest tokens of a sequence, where all that was kept of the others is there.

A cache to which entries were only added is cut. One that moved, deleted, encoded or summed anything
since is not: what was there before is gone. Nor is a selection's: it may use a plan again that a
later query made.
"""

from __future__ import annotations

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.sequence import Sequence


def reopen(sequence: Sequence) -> None:
    """The tokens of a sequence, said ones among them, become the beginning of a longer prompt.

    Args:
        sequence: whose plan does nothing at the end of a prompt.
    """
    sequence.prompt_length, sequence.reading = None, 0
    sequence._observation.reading = True


def roll_back(sequence: Sequence, length: int) -> bool:
    """Takes back all tokens behind the first `length` ones.

    Args:
        sequence: between two forwards, its prompt not ended.
        length: tokens that stay, 1 at least.

    Returns:
        Whether it was done; where not, nothing was changed.
    """
    count = len(sequence) - length
    if count <= 0:
        return True
    watched = sequence.observes_prompt or sequence._observation.remember
    if sequence.prompt_length is not None or watched or sequence.noted is not None:
        return False
    if not all(_cuts(group, len(sequence), length) for _, group in sequence.groups()):
        return False
    for _, group in sequence.groups():
        if group.near.tail_length < count:
            # What others hold too is not cut.
            group.near.own()
        group.near.retract(count)
    del sequence._tokens[length:]
    del sequence.token_nll[length:]
    sequence.reading, sequence.last_logits = 0, None
    return True


def _cuts(group: HeadGroup, now: int, length: int) -> bool:
    """Whether the newest tokens of a group are its newest plain entries, and nothing else moved."""
    near = group.near
    if near.closed or group.on_evict or group.selector or len(near) < now - length:
        return False
    if group.placement.window is not None:
        # The same entries had left the window then: near ids are one after another.
        return group.near_at(length) == length - group.near_start
    return len(near) == now and not len(group.far)
