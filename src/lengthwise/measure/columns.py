"""The columns of every report, once: what is shown, its unit, and which direction is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lengthwise.measure.rows import Row

DASH = "–"

Value = Callable[[Row, Row | None], float | None]


@dataclass(frozen=True, slots=True)
class Column:
    """One measured column.

    head: a short heading. unit: its unit, as short. title: what it means, for a tooltip or legend.
    value: from (row, the row of `full` or None) to a number in that unit, None when not measured.
    decimals: the same down the column, so that points line up. better: which direction is better.
    """

    head: str
    unit: str
    title: str
    value: Value
    decimals: int = 2
    better: Literal["high", "low"] = "low"

    def text(self, row: Row, full: Row | None) -> str:
        """The value as people read it; a dash when it was not measured."""
        return number(self.value(row, full), self.decimals)


def number(value: float | None, decimals: int = 2) -> str:
    """`value` with thousands separated; a dash for None, a word where it is not finite."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else "nan"
    return f"{value:,.{decimals}f}"


def best_of(column: Column, rows: Sequence[Row], full: Row | None) -> Row | None:
    """The row that stands out in a column; None when the best two read the same."""
    known = [
        (value, row)
        for row in rows
        if (value := column.value(row, full)) is not None and math.isfinite(value)
    ]
    if len(known) < 2:
        return None
    pick = max if column.better == "high" else min
    row = pick(known, key=lambda pair: pair[0])[1]
    same = sum(column.text(other, full) == column.text(row, full) for _, other in known)
    return row if same == 1 else None


def full_of(rows: Sequence[Row]) -> Row | None:
    """The row of the empty recipe, when it ran."""
    return next((row for row in rows if row.recipe == "full" and row.refused is None), None)


def speed_ratio(row: Row, full: Row | None) -> float | None:
    """Tokens per second, as a multiple of full's."""
    if full is None or not full.tokens_per_s or row.tokens_per_s is None:
        return None
    return row.tokens_per_s / full.tokens_per_s


def bytes_share(row: Row, full: Row | None) -> float | None:
    """KV bytes kept, in percent of full's."""
    if full is None or not full.kv_bytes or row.kv_bytes is None:
        return None
    return 100 * row.kv_bytes / full.kv_bytes


def _scaled(name: str, factor: float = 1.0) -> Value:
    def value(row: Row, full: Row | None) -> float | None:
        measured = getattr(row, name)
        return None if measured is None else measured * factor

    return value


AGREEMENT = Column(
    "agree",
    "%",
    "share of next tokens that are the ones full attention finds most likely",
    _scaled("agreement", 100),
    decimals=1,
    better="high",
)
KL = Column("KL", "nats", "KL(full || recipe) per token", _scaled("kl"), decimals=3)
COPY = Column("copy", "nats", "loss of 64 planted words when they come again", _scaled("copy_loss"))
NEEDLE = Column("needle", "nats", "loss of planted keys, mean over depths", _scaled("needle_loss"))
TTFT = Column("first", "s", "seconds to the first token", _scaled("ttft_s"))
SPEED = Column(
    "speed", "tok/s", "new tokens per second", _scaled("tokens_per_s"), decimals=1, better="high"
)
SPEED_RATIO = Column("speed", "×full", "tokens per second against full", speed_ratio, better="high")
ACCEPTED = Column(
    "accepted",
    "/step",
    "tokens committed per forward pass",
    _scaled("accepted_per_step"),
    better="high",
)
KEPT = Column("KV", "MB", "bytes held when generation ended", _scaled("kv_bytes", 1e-6), decimals=1)
PEAK = Column(
    "peak", "MB", "most bytes held at any moment", _scaled("kv_peak_bytes", 1e-6), decimals=1
)
SHARE = Column("KV", "% full", "bytes held, against full", bytes_share, decimals=0)

COLUMNS: tuple[Column, ...] = (
    AGREEMENT, KL, COPY, NEEDLE, TTFT, SPEED, SPEED_RATIO, KEPT, PEAK, SHARE
)  # fmt: skip


def lossless_text(row: Row) -> str:
    """Whether the row is lossless: yes, no, or a dash when unknown."""
    return DASH if row.lossless is None else "yes" if row.lossless else "no"


def heading(length: int, question: str | None) -> str:
    """What a group of rows has in common, as a title."""
    text = f"{length:,} tokens"
    return f"{text} · {question}" if question else text
