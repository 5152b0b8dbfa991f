"""A suffix automaton of a growing text: the longest end of it that stood there before.

Blumer et al., "The smallest automaton recognizing the subwords of a text", 1985. Every state stands
for ends of prefixes that occur at the same places. `link` leads from it to the longest shorter end
that occurs at more places. So the link of the last state is the longest end of the text that occurs
earlier too. A text of n tokens makes at most 2n - 1 states and 3n - 4 transitions. Adding a token
costs O(1) over time, whatever the length of the text.

`SuffixIndex` finds the most recent places of such an end, several at once, in less memory. The
automaton finds the earliest one, of any length, and never misses one.
"""

from __future__ import annotations

from collections.abc import Iterable


class SuffixAutomaton:
    """Transitions by token, link, length and first end (an index behind the place) of every state;
    state 0 is the empty text."""

    def __init__(self) -> None:
        self._next: list[dict[int, int]] = [{}]
        self._link = [-1]
        self._length = [0]
        self._first = [0]
        self._last = 0

    def __len__(self) -> int:
        """Tokens of the text."""
        return self._length[self._last]

    @property
    def states(self) -> int:
        return len(self._next)

    @property
    def transitions(self) -> int:
        return sum(map(len, self._next))

    def extend(self, tokens: Iterable[int]) -> None:
        """Appends tokens to the text."""
        following, link, lengths, first = self._next, self._link, self._length, self._first
        last, length = self._last, self._length[self._last]
        for token in tokens:
            new, length, state = len(following), length + 1, last
            following.append({})
            link.append(0)
            lengths.append(length)
            first.append(length)
            while state >= 0 and token not in following[state]:
                following[state][token] = new
                state = link[state]
            if state >= 0:
                link[new] = self._solid(state, token)
            last = new
        self._last = last

    def _solid(self, state: int, token: int) -> int:
        """The state of exactly one token more than `state`, split off where it is missing."""
        following, link, lengths = self._next, self._link, self._length
        wide = following[state][token]
        if lengths[wide] == lengths[state] + 1:
            return wide
        split = len(following)
        following.append(dict(following[wide]))
        link.append(link[wide])
        lengths.append(lengths[state] + 1)
        self._first.append(self._first[wide])
        link[wide] = split
        while state >= 0 and following[state].get(token) == wide:
            following[state][token] = split
            state = link[state]
        return split

    def longest(self, followed: int = 1) -> tuple[int, int]:
        """(end, length) of the earliest place of the longest end of the text that stood before.

        Its tokens are `text[end - length : end]`; length is 0 where there is none.

        followed: where fewer tokens than this follow the place, a shorter end is taken that stood
        further ahead, as long as there is one.
        """
        state = self._link[self._last]
        if state <= 0:
            return 0, 0
        count = len(self)
        while count - self._first[state] < followed and self._link[state] > 0:
            state = self._link[state]
        return self._first[state], self._length[state]


__all__ = ["SuffixAutomaton"]
