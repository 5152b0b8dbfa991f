"""LongProc's trips: the search for a plan, written out in our words.

Ye and others, 2025, arXiv:2501.05414. The authors' repository has the constraints and the right
plan; the search, which the prompt shows in its examples, is written by code. The hub's rows have
the authors' sentences.

Ours takes the same steps in the same order, a line each. It goes depth first over days: where a
fixed city begins on the day, that one, else the free ones as they are listed. A branch ends where
no flight leads to a city, or where the stay ends after the next fixed one begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

from lengthwise.evaluation.tasks.published._shared.files import Row
from lengthwise.evaluation.tasks.published._shared.values import number_in, text_in

# The longest published search has a few hundred.
MOST_LINES = 20_000


@dataclass(frozen=True, slots=True)
class Stay:
    """Days in a city. first: of a fixed one, the day on which it begins; 0 where it is free."""

    city: str
    days: int
    first: int = 0

    @property
    def last(self) -> int:
        """The day on which a fixed one ends."""
        return self.first + self.days - 1


@dataclass
class _Search:
    """stays: of all cities. flights: from city to city."""

    stays: Seq[Stay]
    flights: frozenset[tuple[str, str]]
    lines: list[str] = field(default_factory=list)

    def plan(self, day: int, done: tuple[Stay, ...]) -> tuple[Stay, ...] | None:
        """The first plan that goes on so; None where there is none."""
        depth = 2 * len(done)
        planned = ", ".join(each.city for each in done) or "nothing"
        self._say(depth, f"Day {day}. Planned so far: {planned}.")
        if len(done) == len(self.stays):
            self._say(depth, f"All {len(done)} cities are planned.")
            return done
        self._say(depth, f"Is there a city that is fixed to begin on day {day}?")
        fixed = next((each for each in self.stays if each.first == day), None)
        choices = [fixed] if fixed else [e for e in self.stays if not e.first and e not in done]
        if fixed:
            self._say(depth, f"Yes: {fixed.city}.")
        else:
            free = ", ".join(each.city for each in choices) or "none"
            self._say(depth, f"No. Free cities, to be tried in this order: {free}.")
        for choice in choices:
            if self._goes(depth + 1, day, done, choice):
                found = self.plan(day + choice.days - 1, (*done, choice))
                if found is not None:
                    return found
        self._say(depth + 1, f"Nothing is left to try on day {day}. Drop this branch.")
        return None

    def _goes(self, depth: int, day: int, done: tuple[Stay, ...], choice: Stay) -> bool:
        """Whether a city may come next; all that is looked at is written down."""
        end = day + choice.days - 1
        self._say(depth, f"Try {choice.city} for {choice.days} days, from day {day} to day {end}.")
        start = done[-1].city if done else "the start"
        self._say(depth, f"Is there a flight from {start} to {choice.city}?")
        if done and (start, choice.city) not in self.flights:
            self._say(depth, "No. Drop this branch.")
            return False
        self._say(depth, "Yes.")
        later = [each for each in self.stays if each.first > day]
        if not later:
            self._say(depth, f"Which fixed city begins after day {day}? None.")
            self._say(depth, "So the stay may end on any day.")
        else:
            after = min(later, key=lambda each: each.first)
            self._say(depth, f"Which fixed city begins after day {day}? {after.city}.")
            begun = f"The stay ends on day {end}, and {after.city} begins on day {after.first}"
            if after.first < end:
                self._say(depth, f"{begun}, which is before. Drop this branch.")
                return False
            self._say(depth, f"{begun}, which is not before.")
        self._say(depth, "This may come next. Go on.")
        return True

    def _say(self, depth: int, line: str) -> None:
        if len(self.lines) >= MOST_LINES:
            raise ValueError(f"the search for a plan is longer than {MOST_LINES:,} lines")
        self.lines.append(f"{' ' * depth}|- {line}" if depth else line)


def written_trip(row: Row) -> str:
    """The search and the plan of a row, as a right reply has them.

    Args:
        row: of the repository.

    Raises:
        ValueError: for constraints that have no plan, or are not as they are published.
    """
    stays = _stays(row)
    flights = frozenset((str(start), str(end)) for start, end in row["connected_cities"])
    search = _Search(stays, flights)
    if search.plan(1, ()) is None:
        raise ValueError("the constraints have no plan")
    fixed = sorted((each for each in stays if each.first), key=lambda each: each.first)
    free = [each for each in stays if not each.first]
    lines = [
        "First, the cities with their days, and which of them are fixed.",
        *map(_told, stays), "",
        *_listed("Fixed cities, by the day on which they begin:", fixed), "",
        *_listed("Free cities:", free), "", *search.lines,
    ]  # fmt: skip
    _, _, plan = text_in(row, "ground_truth_plan").partition("\n\n")
    solved = "\n".join(lines)
    return f"<Solving Procedure>\n{solved}\n</Solving Procedure>\n\n<Plan>\n{plan.strip()}\n</Plan>"


def _stays(row: Row) -> list[Stay]:
    """The stays in the order of the constraints, the fixed ones with their first day."""
    given: Seq[Mapping[str, Any]] = row["constraints"]
    fixed = {text_in(each, "city"): each for each in given if each["type"] == "fixed"}
    found = []
    for each in given:
        if each["type"] == "fixed":
            continue
        city, days = text_in(each, "city"), number_in(each, "num_days")
        if city in fixed:
            first, last = number_in(fixed[city], "start_day"), number_in(fixed[city], "end_day")
            found.append(Stay(city, last - first + 1, first))
        else:
            found.append(Stay(city, days))
    return found


def _told(stay: Stay) -> str:
    fixed = f", fixed from day {stay.first} to day {stay.last}" if stay.first else ""
    return f"* {stay.city}: {stay.days} days{fixed}."


def _listed(title: str, stays: Seq[Stay]) -> list[str]:
    return [title, *map(_told, stays)] if stays else [f"{title} none."]


__all__ = ["MOST_LINES", "Stay", "written_trip"]
