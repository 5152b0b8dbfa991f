"""Rows of the shelf: one method at one share of the full cache, ours or another library's.

The field names are a contract: they are what `bench shelf --json` prints, and what `--out` holds,
one line a row. Rows of kvpress have the same fields.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lengthwise.errors import LengthwiseError

# Bytes may differ by so much from what was asked for.
TOLERANCE = 0.03
FULL = "full"
OURS = "lengthwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfRow:
    """One method at one share. What was not measured, or means nothing here, is None.

    engine: "lengthwise", or the library that ran it. question, method: as registered; "" for full.
    share: of the full cache's bytes, or, of a selection, of the tokens that are read a step: what
        was asked for, from 0 to 1.
    recipe: the setting, as it prints itself. asked: the method as it was asked for, options of its
        own included, before it was set to a share.
    model, dtype, device: what ran. document, text: its name, and a digest of all tokens.
    length: tokens of the context. follow: tokens of its continuation.
    query_aware: whether a probe's question stood in the prompt when that was compressed.
    loss: of the continuation, nats a token. kl: KL(full || method) over it, nats a token, with its
        standard error; full is that of the same engine. agreement: how often both find the same
        token likeliest, 0 to 1.
    copy_loss, needle_loss, needle_by_depth: as in `CompareRow`.
    prefill_s: seconds until the context is read and compressed. tokens_per_s: of `new_tokens`
        greedy ones after it.
    kv_bytes: really held when the context was compressed. full_bytes: what full held.
    kv_peak_bytes: most at any moment. kv_offloaded_bytes: held off the device.
    read: share of the tokens that a decoding step of a selection read, over all layers.
    refused: why it did not run. notes: what a reader has to know.
    origin: date, machine, versions, commit and command.
    """

    engine: str
    question: str
    method: str
    share: float
    recipe: str
    asked: str
    model: str
    dtype: str
    device: str
    document: str
    text: str
    length: int
    follow: int
    query_aware: bool
    loss: float | None = None
    kl: float | None = None
    kl_error: float | None = None
    agreement: float | None = None
    copy_loss: float | None = None
    needle_loss: float | None = None
    needle_by_depth: Sequence[Sequence[float]] | None = None
    prefill_s: float | None = None
    tokens_per_s: float | None = None
    new_tokens: int | None = None
    kv_bytes: int | None = None
    full_bytes: int | None = None
    kv_peak_bytes: int | None = None
    kv_offloaded_bytes: int | None = None
    read: float | None = None
    refused: str | None = None
    notes: Sequence[str] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def setting(self) -> tuple[Any, ...]:
        """What rows of one table have in common. (A device may be cpu here and cuda there.)"""
        return (self.model, self.dtype, self.text, self.query_aware)

    @property
    def held(self) -> float | None:
        """Share of full's bytes that was held."""
        return self.kv_bytes / self.full_bytes if self.kv_bytes and self.full_bytes else None

    @property
    def spent(self) -> float | None:
        """What the share is compared with: what a selection read, what any other method held."""
        return self.read if self.question == "selection" else self.held

    @property
    def off(self) -> bool:
        """Whether it spent more than 3% more or less than was asked for."""
        return self.spent is not None and abs(self.spent / self.share - 1) > TOLERANCE

    @property
    def seconds(self) -> float | None:
        """Until the context was read and all new tokens were written."""
        if self.prefill_s is None or not self.tokens_per_s or not self.new_tokens:
            return None
        return self.prefill_s + self.new_tokens / self.tokens_per_s

    def to_json(self) -> str:
        """The row as one line of JSON; a number that is not finite is null, and a note says so."""
        values = {name: _finite(value) for name, value in asdict(self).items()}
        lost = [n for n, v in asdict(self).items() if v is not None and values[n] is None]
        values["notes"] = [*self.notes, *(f"{n} is not finite, written as null" for n in lost)]
        return json.dumps(values, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def row_of(text: str) -> ShelfRow:
    """The row of a line of JSON. Raises ValueError where it is none; unknown fields are left."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no object")
    known = {each.name for each in fields(ShelfRow)}
    found["notes"] = tuple(found.get("notes") or ())
    try:
        return ShelfRow(**{name: value for name, value in found.items() if name in known})
    except TypeError as error:
        raise ValueError(str(error)) from error


def read_rows(path: Path) -> list[ShelfRow]:
    """The rows of a file. A last line that a crash cut off is left out.

    Raises:
        LengthwiseError: for a line before it that is no row, and a file that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise LengthwiseError(f"{path} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(row_of(line))
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            raise LengthwiseError(
                f"{path}, line {number}: this is no row of `lengthwise bench shelf`"
            ) from None
    return found


@dataclass(frozen=True, slots=True)
class ShelfRows(Sequence[ShelfRow]):
    """The rows of one setting, full first.

    without: methods that say no setting for a share. broken: those that could not be loaded, with
    the reason. interrupted: stopped before all was measured.
    """

    rows: Sequence[ShelfRow] = ()
    without: Sequence[str] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ShelfRow]:
        return iter(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    @property
    def full(self) -> ShelfRow | None:
        """The row of full attention."""
        return next((row for row in self.rows if row.recipe == FULL), None)

    def groups(self) -> dict[tuple[str, float], list[ShelfRow]]:
        """Rows by question and share, the largest share first; the closest to full first."""
        return grouped(row for row in self.rows if row.recipe != FULL)


def grouped(rows: Iterable[ShelfRow]) -> dict[tuple[str, float], list[ShelfRow]]:
    """Rows by question, as they come, and share, the largest first; by KL, refused ones last."""
    found: dict[tuple[str, float], list[ShelfRow]] = {}
    every = list(rows)
    order = list(dict.fromkeys(row.question for row in every))
    for row in sorted(every, key=lambda row: (order.index(row.question), -row.share)):
        found.setdefault((row.question, row.share), []).append(row)
    for group in found.values():
        group.sort(
            key=lambda row: (row.refused is not None, math.inf if row.kl is None else row.kl)
        )
    return found


__all__ = ["FULL", "OURS", "TOLERANCE", "ShelfRow", "ShelfRows", "grouped", "read_rows", "row_of"]
