"""The votes of one item over several rounds."""

from __future__ import annotations

from dataclasses import dataclass, field

from lengthwise.workflows.batch_answers import Answer


@dataclass
class Votes:
    """Answers of one item, round by round."""

    answers: list[Answer] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether the last two rounds gave the same label, both of them confident (SEAS)."""
        if len(self.answers) < 2:
            return False
        one, two = self.answers[-2:]
        return one.label is not None and one == two and one.confident

    def weights(self, doubt: float = 1.0) -> dict[str, float]:
        """What each label has, in the order in which labels came.

        Args:
            doubt: what a vote counts that is not confident; a confident one counts 1.
        """
        found: dict[str, float] = {}
        names: dict[str, str] = {}
        for each in self.answers:
            if each.label is not None:
                # Free labels differ in case alone now and then.
                name = names.setdefault(each.label.casefold(), each.label)
                found[name] = found.get(name, 0.0) + (1.0 if each.confident else doubt)
        return found

    def winner(self, doubt: float = 1.0) -> str | None:
        """The label with most votes, of equal ones the first that was said; None without a vote.

        Args:
            doubt: as in `weights`.
        """
        found = self.weights(doubt)
        return max(found, key=lambda name: found[name]) if found else None


__all__ = ["Votes"]
