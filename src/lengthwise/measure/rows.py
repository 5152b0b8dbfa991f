"""One measured recipe is one row; the rows of a run turn into JSON, a table, a page or a DataFrame.

The field names are a contract: they are what `compare --json` prints, one line a row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, overload

from lengthwise.errors import LengthwiseError
from lengthwise.measure.choice import Choice, choose
from lengthwise.measure.origin import Origin

if TYPE_CHECKING:
    import pandas
    from rich.console import RenderableType

Curve = Sequence[tuple[float, float]]

_MEANS = ("agreement", "kl", "copy_loss", "needle_loss", "expected_found", "expected_loss")
_MEDIANS = ("ttft_s", "tokens_per_s", "kv_bytes", "kv_peak_bytes", "accepted_per_step")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one recipe gave and cost, on one text of one length, for one question.

    A field that was not measured, or means nothing here, is None.

    recipe: the recipe, as it prints itself; "full" is the truth the others are measured against.
    model: name of the model.
    dtype: of its weights and activations, such as "bfloat16".
    device: such as "cpu" or "cuda:0".
    length: tokens of the document that were used; where probes are planted they take the place of
        some of them.
    question: what was asked about the text.
    answer: what the recipe answered.
    agreement: share (0 to 1) of positions of a teacher-forced continuation at which the most likely
        token is the one full attention finds most likely. None where full attention is not valid:
        beyond the length the model was trained for.
    kl: mean over the same positions of KL(full || recipe), nats a token.
    copy_loss: mean loss of the second copy of 64 planted words from its 9th token on, nats a token.
    needle_loss: mean loss of planted keys over all depths, nats a token.
    needle_by_depth: (depth from 0 to 1, loss in nats a token), one for each planted key.
    loss_by_position: (token position, mean loss in nats around it), in order of position.
    ttft_s: seconds from the prompt's arrival to the first new token, prefill included.
    tokens_per_s: new tokens per second after the first.
    kv_bytes: bytes of keys, values and whatever the recipe keeps beside them, really held when
        generation ended.
    kv_peak_bytes: most such bytes held at any moment, gathered and decoded copies included.
    accepted_per_step: tokens committed per forward pass while decoding; 1 without drafting.
    lossless: whether the output is the very one of plain greedy decoding with full attention, by
        construction.
    refused: why the recipe did not run, in one line; every measured field is then None.
    notes: what a reader of the row has to know, one sentence each.
    accepted: right guesses by drafter; None without drafting.
    draft_s: seconds of decoding spent on guessing, choosing what to verify and learning from it.
    verify_s: seconds of decoding spent on forwards and verdicts; the rest is neither.
    prompt_tokens: of the whole prompt, template and question included.
    max_new_tokens: tokens of an answer that were asked for.
    answer_tokens: tokens that the answer has.
    fidelity_tokens: positions that agreement and kl are means over.
    fidelity_length: tokens of the text whose last ones those are.
    agreement_interval: Wilson's interval for agreement, which holds it 95 times in 100; None for
        `full`, the truth itself.
    kl_error: standard error of kl, nats a token; None for `full`.
    loss_bins: what loss_by_position is made of, a bin each: "start" and "stop" (positions, half
        open), "n" tokens of the document in it (planted ones are left out), their "mean" loss and
        its standard "error"; "over_full", the mean over the same tokens of what the recipe loses
        more than full does, and its "over_full_error". Nats a token.
    reads_as_full: whether the recipe only acts when the prompt has ended, so that its losses by
        position are those of full.
    same_text: whether the answer of a recipe that guesses ahead is that of the same recipe without
        guesses, token by token; None where nothing was guessed, where the guesses are meant to
        change the text, and where it was not compared.
    expected: the answer that the user knows.
    expected_found: whether the answer contains it, in whatever case and punctuation; over several
        questions the share that does.
    expected_loss: mean loss of its tokens where the answer begins, nats a token.
    kv_offloaded_bytes: bytes held off the device when generation ended, in none of the others.
    """

    recipe: str
    model: str
    dtype: str
    device: str
    length: int
    question: str | None = None
    answer: str | None = None
    agreement: float | None = None
    kl: float | None = None
    copy_loss: float | None = None
    needle_loss: float | None = None
    loss_by_position: Curve | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    kv_bytes: int | None = None
    kv_peak_bytes: int | None = None
    accepted_per_step: float | None = None
    lossless: bool | None = None
    refused: str | None = None
    needle_by_depth: Curve | None = None
    notes: Sequence[str] = field(default=())
    accepted: Mapping[str, int] | None = None
    draft_s: float | None = None
    verify_s: float | None = None
    prompt_tokens: int | None = None
    max_new_tokens: int | None = None
    answer_tokens: int | None = None
    fidelity_tokens: int | None = None
    fidelity_length: int | None = None
    agreement_interval: tuple[float, float] | None = None
    kl_error: float | None = None
    loss_bins: Sequence[Mapping[str, Any]] | None = None
    reads_as_full: bool | None = None
    same_text: bool | None = None
    expected: str | None = None
    expected_found: bool | float | None = None
    expected_loss: float | None = None
    kv_offloaded_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, in order, as JSON can hold them.

        JSON has no NaN and no infinity: such a value becomes None, and a note says so.
        """
        values = asdict(self)
        lost = [name for name, value in values.items() if _is_unbounded(value)]
        values.update(dict.fromkeys(lost))
        for name in ("loss_by_position", "needle_by_depth"):
            if values[name] is not None:
                values[name] = [[x, y if math.isfinite(y) else None] for x, y in values[name]]
        if values["loss_bins"] is not None:
            values["loss_bins"] = [
                {name: None if _is_unbounded(value) else value for name, value in each.items()}
                for each in values["loss_bins"]
            ]
        gone = [f"{name} is {getattr(self, name)}, written as null" for name in lost]
        values["notes"] = [*self.notes, *gone]
        return values

    def to_json(self) -> str:
        """The row as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class Rows(Sequence[Row]):
    """The rows of one run, in the order they were measured.

    document: the document's name, for the reports.
    trained_length: tokens the model was trained for, beyond which full attention is no truth; None
        when unknown.
    origin: machine, versions, commit and command; figures without one are not to be published.
    interrupted: the run was stopped before all of its rows were measured.
    goal: what `best` picks for where it is not told: "quality", "speed" or "memory"; None tells the
        trade-off.
    """

    rows: Sequence[Row] = ()
    document: str | None = None
    trained_length: int | None = None
    origin: Origin | None = None
    interrupted: bool = False
    goal: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Row | Rows:
        if isinstance(index, slice):
            return replace(self, rows=self.rows[index])
        return self.rows[index]

    def __repr__(self) -> str:
        from lengthwise.measure.shown import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from lengthwise.measure.shown import as_frame

        return as_frame(self)

    def full_is_valid(self, length: int) -> bool:
        """Whether full attention can be trusted as the truth at `length` tokens."""
        if self.trained_length is not None:
            return length <= self.trained_length
        return any(row.agreement is not None for row in self.rows if row.length == length)

    def groups(self) -> dict[tuple[int, str | None], list[Row]]:
        """Rows by (length, question), in the order they were measured."""
        groups: dict[tuple[int, str | None], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.length, row.question), []).append(row)
        return groups

    def at_length(self, length: int) -> list[Row]:
        """One row per recipe at `length`: over its questions, the mean of each quality and the
        median of each cost. Question and answer are None where there was more than one."""
        by_recipe: dict[str, list[Row]] = {}
        for row in self.rows:
            if row.length == length:
                by_recipe.setdefault(row.recipe, []).append(row)
        return [_merged(rows) for rows in by_recipe.values()]

    def lengths(self) -> list[int]:
        """The lengths measured, shortest first."""
        return sorted({row.length for row in self.rows})

    def best(self, length: int | None = None, goal: str | None = None) -> Choice:
        """What we would take at `length` (by default the longest) and why, in a few sentences.

        goal: "quality", "speed" or "memory"; by default the run's own. Without one there is no
        pick: the answer is the trade-off, that is the recipes that no other beats. The rules are
        those of `lengthwise.measure.choice.choose`.
        """
        lengths = self.lengths()
        goal = self.goal if goal is None else goal
        if not lengths:
            return Choice(None, "No recipe was measured, so there is none to pick.", goal)
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
        columns = [column.name for column in fields(Row)]
        return pandas.DataFrame([asdict(row) for row in self.rows], columns=columns)

    def to_html(
        self,
        path: str | PathLike[str] | None = None,
        title: str = "lengthwise compare",
        origin: Origin | None = None,
        force: bool = False,
    ) -> str:
        """The report as one self-contained HTML page, also written to `path` when given.

        A file there that is no report of ours is overwritten with force=True alone. Raises
        LengthwiseError for it, and where nothing can be written.
        """
        from lengthwise._utils.files import write_text
        from lengthwise.measure.html import page
        from lengthwise.outputs import REPORT, Output, check_outputs

        text = page(self, title=title, origin=origin or self.origin)
        if path is not None:
            place = Path(path)
            if place.is_file() and not force and not REPORT.ours(place):
                raise LengthwiseError(
                    f"to_html: {place} is no report of lengthwise: name another file, or give "
                    "force=True to overwrite it"
                )
            check_outputs([Output("to_html", place, REPORT)], force=True)
            write_text(place, text)
        return text

    def table(self, full: bool = False) -> RenderableType:
        """The report for a terminal, to be printed by a rich Console; `full` prints whole answers.

        `lengthwise.measure.table.show` prints it at a width that also reads well in a file.
        """
        from lengthwise.measure.table import report

        return report(self, full=full)


def _is_unbounded(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _merged(rows: Sequence[Row]) -> Row:
    """One row for several questions of one recipe at one length."""
    if len(rows) == 1:
        return rows[0]
    ran = [row for row in rows if row.refused is None]
    if not ran:
        return replace(rows[0], question=None)
    values: dict[str, Any] = {name: _over(ran, name, fmean) for name in _MEANS}
    values |= {name: _over(ran, name, median) for name in _MEDIANS}
    for name in ("kv_bytes", "kv_peak_bytes"):
        values[name] = None if values[name] is None else round(values[name])
    for name in ("loss_by_position", "needle_by_depth"):
        values[name] = next((c for row in ran if (c := getattr(row, name)) is not None), None)
    notes = tuple(dict.fromkeys(note for row in ran for note in row.notes))
    # One answer that is another text makes the median one of different texts.
    same = [row.same_text for row in ran if row.same_text is not None]
    values["same_text"] = all(same) if same else None
    return replace(ran[0], question=None, answer=None, expected=None, notes=notes, **values)


def _over(rows: Iterable[Row], name: str, summary: Any) -> Any:
    known = [value for row in rows if (value := getattr(row, name)) is not None]
    return summary(known) if known else None
