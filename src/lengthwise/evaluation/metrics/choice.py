"""Which recipe we would take from a run, for a goal that was named; without one, the trade-off.

Three things count: what a recipe loses, how long an answer of the length asked for takes, and the
bytes it holds. Nobody's goal is a product of them. So a pick needs a goal (quality, speed or
memory), and for speed and memory quality is a bar, not a trade. Without a goal the answer is the
front: every recipe that no other beats.

What a recipe loses is one number, in nats a token. Where full attention is valid, it is the most
that KL and the probes' losses lie above full's own. Beyond the trained length full is no truth;
there it is the most that the probes' losses lie above the best measured. A recipe that chooses what
enters the context reads another text than full does, and is judged by probes alone. Differences
within the noise of the clock (5%) and of the losses (0.02 nats) are none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.row import CompareRow

GOALS = ("quality", "speed", "memory")
LEAST_AGREEMENT = 0.9
PROBE_TOLERANCE = 0.5
# Fewer tokens than these say too little of an agreement to judge by (90% is 81 to 95% of 60).
FEWEST_TOKENS = 100
# A pace that rests on fewer is named as such.
FEW_TIMED = 16
_CLOCK = 1.05
_NATS = 0.02
# What is lost reads as nothing below this.
_NOTHING = 0.005
INTRODUCTION = "No recipe is best at everything, and none beats these"
WAYS = "With --for quality, speed or memory one is picked."
_PROBES = ("copy_loss", "needle_loss")


class RecipeChoice(NamedTuple):
    """What was picked, or the trade-off where no goal was named.

    recipe: the one to pick for the goal; None where there is none or no goal was named.
    why: the reason, in a sentence or a few.
    goal: the goal that was named.
    front: where no goal was named, the recipes that no other beats, the one that keeps most first.
    reasons: of each of the front what speaks for it, and what it loses and costs.
    """

    recipe: str | None
    why: str
    goal: str | None = None
    front: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def check_goal(goal: str | None) -> None:
    """Raises LengthwiseError for a goal that there is not."""
    if goal is not None and goal not in GOALS:
        raise LengthwiseError(f"goal {goal!r}: allowed are {', '.join(GOALS)}")


def asked_tokens(row: CompareRow) -> int:
    """Tokens of the answer that a recipe is judged on: as many as were asked for."""
    return row.max_new_tokens or row.answer_tokens or 1


def answer_seconds(row: CompareRow) -> float | None:
    """Seconds until an answer of the length asked for is there: the first token, then the rest.

    The rest comes at the pace measured. None where no time was measured, or no pace: what ended
    with its first token says nothing of the others.
    """
    rest = asked_tokens(row) - 1
    if not _timed(row) or (rest and not row.tokens_per_s):
        return None
    return (row.ttft_s or 0.0) + (rest / row.tokens_per_s if row.tokens_per_s else 0.0)


def _timed(row: CompareRow) -> bool:
    return row.ttft_s is not None or bool(row.tokens_per_s)


def choose(
    rows: Sequence[CompareRow], *, full_is_valid: bool, goal: str | None = None
) -> RecipeChoice:
    """The recipe to pick among `rows` for a goal; or the trade-off.

    Speed and memory have a bar. It asks for as many expected answers as the best has. Where full
    attention is valid, it also asks for at least 90% of its next tokens, and for each probe's loss
    within 0.5 nats of full's. Where it is not, each probe's loss has to be within 0.5 nats of the
    best measured.

    Args:
        rows: one a recipe, all at one length.
        full_is_valid: whether full attention is the truth at that length.
        goal: "quality" takes the one that loses least, of recipes alike in that the soonest.
            "speed" takes the soonest above the bar, where it is sooner than full. "memory" takes
            the one above the bar that holds the fewest bytes, where they are fewer than full's.
            None tells the trade-off.

    Returns:
        The pick and the reason, or the recipes that no other beats.

    Raises:
        LengthwiseError: for a goal that there is not.
    """
    check_goal(goal)
    ran = [row for row in rows if row.refused is None and _timed(row) and row.kv_bytes]
    if not ran:
        return RecipeChoice(None, "No recipe ran to the end, so there is none to pick.", goal)
    field = _Field(ran, full_is_valid)
    if reason := field.unjudged():
        return RecipeChoice(None, reason, goal)
    if goal is None:
        return _trade_off(field)
    return {"quality": _for_quality, "speed": _for_speed, "memory": _for_memory}[goal](field)


class _Field:
    """The rows of a choice, and what each is held against."""

    def __init__(self, ran: Sequence[CompareRow], valid: bool) -> None:
        self.ran, self.valid = ran, valid
        self.full = next((row for row in ran if row.recipe == "full"), None)
        self.truth = self.full if valid else None
        self.references = {name: self._reference(name) for name in _PROBES}
        self.faithful = valid and any(row.kl is not None for row in ran)
        self.found = max((float(row.expected_found or 0) for row in ran), default=0.0)

    def _reference(self, name: str) -> float | None:
        """A probe's loss that others are held against."""
        own = getattr(self.truth, name) if self.truth is not None else None
        known = [
            x for row in self.ran if (x := getattr(row, name)) is not None and math.isfinite(x)
        ]
        return own if own is not None else min(known, default=None)

    def unjudged(self) -> str | None:
        """Why nothing can be said of quality; None where something can."""
        probed = any(reference is not None for reference in self.references.values())
        if not probed and not self.faithful:
            return "No quality was measured, so there is nothing to pick by."
        n = max((row.fidelity_tokens or 0 for row in self.ran), default=0)
        if not probed and 0 < n < FEWEST_TOKENS:
            return (
                f"Only {n} tokens of text could be compared, and fewer than {FEWEST_TOKENS} say "
                "too little to pick by; give a longer text."
            )
        return None

    def lost(self, row: CompareRow) -> float:
        """Nats a token that a recipe loses, infinite where something was not measured."""
        parts = [row.kl] if self.faithful and not _chosen(row) else []
        for name, reference in self.references.items():
            if reference is not None:
                value = getattr(row, name)
                parts.append(None if value is None else value - reference)
        known = [max(0.0, part) for part in parts if part is not None and not math.isnan(part)]
        return max(known) if len(known) == len(parts) and known else math.inf

    def missed(self, row: CompareRow) -> float:
        """The share of expected answers, found by the best, that a recipe does not find."""
        return max(0.0, self.found - float(row.expected_found or 0))

    def clears(self, row: CompareRow) -> bool:
        if self.missed(row) > 0:
            return False
        if row is self.truth:
            return True
        known = self.valid and any(other.agreement is not None for other in self.ran)
        unfaithful = row.agreement is None or not row.agreement >= LEAST_AGREEMENT
        if known and unfaithful and not _chosen(row):
            return False
        references = {n: r for n, r in self.references.items() if r is not None}
        if _chosen(row) and not references:
            return False
        losses = {name: getattr(row, name) for name in references}
        return all(
            loss is not None and loss <= references[name] + PROBE_TOLERANCE
            for name, loss in losses.items()
        )

    def bar(self) -> str:
        found = ", and as many expected answers as the best" if self.found else ""
        probes = f"probe losses within {PROBE_TOLERANCE} nats of"
        if not self.valid:
            return (
                f"{probes} the best recipe, full attention being no truth at a length the model "
                f"was not trained for{found}"
            )
        n = max((row.fidelity_tokens or 0 for row in self.ran), default=0)
        over = f" over {n} tokens" if n else ""
        parts = [f"at least {LEAST_AGREEMENT:.0%} of full attention's next tokens{over}"]
        if any(reference is not None for reference in self.references.values()):
            parts.append(f"{probes} its own")
        return f"{' and '.join(parts)}{found}"

    def above(self) -> list[CompareRow]:
        return [row for row in self.ran if self.clears(row)]


def _chosen(row: CompareRow) -> bool:
    """Whether a recipe chose what it read, so that its probes alone say what it loses."""
    return row.fidelity_tokens == 0


def _seconds(row: CompareRow) -> float:
    return answer_seconds(row) or math.inf


def _bytes(row: CompareRow) -> float:
    return row.kv_bytes or math.inf


def _for_quality(field: _Field) -> RecipeChoice:
    fewest = min(field.missed(row) for row in field.ran)
    good = [row for row in field.ran if field.missed(row) <= fewest]
    least = min(field.lost(row) for row in good)
    if not math.isfinite(least):
        return RecipeChoice(None, "No recipe had every quality measured, so there is none to pick.",
                      "quality")  # fmt: skip
    good = [row for row in good if field.lost(row) < least + _NOTHING]
    pick = _soonest(good, field)
    return RecipeChoice(pick.recipe, f"For quality: {_said(field, pick)}.", "quality")


def _for_speed(field: _Field) -> RecipeChoice:
    good = field.above()
    if not good:
        return RecipeChoice(None, f"No recipe clears the bar ({field.bar()}).", "speed")
    pick = _soonest(good, field)
    if pick is field.full:
        why = (
            f"For speed: of the recipes that clear the bar ({field.bar()}) none is faster than full"
        )
        return RecipeChoice(pick.recipe, f"{why}: {_cost(pick)}.", "speed")
    why = f"For speed: the soonest of those that clear the bar ({field.bar()})"
    return RecipeChoice(pick.recipe, f"{why}: {_said(field, pick)}.{_close(field, pick)}", "speed")


def _for_memory(field: _Field) -> RecipeChoice:
    full, bar = field.full, field.bar()
    good = [row for row in field.above() if row is not full]
    if full is not None:
        good = [row for row in good if _bytes(row) * _CLOCK <= _bytes(full)]
    if not good:
        return RecipeChoice(
            None, f"For memory: no recipe that clears the bar ({bar}) holds less than full does.",
            "memory",
        )  # fmt: skip
    pick = min(good, key=lambda row: (_bytes(row), row.kv_peak_bytes or 0, _seconds(row)))
    peak = ""
    if full is not None and pick.kv_peak_bytes and pick.kv_peak_bytes * _CLOCK > _bytes(full):
        peak = f" While it read it held as much as full ({pick.kv_peak_bytes / 1e6:.3g} MB)."
    why = f"For memory: the smallest of those that clear the bar ({bar}): {_said(field, pick)}."
    return RecipeChoice(pick.recipe, f"{why}{peak}{_close(field, pick)}", "memory")


def _soonest(rows: Sequence[CompareRow], field: _Field) -> CompareRow:
    """The soonest; full where the gain over it is within the clock's noise."""
    pick = min(rows, key=_seconds)
    full = field.full
    plain = full is not None and full in rows and _seconds(pick) * _CLOCK >= _seconds(full)
    return full if plain and full is not None else pick


def _trade_off(field: _Field) -> RecipeChoice:
    front = _front(field)
    if not front:
        return RecipeChoice(
            None, "No recipe had every quality measured, so there is nothing to weigh."
        )
    best = {
        "keeps most": min(front, key=field.lost), "soonest": _timed_first(front),
        "smallest": min(front, key=_bytes),
    }  # fmt: skip
    if field.found:
        best = {"answers best": front[0], **best}
    reasons = []
    for row in front:
        titles = ", ".join(title for title, winner in best.items() if winner is row)
        reasons.append("; ".join(filter(None, [titles, _said(field, row, beside=False)])))
    names = tuple(row.recipe for row in front)
    if len(front) == 1:
        why = f"No other recipe beats {names[0]} in anything: {reasons[0]}."
    else:
        told = "; ".join(f"{n} ({reason})" for n, reason in zip(names, reasons, strict=True))
        why = f"{INTRODUCTION}: {told}. {WAYS}"
    return RecipeChoice(None, why, None, names, tuple(reasons))


def _timed_first(rows: Sequence[CompareRow]) -> CompareRow | None:
    """The soonest of the rows whose time is known."""
    timed = [row for row in rows if answer_seconds(row) is not None]
    return min(timed, key=_seconds, default=None)


def _front(field: _Field) -> list[CompareRow]:
    """Recipes that no other beats, the one that loses least first; of equals the plainest."""
    known = [row for row in field.ran if math.isfinite(field.lost(row))]
    order = sorted(known, key=lambda row: (row is not field.full, len(row.recipe)))
    front: list[CompareRow] = []
    for row in order:
        beaten = any(_beats(field, other, row) for other in known if other is not row)
        if not beaten and not any(_alike(field, other, row) for other in front):
            front.append(row)
    return sorted(front, key=lambda row: (field.missed(row), field.lost(row)))


def _worse(field: _Field, one: CompareRow, other: CompareRow) -> list[bool]:
    """In which of the things that count `one` is worse than `other` by more than noise."""
    return [
        field.missed(one) > field.missed(other),
        field.lost(one) > field.lost(other) + _NATS,
        _seconds(one) > _seconds(other) * _CLOCK,
        _bytes(one) > _bytes(other) * _CLOCK,
    ]


def _beats(field: _Field, one: CompareRow, other: CompareRow) -> bool:
    return not any(_worse(field, one, other)) and any(_worse(field, other, one))


def _alike(field: _Field, one: CompareRow, other: CompareRow) -> bool:
    return not any(_worse(field, one, other)) and not any(_worse(field, other, one))


def _said(field: _Field, row: CompareRow, beside: bool = True) -> str:
    """What a recipe loses and costs, in words. beside: also what full costs."""
    against = "full" if field.valid else "the best"
    lost = field.lost(row)
    parts = [f"loses {lost:.2f} nats a token to {against}" if lost >= _NOTHING
             else f"loses nothing to {against}", _cost(row)]  # fmt: skip
    if field.found:
        parts.insert(0, f"finds {float(row.expected_found or 0):.0%} of the expected answers")
    full = field.full
    if beside and full is not None and row is not full:
        parts.append(f"full: {_cost(full)}")
    return ", ".join(parts)


def _cost(row: CompareRow) -> str:
    n, rests = asked_tokens(row), ""
    timed = row.answer_tokens
    if timed is not None and timed < min(FEW_TIMED, n):
        rests = f" (its pace rests on {timed} tokens)"
    tokens = f"{n} token{'s' if n != 1 else ''}"
    if answer_seconds(row) is None:
        when = "no known time (it wrote no second one)"
    else:
        when = f"{_seconds(row):.3g} s{rests}"
    return f"{tokens} in {when}, {_bytes(row) / 1e6:.3g} MB held"


def _close(field: _Field, row: CompareRow) -> str:
    """Says so where the bar lies within what the agreement is known to."""
    if not field.valid or row.agreement_interval is None:
        return ""
    low, high = row.agreement_interval
    if low >= LEAST_AGREEMENT:
        return ""
    return (
        f" Its agreement of {row.agreement or 0:.1%} lies between {low:.1%} and {high:.1%}, so the "
        "bar is too close to call."
    )
