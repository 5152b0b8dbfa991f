"""Which level of quality the next chunk of a session is sent at, or whether its text is read.

The controller of CacheGen (Liu et al., SIGCOMM 2024): the bandwidth of the chunk before is taken to
last. For every level the time is reckoned that all remaining chunks would take at it, and for their
text the time to read it. The best that meets the deadline is taken, and where none does, the
fastest. Before anything was measured it is a medium level.

    a level  max(bytes / bandwidth, busy + tokens / decode rate)
    text     busy + tokens / read rate

busy: seconds of work on chunks that are here already. Text and the lossless level lose nothing; the
faster of the two is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lengthwise.engine.kv_cache.cachegen import LOSSLESS

TEXT = 0
"""What stands for a level where the text is read instead."""
DEFAULT = 2


@dataclass(frozen=True)
class Rates:
    """What was measured so far, None where nothing was.

    Attributes:
        bandwidth: bytes a second that arrive.
        reading: tokens a second that the model reads.
        decoding: tokens a second that are decoded.
    """

    bandwidth: float | None = None
    reading: float | None = None
    decoding: float | None = None


@dataclass(frozen=True)
class Remaining:
    """What is still to come. tokens: of it. sizes: its bytes at each level that is stored."""

    tokens: int
    sizes: Mapping[int, int]


def choose(remaining: Remaining, left: float, rates: Rates, busy: float = 0.0) -> int:
    """The level of the next chunk, or `TEXT`.

    Args:
        remaining: the next chunk and those after it.
        left: seconds until the deadline.
        rates: as measured.
        busy: seconds of work on what has arrived.

    Returns:
        One of the levels of `remaining.sizes`, or `TEXT`.
    """
    if rates.bandwidth is None:
        below = [level for level in remaining.sizes if level <= DEFAULT]
        return max(below) if below else min(remaining.sizes)
    times = expected(remaining, rates, busy)
    within = {level: seconds for level, seconds in times.items() if seconds <= left}
    if not within:
        return min(times, key=lambda level: times[level])
    return max(within, key=lambda level: (quality(level), -within[level]))


def expected(remaining: Remaining, rates: Rates, busy: float = 0.0) -> dict[int, float]:
    """Seconds that all that remains would take, by level and `TEXT`, as far as they are known.

    Args:
        remaining: what is still to come.
        rates: as measured; a bandwidth is among them.
        busy: seconds of work on what has arrived.
    """
    assert rates.bandwidth is not None
    decoded = busy + (remaining.tokens / rates.decoding if rates.decoding else 0.0)
    found = {level: max(size / rates.bandwidth, decoded) for level, size in remaining.sizes.items()}
    if rates.reading is not None:
        found[TEXT] = busy + remaining.tokens / rates.reading
    return found


def quality(level: int) -> int:
    """How good a level is; text is as good as lossless.

    Args:
        level: or `TEXT`.
    """
    return LOSSLESS if level == TEXT else level


__all__ = ["DEFAULT", "TEXT", "Rates", "Remaining", "choose", "expected", "quality"]
