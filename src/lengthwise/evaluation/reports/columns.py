"""The columns of every report, once: what is shown, its unit, and which direction is better.

A column has the name of the field of a row that it shows, so that table, page and JSON call one
thing by one name; two columns of one field differ in their unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lengthwise.evaluation.metrics.row import CompareRow

DASH = "–"
# What stands behind a figure that is one of another text.
MARK = "*"

Value = Callable[[CompareRow, CompareRow | None], float | None]


@dataclass(frozen=True, slots=True)
class ReportColumn:
    """One measured column.

    head: the name of the field.
    unit: its unit, as short.
    title: what it means, for a tooltip or legend.
    value: from (row, the row of `full` or None) to a number in that unit; None when not measured.
    decimals: the same down the column, so that points line up.
    better: which direction is better.
    around: how sure the value is, as text; "" where that is not known.
    of_text: whether the figure is one of the text that was written: another text, another figure.
    word: a word in place of the number, where the row has one.
    """

    head: str
    unit: str
    title: str
    value: Value
    decimals: int = 2
    better: Literal["high", "low"] = "low"
    around: Callable[[CompareRow], str] = lambda row: ""
    of_text: bool = False
    word: Callable[[CompareRow], str | None] = lambda row: None

    def text(self, row: CompareRow, full: CompareRow | None) -> str:
        """The value as people read it, marked where it is that of another text; a dash when it was
        not measured."""
        shown = self.word(row) or number(self.value(row, full), self.decimals)
        return shown + self.mark(row)

    def mark(self, row: CompareRow) -> str:
        """ "*" where the figure is that of another text than plain decoding's."""
        return MARK if self.of_text and row.same_text is False else ""

    def spread(self, row: CompareRow) -> str:
        """How sure the value is, as text: where it lies 95 times in 100, or its standard error."""
        return self.around(row)

    def legend(self) -> str:
        """What it means and which direction is better, in words."""
        return f"{self.title}; {'more' if self.better == 'high' else 'less'} is better"


def number(value: float | None, decimals: int = 2) -> str:
    """`value` with thousands separated; a dash for None, a word where it is not finite."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else "nan"
    return f"{value:,.{decimals}f}"


def best_of(
    column: ReportColumn, rows: Sequence[CompareRow], full: CompareRow | None
) -> CompareRow | None:
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


def full_of(rows: Sequence[CompareRow]) -> CompareRow | None:
    """The row of the empty recipe, when it ran."""
    return next((row for row in rows if row.recipe == "full" and row.refused is None), None)


def speed_ratio(row: CompareRow, full: CompareRow | None) -> float | None:
    """Tokens per second, as a multiple of full's."""
    if full is None or not full.tokens_per_s or row.tokens_per_s is None:
        return None
    return row.tokens_per_s / full.tokens_per_s


def bytes_share(row: CompareRow, full: CompareRow | None) -> float | None:
    """KV bytes kept, in percent of full's."""
    if full is None or not full.kv_bytes or row.kv_bytes is None:
        return None
    return 100 * row.kv_bytes / full.kv_bytes


def _scaled(name: str, factor: float = 1.0) -> Value:
    def value(row: CompareRow, full: CompareRow | None) -> float | None:
        measured = getattr(row, name)
        return None if measured is None else measured * factor

    return value


def _agreement_around(row: CompareRow) -> str:
    if row.agreement_interval is None:
        return ""
    low, high = (100 * end for end in row.agreement_interval)
    return f"{low:.1f}{DASH}{high:.1f}"


def _kl_around(row: CompareRow) -> str:
    return "" if row.kl_error is None else f"±{row.kl_error:.3f}"


_YES: dict[bool, str] = {True: "yes", False: "no"}

AGREEMENT = ReportColumn(
    "agreement", "%",
    "how often the likeliest next token is the one that full finds likeliest, and between which "
    "figures that lies 95 times in 100",
    _scaled("agreement", 100), decimals=1, better="high", around=_agreement_around,
)  # fmt: skip
KL = ReportColumn(
    "kl", "nats",
    "how far the probabilities of the next token are from full's (KL divergence a token), with "
    "its standard error",
    _scaled("kl"), decimals=3, around=_kl_around,
)  # fmt: skip
COPY = ReportColumn(
    "copy_loss", "nats",
    "64 words planted near the start come again at the end: loss a token, near 0 where the recipe "
    "can still read them",
    _scaled("copy_loss"),
)  # fmt: skip
NEEDLE = ReportColumn(
    "needle_loss", "nats",
    "keys planted at several depths and asked for at the end: loss a token, mean over depths",
    _scaled("needle_loss"),
)  # fmt: skip
TTFT = ReportColumn("ttft_s", "s", "seconds until the first new token is there", _scaled("ttft_s"))
SPEED = ReportColumn(
    "tokens_per_s", "tok/s", "new tokens a second after the first", _scaled("tokens_per_s"),
    decimals=1, better="high", of_text=True,
)  # fmt: skip
SPEED_RATIO = ReportColumn(
    "tokens_per_s", "×full", "the same, as a multiple of full", speed_ratio, better="high",
    of_text=True,
)  # fmt: skip
ACCEPTED = ReportColumn(
    "accepted_per_step", "tok/step", "tokens a forward pass brings; 1 without guessing ahead",
    _scaled("accepted_per_step"), better="high", of_text=True,
)  # fmt: skip
KEPT = ReportColumn(
    "kv_bytes", "MB", "keys, values and what is kept beside them when the answer was done",
    _scaled("kv_bytes", 1e-6), decimals=1,
)  # fmt: skip
PEAK = ReportColumn(
    "kv_peak_bytes", "MB", "the most of it at any moment", _scaled("kv_peak_bytes", 1e-6),
    decimals=1,
)  # fmt: skip
SHARE = ReportColumn("kv_bytes", "% full", "the same, in percent of full", bytes_share, decimals=0)
FOUND = ReportColumn(
    "expected_found", "%",
    "whether the answer contains the expected one; over several questions, how often",
    _scaled("expected_found", 100), decimals=0, better="high",
    word=lambda row: _YES.get(row.expected_found) if isinstance(row.expected_found, bool) else None,
)  # fmt: skip
EXPECTED = ReportColumn(
    "expected_loss", "nats", "loss a token of the expected answer, where the answer begins",
    _scaled("expected_loss"),
)  # fmt: skip
READ = ReportColumn(
    "tokens_read", "tokens", "of the prompt, and of all that was read to write it",
    _scaled("tokens_read"), decimals=0,
)  # fmt: skip

EXACT = ReportColumn(
    "exact_match", "%",
    "how often the answer is a right one, but for case, punctuation and articles",
    _scaled("exact_match", 100), decimals=0, better="high",
)  # fmt: skip
F1 = ReportColumn(
    "token_f1", "%", "words of the answer that are right, and right words that it says (F1)",
    _scaled("token_f1", 100), decimals=0, better="high",
)  # fmt: skip
RECALL = ReportColumn(
    "evidence_recall", "%", "characters of the evidence that are among what is read",
    _scaled("evidence_recall", 100), decimals=0, better="high",
)  # fmt: skip
PRECISION = ReportColumn(
    "evidence_precision", "%", "characters of what is read that are evidence",
    _scaled("evidence_precision", 100), better="high",
)  # fmt: skip
IOU = ReportColumn(
    "evidence_iou", "%", "evidence that is read, of all that is read or should be",
    _scaled("evidence_iou", 100), better="high",
)  # fmt: skip
OMEGA = ReportColumn(
    "evidence_omega", "%", "the most that evidence_precision can be with these passages",
    _scaled("evidence_omega", 100), better="high",
)  # fmt: skip

# What does not hang on the question, and what does.
QUALITY: tuple[ReportColumn, ...] = (AGREEMENT, KL, COPY, NEEDLE)
COSTS: tuple[ReportColumn, ...] = (TTFT, SPEED, SPEED_RATIO, KEPT, SHARE, PEAK)
COLUMNS: tuple[ReportColumn, ...] = QUALITY + COSTS
# Shown only where there is something to show.
SOMETIMES: tuple[ReportColumn, ...] = (
    FOUND, EXPECTED, EXACT, F1, RECALL, PRECISION, IOU, OMEGA, ACCEPTED, READ,
)  # fmt: skip


LOSSLESS = (
    "whether the text is that of full by construction; yes* where two tokens as good as equally "
    "likely changed places and it is another one"
)


def lossless_text(row: CompareRow) -> str:
    """Whether the row is lossless: yes (marked where the text is another one all the same), no, or
    a dash when unknown."""
    if row.lossless is None:
        return DASH
    return f"yes{MARK if row.same_text is False else ''}" if row.lossless else "no"


def worth_showing(
    column: ReportColumn, rows: Sequence[CompareRow], full: CompareRow | None
) -> bool:
    """Whether a column has anything to show; `accepted_per_step` of 1 everywhere is nothing, nor
    are `tokens_read` that are the same everywhere."""
    known = {column.value(row, full) for row in rows} - {None}
    if column is READ:
        return len(known) > 1
    return bool(known - {1.0}) if column is ACCEPTED else bool(known)


def length_of(row: CompareRow) -> str:
    """How long a row's text is: tokens, and what they are where tokenizers differ."""
    text = f"{row.length:,} tokens"
    if row.text_bytes is None or row.text_words is None:
        return text
    return f"{text} ({row.text_bytes:,} bytes, {row.text_words:,} words)"


def heading(length: int, question: str | None) -> str:
    """What a group of rows has in common, as a title."""
    text = f"{length:,} tokens"
    return f"{text} · {question}" if question else text
