"""In which order the texts of a batch job join: group by group, decode-heavy ones first."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.serving.batch_plan import (
    Group,
    OutputLengths,
    decode_heavy_first,
    groups_of,
)
from lengthwise.serving.job import Ask


@dataclass(eq=False)
class Prefix:
    """What the members of a group share. left: members that are not done. to_join: not begun.

    sequence: has read the prefix; None before the first member and after the last.
    """

    group: Group
    plan: Plan
    left: int
    to_join: deque[Text]
    sequence: Sequence | None = None


@dataclass(eq=False)
class Text:
    """A text of a request, on its way. said: tokens it had when it gave up its room, at most."""

    request: int
    number: int
    ask: Ask
    prefix: Prefix | None = None
    said: int = 0


class Order:
    """Which text joins next.

    planned: False is the order they came in, each text a group of its own. done: texts that ended.
    groups: of two texts or more.
    """

    def __init__(self, lengths: OutputLengths, least: int, planned: bool = True) -> None:
        self.lengths, self.least, self.planned = lengths, least, planned
        self.done = self.groups = 0
        self._sorted_at = 0
        self._waiting: list[Prefix] = []
        self._now: Prefix | None = None
        self._again: list[Text] = []

    def add(self, alike: Seq[Text], plan: Plan) -> None:
        """Puts texts into groups.

        Args:
            alike: texts of one recipe.
            plan: of the recipe.
        """
        for group in self._groups_of(alike):
            members = deque(alike[number] for number in group.members)
            prefix = Prefix(group, plan, len(members), members)
            for text in members:
                text.prefix = prefix
            self._waiting.append(prefix)
            self.groups += len(members) > 1

    def _groups_of(self, alike: Seq[Text]) -> list[Group]:
        # Who decides while reading by how long the prompt is, does not know it in a prefix.
        by_length = any(method.reads_by_length for method in alike[0].ask.recipe.methods)
        if by_length or not self.planned:
            return [Group(0, (number,)) for number in range(len(alike))]
        return groups_of([text.ask.ids for text in alike], self.least)

    def sort(self) -> None:
        """Puts groups that have not begun in order, by what is expected of their members now."""
        self._sorted_at = self.done
        if not self.planned:
            self._waiting.sort(key=lambda prefix: -prefix.to_join[0].request)
            return
        texts = [text for prefix in self._waiting for text in prefix.to_join]
        number = {id(text): n for n, text in enumerate(texts)}
        groups: list[Group] = []
        by_first: dict[int, Prefix] = {}
        for prefix in self._waiting:
            members = tuple(number[id(text)] for text in prefix.to_join)
            groups.append(Group(prefix.group.prefix, members))
            by_first[min(members)] = prefix
        lengths = [len(text.ask.ids) for text in texts]
        ordered = decode_heavy_first(groups, lengths, lambda n: self.expected(texts[n]))
        self._waiting = []
        # The next one is taken from the end.
        for group in reversed(ordered):
            prefix = by_first[min(group.members)]
            prefix.to_join = deque(texts[n] for n in group.members)
            self._waiting.append(prefix)

    def expected(self, text: Text) -> float:
        """Tokens that a text is expected to have: twice what it had, where it had to begin again.

        Args:
            text: in question.
        """
        most = text.ask.max_new_tokens
        return min(most, max(self.lengths.expected(most), 2 * text.said, 1))

    def again(self, text: Text) -> None:
        """Puts a text before all others.

        Args:
            text: that had begun, and gave up its room.
        """
        self._again.append(text)

    @property
    def more(self) -> bool:
        """Whether there are texts that have not joined."""
        return bool(self._again or self._waiting or (self._now and self._now.to_join))

    def next(self) -> Text | None:
        """The text that joins next; None where none is left."""
        if self._again:
            return self._again.pop()
        if self._now is None or not self._now.to_join:
            if not self._waiting:
                return None
            # Lengths become known as texts end.
            if self.done >= 2 * max(1, self._sorted_at):
                self.sort()
            self._now = self._waiting.pop()
        return self._now.to_join.popleft()


__all__ = ["Order", "Prefix", "Text"]
