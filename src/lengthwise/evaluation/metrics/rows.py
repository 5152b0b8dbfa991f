"""The rows of one run: by length and question, merged over questions, and the recipe to pick."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Self, overload

from lengthwise.evaluation.metrics.choice import RecipeChoice, choose
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.row import CompareRow

if TYPE_CHECKING:
    import pandas

__all__ = ["CompareRow", "CompareRows"]

_MEANS = (
    "agreement", "kl", "copy_loss", "needle_loss", "expected_found", "expected_loss", "exact_match",
    "token_f1", "evidence_recall", "evidence_precision", "evidence_iou", "evidence_omega",
)  # fmt: skip
_COUNTS = ("kv_bytes", "kv_peak_bytes", "tokens_read", "prompt_tokens")
_MEDIANS = ("ttft_s", "tokens_per_s", "accepted_per_step", *_COUNTS)


@dataclass(frozen=True, slots=True)
class CompareRows(Sequence[CompareRow]):
    """The rows of one run, in the order they were measured.

    document: the document's name, for the reports.
    trained_length: tokens the model was trained for, beyond which full attention is no truth; None
        when unknown.
    origin: machine, versions, commit and command; figures without one are not to be published.
    interrupted: the run was stopped before all of its rows were measured.
    goal: what `best` picks for where it is not told: "quality", "speed" or "memory"; None tells the
        trade-off.
    """

    rows: Sequence[CompareRow] = ()
    document: str | None = None
    trained_length: int | None = None
    origin: Origin | None = None
    interrupted: bool = False
    goal: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[CompareRow]:
        return iter(self.rows)

    @overload
    def __getitem__(self, index: int) -> CompareRow: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> CompareRow | Self:
        if isinstance(index, slice):
            return replace(self, rows=self.rows[index])
        return self.rows[index]

    def full_is_valid(self, length: int) -> bool:
        """Whether full attention can be trusted as the truth at `length` tokens.

        Args:
            length: tokens of the text.

        Returns:
            Where the trained length is not known: whether a row of this length has an agreement.
        """
        if self.trained_length is not None:
            return length <= self.trained_length
        return any(row.agreement is not None for row in self.rows if row.length == length)

    def groups(self) -> dict[tuple[int, str | None], list[CompareRow]]:
        """Rows by (length, question), in the order they were measured."""
        groups: dict[tuple[int, str | None], list[CompareRow]] = {}
        for row in self.rows:
            groups.setdefault((row.length, row.question), []).append(row)
        return groups

    def at_length(self, length: int) -> list[CompareRow]:
        """One row per recipe at `length`: over its questions, the mean of each quality and the
        median of each cost. Question and answer are None where there was more than one.

        Args:
            length: tokens of the text; rows of other lengths are left out.
        """
        by_recipe: dict[str, list[CompareRow]] = {}
        for row in self.rows:
            if row.length == length:
                by_recipe.setdefault(row.recipe, []).append(row)
        return [_merged(rows) for rows in by_recipe.values()]

    def lengths(self) -> list[int]:
        """The lengths measured, shortest first."""
        return sorted({row.length for row in self.rows})

    def best(self, length: int | None = None, goal: str | None = None) -> RecipeChoice:
        """What we would take at `length` and why, in a few sentences.

        The rules are those of `lengthwise.evaluation.metrics.choice.choose`.

        Args:
            length: tokens of the text, one that was measured; None is the longest.
            goal: "quality", "speed" or "memory"; None is the run's own. Without one there is no
                pick: the answer is the trade-off, that is the recipes that no other beats.

        Raises:
            LengthwiseError: for another goal.
        """
        lengths = self.lengths()
        goal = self.goal if goal is None else goal
        if not lengths:
            return RecipeChoice(None, "No recipe was measured, so there is none to pick.", goal)
        length = lengths[-1] if length is None else length
        valid = self.full_is_valid(length)
        return choose(self.at_length(length), full_is_valid=valid, goal=goal)

    def to_json(self) -> str:
        """One line of JSON per row."""
        return "".join(row.to_json() + "\n" for row in self.rows)

    def to_dataframe(self) -> pandas.DataFrame:
        """One line per row, one column per field. Raises ImportError when pandas is missing."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_dataframe() needs pandas: pip install pandas") from error
        columns = [column.name for column in fields(CompareRow)]
        return pandas.DataFrame([asdict(row) for row in self.rows], columns=columns)


def _merged(rows: Sequence[CompareRow]) -> CompareRow:
    """One row for several questions of one recipe at one length."""
    if len(rows) == 1:
        return rows[0]
    ran = [row for row in rows if row.refused is None]
    if not ran:
        return replace(rows[0], question=None)
    values: dict[str, Any] = {name: _over(ran, name, fmean) for name in _MEANS}
    values |= {name: _over(ran, name, median) for name in _MEDIANS}
    for name in _COUNTS:
        values[name] = None if values[name] is None else round(values[name])
    for name in ("loss_by_position", "needle_by_depth"):
        values[name] = next((c for row in ran if (c := getattr(row, name)) is not None), None)
    notes = tuple(dict.fromkeys(note for row in ran for note in row.notes))
    # One answer that is another text makes the median one of different texts.
    same = [row.same_text for row in ran if row.same_text is not None]
    values["same_text"] = all(same) if same else None
    return replace(ran[0], question=None, answer=None, expected=None, notes=notes, **values)


def _over(rows: Iterable[CompareRow], name: str, summary: Any) -> Any:
    known = [value for row in rows if (value := getattr(row, name)) is not None]
    return summary(known) if known else None
