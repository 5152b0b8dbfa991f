"""Where each token stands and which keys a query can reach: data, not code.

Keys fall into a near and a far part. Near keys (distance < window) keep ordinary positions. Far
keys carry the rotation of `far_key`, and queries reach them from `far_query`; only indices for
which `keep_far` holds survive the window. SelfExtend, LM-Infinite, StreamingLLM, InfLLM and a
model's own sliding windows are five settings of this. The default is ordinary full attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lengthwise.engine.kv_cache.offload import Offload

IndexMap = Callable[[Tensor], Tensor]


def same(index: Tensor) -> Tensor:
    """Ordinary positions: a token stands where it was born.

    Args:
        index: birth ids, int64 `[n]`.
    """
    return index


# A finite window may overhang by 1/64 of itself (at most this many entries) before it is moved.
MAX_SLACK = 64


@dataclass(frozen=True)
class Placement:
    """Where tokens stand, and which entries survive a window. The default is full attention.

    Attributes:
        window: distances below it are near; None makes every key near.
        anchored: the window is measured once for a whole block of queries instead of per query. All
            of the block sees the same near keys, at least `window` of them. Right where far keys
            have ordinary positions anyway, and for methods that plan by block.
        keeps_far: False where everything beyond the window is dropped.
        keep_far: int64 index `[n]` -> bool `[n]`, which entries survive beyond the window; None
            keeps all.
        reads_far: int64 index `[n]` -> bool `[n]`, which entries are read as far ones when they
            leave the window, before a selection chooses among them; None reads all.
        far_key: int64 index `[n]` -> position `[n]` of far keys.
        far_query: int64 index `[n]` -> position `[n]` of queries that reach far keys.
        far_raw: far keys are stored un-rotated (position 0) whatever far_key would be. For methods
            that score un-rotated keys and place the chosen ones themselves.
        compact: keys stand at their rank among the kept entries, and queries follow. Keys are
            stored un-rotated and rotated when read (SirLLM).
        offload: where a selection's far entries live; None is on the device.
    """

    window: int | None = None
    anchored: bool = False
    keeps_far: bool = True
    keep_far: Callable[[Tensor], Tensor] | None = None
    reads_far: Callable[[Tensor], Tensor] | None = None
    far_key: IndexMap = same
    far_query: IndexMap = same
    far_raw: bool = False
    compact: bool = False
    offload: Offload | None = None

    @property
    def bounded(self) -> bool:
        """Whether nothing, or only a fixed few, is kept beyond a window."""
        return self.window is not None and (not self.keeps_far or self.keep_far is not None)

    @property
    def far_is_ordinary(self) -> bool:
        return self.far_key is same and self.far_query is same and not self.far_raw


ORDINARY = Placement()


def slack_of(window: int, selecting: bool) -> int:
    """Entries that leave a window together; one fewer is the most by which it overhangs."""
    # A selection deletes nothing, so its overhang costs no bytes and leaves room for drafts.
    return max(1, min(MAX_SLACK, window // (4 if selecting else 64)))
