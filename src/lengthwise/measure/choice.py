"""Which recipe we would pick from a run, by a rule that fits in a sentence.

Quality comes first and is a bar, not a trade. Above the bar, the pick is the recipe that is soonest
with an answer per byte it holds; and as long as full attention itself clears the bar, a pick has to
be neither slower nor larger than it. When nothing is, the pick is `full`, said plainly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lengthwise.measure.rows import Row

LEAST_AGREEMENT = 0.9
PROBE_TOLERANCE = 0.5
ANSWER_TOKENS = 128
_NOISE = 1.05
_PROBES = ("copy_loss", "needle_loss")


class Choice(NamedTuple):
    """recipe: the one to pick, None when nothing ran. why: the reason, as one sentence or two."""

    recipe: str | None
    why: str


def answer_seconds(row: Row) -> float | None:
    """Seconds until an answer of 128 tokens is there: first token, then the rest at its pace.

    Without a time to first token, the pace alone; None when the pace is unknown.
    """
    if not row.tokens_per_s:
        return None
    return (row.ttft_s or 0.0) + ANSWER_TOKENS / row.tokens_per_s


def choose(rows: Sequence[Row], *, full_is_valid: bool) -> Choice:
    """The recipe to pick among `rows`, one per recipe, all at one length.

    The bar, where full attention is valid: at least 90% of its next tokens, and each probe's loss
    within 0.5 nats of full's. Where it is not: each probe's loss within 0.5 nats of the best one
    measured. Above it, the smallest product of seconds to an answer of 128 tokens and KV bytes;
    where `full` clears the bar too, only recipes within 5% (the clock's noise) of its seconds and
    of its bytes, or below, are considered.
    """
    ran = [row for row in rows if row.refused is None and answer_seconds(row) and row.kv_bytes]
    full = next((row for row in ran if row.recipe == "full"), None)
    if not ran:
        return Choice(None, "No recipe ran to the end, so there is none to pick.")
    bars = _probe_bars(ran, full if full_is_valid else None)
    known = full_is_valid and any(row.agreement is not None for row in ran)
    good = [row for row in ran if _clears(row, bars, LEAST_AGREEMENT if known else None)]
    if not good:
        return Choice(None, "No quality was measured, so there is nothing to pick by.")
    reference = full if full in good else None
    if reference is not None:
        good = [row for row in good if row is reference or _no_worse(row, reference)]
    pick = min(good, key=_cost)
    # A gain within the clock's noise is none: then the plainest recipe is the honest answer.
    if reference is not None and _cost(pick) * _NOISE >= _cost(reference):
        pick = reference
    return Choice(pick.recipe, _why(pick, full, full_is_valid=full_is_valid))


def _probe_bars(ran: Sequence[Row], truth: Row | None) -> dict[str, float]:
    """The highest loss allowed for each probe that was measured."""
    bars = {}
    for name in _PROBES:
        known = [
            loss for row in ran if (loss := getattr(row, name)) is not None and math.isfinite(loss)
        ]
        own = getattr(truth, name) if truth is not None else None
        if own is not None:
            bars[name] = own + PROBE_TOLERANCE
        elif known:
            bars[name] = min(known) + PROBE_TOLERANCE
    return bars


def _clears(row: Row, bars: dict[str, float], least: float | None) -> bool:
    """least: the agreement to reach; None where there is no truth to agree with."""
    if not bars and least is None:
        return False
    if least is not None and (row.agreement is None or not row.agreement >= least):
        return row.recipe == "full"
    losses = {name: getattr(row, name) for name in bars}
    return all(loss is not None and loss <= bars[name] for name, loss in losses.items())


def _cost(row: Row) -> float:
    return (answer_seconds(row) or math.inf) * (row.kv_bytes or math.inf)


def _no_worse(row: Row, full: Row) -> bool:
    slower = (answer_seconds(row) or math.inf) > _NOISE * (answer_seconds(full) or 0)
    return not slower and (row.kv_bytes or math.inf) <= _NOISE * (full.kv_bytes or 0)


def _why(pick: Row, full: Row | None, *, full_is_valid: bool) -> str:
    bar = (
        f"at least {LEAST_AGREEMENT:.0%} of full attention's next tokens, and probe losses within "
        f"{PROBE_TOLERANCE} nats of its own"
        if full_is_valid
        else f"probe losses within {PROBE_TOLERANCE} nats of the best recipe, full attention being "
        "no truth at a length the model was not trained for"
    )
    if pick is full:
        return (
            "Nothing beats full attention here: no other recipe clears the bar "
            f"({bar}) while being faster or smaller and neither slower nor larger."
        )
    return (
        f"Of the recipes that clear the bar ({bar}), it has the smallest product of seconds to "
        f"an answer and KV bytes: {_gain(pick, full)}."
    )


def _gain(pick: Row, full: Row | None) -> str:
    seconds = answer_seconds(pick) or math.inf
    megabytes = (pick.kv_bytes or 0) / 1e6
    text = f"{ANSWER_TOKENS} tokens in {seconds:.3g} s, {megabytes:.3g} MB held"
    full_seconds = answer_seconds(full) if full is not None else None
    if full is None or not full_seconds or not full.kv_bytes:
        return text
    return (
        f"{ANSWER_TOKENS} tokens in {seconds:.3g} s (full: {full_seconds:.3g} s), "
        f"{megabytes:.3g} MB held (full: {full.kv_bytes / 1e6:.3g} MB)"
    )
