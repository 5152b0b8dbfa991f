"""Learns merges of byte pairs from words with counts, or from whole documents.

BPE (Sennrich et al., 1508.07909): the commonest pair of neighbours becomes a token, again and
again. `tokenizers` has a trainer for this; ours makes the same merges from the same words. It
can do what that one cannot: begin with merges that are there already, read pieces of any length in
little memory, keep pairs from merging, and go on where it was stopped.

Tokens 0 to 255 are the bytes, in the order of the letters that `tokenizers` writes them with. The
compiled loop and how it counts are in `merge_kernels` and `pair_kernels`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lengthwise._utils.files import write_aside
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.compiled import kernels
from lengthwise.tokenization.pieces import LONGEST
from lengthwise.tokenization.trainers import learner_state as at

Tokens = NDArray[np.int32]
LETTERS = sorted(bytes_to_unicode().values())
BYTES = [next(b for b, one in bytes_to_unicode().items() if one == letter) for letter in LETTERS]
"""Of tokens 0 to 255 the letters they are written with, and the bytes they are."""
TOKEN_OF_BYTE = np.argsort(np.array(BYTES)).astype(np.int32)
"""The token of every byte, int32 `[256]`."""
# A pair that is at least this share as common as the commonest one is looked at.
_REACH = 16
_STEP = 4
_ROUND = 1000
_SECONDS = 60.0
_BASE = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Rails:
    """What may become one token. most_words: words in it, 0 for any number. past_colon: whether one
    goes on with a space behind a colon. longest: bytes in it, 0 for any number. never: bytes that
    no token spells, as a special one has them."""

    most_words: int = 0
    past_colon: bool = True
    longest: int = 0
    never: bytes = b""


class Learner:
    """Learns merges over one array of tokens.

    tokens: pieces with -1 before, between and behind them, int32 `[places]`; it is changed.
    weights: how often each place counts, int32 `[places]`; None where each counts once.
    before: merges that made these tokens, int32 `[merges, 2]`.
    size: tokens at the end, bytes included. least: how often a pair has to occur.

    Raises:
        TokenizerError: without numba, or for more tokens than `LONGEST`.
    """

    def __init__(
        self,
        tokens: Tokens,
        size: int,
        weights: Tokens | None = None,
        before: Tokens | None = None,
        least: int = 1,
        rails: Rails | None = None,
    ) -> None:
        if len(tokens) > LONGEST:
            raise TokenizerError(
                f"a corpus of {len(tokens):,} tokens is too large to learn from; allowed are "
                f"{LONGEST:,}: take a sample of it"
            )
        self.least = max(least, 1)
        self.tokens = tokens
        self.weights = np.empty(0, np.int32) if weights is None else weights
        self.rails = rails or Rails()
        self.size = size
        self._merge: Any = kernels("trainers.merge_kernels")
        self._names: Any = kernels("trainers.name_kernels")
        self._pairs: Any = kernels("trainers.pair_kernels")
        self._state = self._begin(before if before is not None else np.empty((0, 2), np.int32))
        self._reached = 0

    @property
    def vocabulary(self) -> int:
        """Tokens so far, bytes included."""
        return int(self._state.numbers[at.VOCABULARY])

    @property
    def merges(self) -> Tokens:
        """Merges so far, int32 `[merges, 2]`: of one that was made twice, the second time."""
        made = self._made()
        keys = self._keys(made)
        _, last = np.unique(keys[::-1], return_index=True)
        kept = np.sort(len(keys) - 1 - last)
        return made[kept]

    def learn(self, told: Callable[[float], None], keep: Path | None = None) -> Tokens:
        """Merges until the vocabulary is full or no pair is common enough.

        Args:
            told: called with the share of the vocabulary that is done.
            keep: a file to go on from; it is written every minute and once more at the end.

        Returns:
            the merges, int32 `[merges, 2]`; those before are not among them.
        """
        saved = time.monotonic()
        if self._state.numbers[at.LEAST] == 0 and not self._recount():
            return self.merges
        first = self.vocabulary
        while self._step():
            told((self.vocabulary - first) / max(self.size - first, 1))
            if keep is not None and time.monotonic() - saved > _SECONDS:
                self.save(keep)
                saved = time.monotonic()
        if keep is not None:
            self.save(keep)
        return self.merges

    def save(self, path: Path) -> None:
        """Writes all that `resume` needs, aside."""
        state = self._state
        pairs = int(state.numbers[at.PAIRS])
        merged = state.merged[:pairs] == 1
        with write_aside(path) as aside, aside.open("wb") as file:
            made = int(state.numbers[at.MADE])
            np.savez(
                file,
                tokens=state.tokens,
                weights=state.weights,
                made=np.stack([each[:made] for each in (state.left, state.right)], axis=1),
                keys=state.key[:pairs][merged],
                counts=state.count[:pairs][merged],
            )

    def resume(self, path: Path) -> None:
        """Goes on from a file of `save`, written by a learner of the same arguments."""
        with np.load(path) as file:
            self.tokens, self.weights = file["tokens"], file["weights"]
            self._state = self._state._replace(tokens=self.tokens, weights=self.weights)
            self._merged = file["keys"], file["counts"]
            self._again(file["made"], count=True)
        self._state.numbers[at.LEAST] = 0

    def _made(self) -> Tokens:
        made = int(self._state.numbers[at.MADE])
        return np.stack([self._state.left[:made], self._state.right[:made]], axis=1)

    @staticmethod
    def _keys(merges: Tokens) -> NDArray[np.int64]:
        return (merges[:, 0].astype(np.int64) << 32) | merges[:, 1].astype(np.int64)

    def _begin(self, before: Tokens) -> Any:
        room = max(self.size, 256 + len(before)) + 1
        slots = 1 << (4 * room).bit_length()
        by_side = [np.zeros((2, room), np.int64) for _ in range(3)]
        by_side[2][:] = -2
        arrays: list[Any] = [
            self.tokens, self.weights,
            np.zeros(room, np.uint64), np.ones(room, np.uint64),
            np.zeros(room, np.int32), np.zeros(room, np.int32), np.zeros(room, np.uint8),
            np.zeros(slots, np.uint64), np.full(slots, -1, np.int32),
            *(np.zeros(room, np.int32) for _ in range(3)),
            np.full(2, -1, np.int64), np.zeros(2, np.int32),
            *(np.zeros(1, np.int64) for _ in range(4)), np.zeros(1, np.uint8),
            np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.int64),
            *by_side, np.zeros(2 * room, np.int32),
            np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.uint64),
            np.zeros(at.NUMBERS, np.int64),
        ]  # fmt: skip
        state = at.State(*arrays)
        numbers = state.numbers
        numbers[at.CURRENT], numbers[at.SIZE] = -1, self.size
        numbers[at.MOST_WORDS] = self.rails.most_words
        numbers[at.PAST_COLON] = self.rails.past_colon
        numbers[at.LONGEST], numbers[at.NEVER] = self.rails.longest, len(self.rails.never)
        self._names.name_bytes(state, np.array(BYTES, np.uint8), np.uint64(_BASE))
        state.never[0] = _digest(state, self.rails.never)
        self._state = state
        self._again(before, count=False)
        self._merged = self._keys(before), np.full(len(before), at.BEFORE, np.int64)
        return state

    def _again(self, merges: Tokens, count: bool) -> None:
        """Names the tokens of merges once more, and counts these as made here or not."""
        state = self._state
        if len(merges) > len(state.left):
            self._state = state = self._longer(
                state, ("left", "right", "made"), len(merges) + len(state.left)
            )
        self._names.name_merges(state, np.ascontiguousarray(merges, dtype=np.int32), count)

    def _step(self) -> bool:
        """A round of merges; False when there is nothing left to do."""
        status = self._merge.advance(self._state, _ROUND)
        need = 2 * int(self._state.numbers[at.NEED])
        if status == at.MORE_EVENTS:
            self._state = self._longer(self._state, ("event", "event_place"), need)
        elif status == at.MORE_POOL:
            self._state = self._longer(self._state, ("pool",), need)
        elif status == at.MORE_MERGES:
            more = 2 * len(self._state.left)
            self._state = self._longer(self._state, ("left", "right", "made"), more)
        elif status == at.MORE_PAIRS:
            self._grow_pairs(need)
        elif status == at.RECOUNT:
            return self._recount()
        return bool(status != at.FULL)

    @staticmethod
    def _longer(state: Any, names: tuple[str, ...], room: int) -> Any:
        changed = {}
        for name in names:
            old = getattr(state, name)
            changed[name] = np.empty(max(room, len(old)), old.dtype)
            changed[name][: len(old)] = old
        return state._replace(**changed)

    def _grow_pairs(self, room: int) -> None:
        names = ("key", "count", "start", "number", "merged", "heap", "heap_count")
        slots = 1 << (2 * room).bit_length()
        state = self._longer(self._state, names, room)
        if slots > len(state.slot_key):
            table = np.empty(slots, np.int64), np.empty(slots, np.int32)
            state = state._replace(slot_key=table[0], slot_pair=table[1])
            self._pairs.grow_table(state)
        self._state = state

    def _recount(self) -> bool:
        """Counts all pairs anew, down to a lower count; False when there is none to go down to."""
        pairs, numbers = self._pairs, self._state.numbers
        reached, unsure = int(numbers[at.LEAST]), int(numbers[at.UNSURE])
        if reached and reached <= self.least and not unsure:
            return False
        known = int(numbers[at.PAIRS])
        if reached:
            merged = self._state.merged[:known] == 1
            self._merged = self._state.key[:known][merged], self._state.count[:known][merged]
        self._squeeze()
        least = self._reach(reached + unsure) if reached else 0
        buckets = np.zeros(_buckets(len(self.tokens), least), np.int32)
        fullest = int(pairs.fill_buckets(self._state, buckets))
        least = least or self._reach(fullest)
        while True:
            numbers[at.LEAST] = least
            self._fill_table(buckets)
            if numbers[at.HEAP] > 0 and self._top() >= least:
                return True
            if least <= self.least:
                return False
            # Buckets hold several pairs, so the fullest one says more than there is.
            least = max(self.least, least // 2)

    def _squeeze(self) -> None:
        """Closes the gaps that merges left in the array."""
        state = self._state
        places = self._pairs.squeeze(state.tokens, state.weights)
        self.tokens = _shortened(state.tokens, places)
        self.weights = _shortened(state.weights, min(places, len(state.weights)))
        self._state = state._replace(tokens=self.tokens, weights=self.weights)

    def _reach(self, top: int) -> int:
        """Down to which count pairs are looked at, where none has more than `top`."""
        # Among rare pairs a step down in count brings many more.
        return max(self.least, top // (_REACH if top >= _REACH**2 else _STEP))

    def _top(self) -> int:
        return int(self._state.heap_count[0])

    def _fill_table(self, buckets: Tokens) -> None:
        pairs = self._pairs
        keys, counts = self._merged
        room = max(2 * len(keys), 1 << 16)
        while True:
            self._grow_pairs(room)
            pairs.add_merged(self._state, keys, counts, buckets)
            if pairs.count_pairs(self._state, buckets):
                break
            room *= 4
        places = int(pairs.keep_common(self._state))
        if len(self._state.pool) < places:
            # Half as much again, for what the merges bring.
            self._state = self._state._replace(pool=np.empty(3 * places // 2 + 1024, np.int32))
        pairs.place_pairs(self._state, buckets)


def _digest(state: Any, spelling: bytes) -> int:
    """The hash of a spelling, as `name_kernels` has it."""
    found = 0
    for byte in spelling:
        found = (found * _BASE + int(state.digest[TOKEN_OF_BYTE[byte]])) % (1 << 64)
    return found


def _shortened(array: Tokens, places: int) -> Tokens:
    """The beginning of an array; what is behind it is given back to the system, without a copy."""
    if not array.flags.owndata:
        return array[:places]
    array.resize(places, refcheck=False)
    return array


def _buckets(places: int, least: int) -> int:
    """How many buckets, so that what falls into one by chance is well below the least count."""
    if not least:
        return 1 << 16
    return 1 << min(max((4 * places // least).bit_length(), 12), 26)


__all__ = ["BYTES", "LETTERS", "TOKEN_OF_BYTE", "Learner", "Rails", "Tokens"]
