"""The replies of a run before a judge: each asked about, read, and kept as it is judged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from lengthwise._utils.plural import many
from lengthwise._utils.progress import Progress
from lengthwise.api.given import require_count
from lengthwise.api.model import Model
from lengthwise.api.remote_model import RemoteModel
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.judges.judge import Case, Figures, Judge, judge_of, text_of
from lengthwise.evaluation.metrics.judgement_row import JudgementRow, case_of
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.metrics.scores import BASELINE, recipes_in
from lengthwise.evaluation.runs.judgement_file import JudgementFile, beside
from lengthwise.evaluation.runs.judging_models import JudgingModel, Said, judging_model
from lengthwise.evaluation.runs.run_file import chosen, read_run

# Where nothing is said: how often a judge is asked, and prompts at a time.
TRIES, BATCH = 3, 8
# A server that is silent for as many replies on end is gone.
_GONE = 3


@dataclass
class Judgements:
    """What a judge said of a run.

    judge: as it is written. model: that judged. itself: whether it is the model that is judged.
    against: the recipe that replies were compared with. rows: judgements, in the run's order.
    every: all rows of the run. path: where judgements lie. notes: what was left out.
    """

    judge: Judge
    model: str
    itself: bool
    path: Path
    against: str | None = None
    tries: int = TRIES
    rows: list[JudgementRow] = field(default_factory=list)
    every: list[SampleRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Brief:
    """A reply to judge. case: what is shown. sign: of it, by `case_of`."""

    row: SampleRow
    case: Case
    sign: str


@dataclass(frozen=True, slots=True)
class _Brought:
    """What a run brings before a judge. every: all of its rows. model: that is judged."""

    briefs: list[_Brief]
    every: list[SampleRow]
    notes: list[str]
    against: str | None
    model: object


def judge_run(
    model: Model | RemoteModel,
    run: str | os.PathLike[str],
    judge: str | Judge,
    *,
    against: str | None = None,
    recipes: Seq[str] = (),
    tasks: Seq[str] = (),
    seed: int = 0,
    tries: int = TRIES,
    batch: int = BATCH,
    max_new_tokens: int | None = None,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Judgements:
    """Has a model judge the replies of a run.

    It is asked at temperature 0. An answer that cannot be read is asked for again, drawn by another
    seed; what stays unread has no score. What no server answered is asked again by the next call.

    Args:
        model: that judges, of `lengthwise.load`, `wrap` or `connect`.
        run: the file that `lengthwise.evaluate` wrote.
        judge: one of `lengthwise.evaluation.judges`, such as "errors" or "pair(reference=false)".
        against: the recipe that a judge of pairs compares the others with; None is `full`.
        recipes, tasks: those that are judged; none is all.
        seed: of what is drawn where an answer is asked for again.
        tries: how often a prompt is asked, in all.
        batch: prompts at a time.
        max_new_tokens: of an answer; None is what the judge needs.
        out: a file that gets a line a reply, from which a stopped call goes on; None is beside the
            run, named after the judge.
        force: begin the file anew.
        progress: told of what is judged.

    Returns:
        All judgements, those that stood in the file included.

    Raises:
        RecipeError: for an unknown judge, with the nearest one, and for wrong options.
        LengthwiseError: for wrong files, recipes and tasks; for a run without a reply that this
            judge can judge; where no judgement at all could be read; for a server that is gone.
    """
    asked, place = judge_of(judge), Path(run)
    most = asked.most if max_new_tokens is None else max_new_tokens
    for name, count in (("tries", tries), ("batch", batch), ("max_new_tokens", most)):
        require_count(name, count)
    brought = _brought(asked, place, against, recipes, tasks)
    asker = judging_model(model, batch)
    found = Judgements(
        asked, asker.name, _same(asker, brought.model),
        beside(place, asked.name) if out is None else Path(out), brought.against, tries,
        every=brought.every, notes=brought.notes,
    )  # fmt: skip
    briefs = brought.briefs
    job = {
        "judge": text_of(asked), "model": asker.identity, "against": brought.against, "seed": seed,
        "max_new_tokens": most,
    }  # fmt: skip
    told = progress or Progress()
    with JudgementFile(found.path, job, force) as file:
        done = {each.row.key: file.judged.get(each.row.key) for each in briefs}
        todo = [each for each in briefs if not _is_done(done[each.row.key], each.sign, tries)]
        told.stage(f"{text_of(asked)}, {asker.name}", len(todo), "replies")
        for row in _judged(_Asking(asked, asker, most, seed, tries), todo, batch):
            file.add(row)
            done[row.key] = row
            told.advance(1)
    found.rows = [judged for each in briefs if (judged := done[each.row.key]) is not None]
    _require_some(found)
    return found


@dataclass(frozen=True, slots=True)
class _Asking:
    """Who is asked, and how. most: tokens of an answer."""

    judge: Judge
    model: JudgingModel
    most: int
    seed: int
    tries: int


def _judged(how: _Asking, briefs: Seq[_Brief], batch: int) -> Iterator[JudgementRow]:
    """Judgements, some replies at a time; ends where the server is gone."""
    waiting, gone = iter(briefs), 0
    while some := list(islice(waiting, batch)):
        for row, silent in _of_batch(how, some):
            yield row
            gone = gone + 1 if silent else 0
            if gone >= _GONE:
                raise LengthwiseError(
                    f"{row.failed}; {gone} replies on end had no answer, and the same command goes "
                    "on from here"
                )


def _of_batch(how: _Asking, briefs: Seq[_Brief]) -> Iterator[tuple[JudgementRow, bool]]:
    """Judgements of some replies, each with whether a server that is gone is why there is none."""
    judge = how.judge
    prompts = [judge.asked(each.case) for each in briefs]
    read: dict[tuple[int, int], Figures] = {}
    last: dict[tuple[int, int], Said] = {}
    left = [(n, part) for n, asked in enumerate(prompts) for part in range(len(asked))]
    tried = [0] * len(briefs)
    for attempt in range(how.tries):
        wanted = [prompts[n][part] for n, part in left]
        answers = how.model.ask(wanted, how.most, how.seed, attempt) if wanted else []
        for n in {n for n, _ in left}:
            tried[n] += 1
        for (n, part), said in zip(left, answers, strict=True):
            last[n, part] = said
            figures = None if said.failed else judge.read(part, said.text, briefs[n].case)
            if figures is not None:
                read[n, part] = figures
        # One part that has no answer leaves the reply without a judgement: it need not go on.
        failed = {n for (n, _), said in last.items() if said.failed is not None}
        left = [each for each in left if each not in read and each[0] not in failed]
    for n, each in enumerate(briefs):
        parts = range(len(prompts[n]))
        answers = [last[n, part] for part in parts]
        whole = all((n, part) in read for part in parts)
        scores = dict(judge.verdict([read[n, p] for p in parts], each.case)) if whole else {}
        row = each.row
        yield JudgementRow(
            row.task, row.recipe, row.length, row.number, row.depth, each.sign,
            tuple(said.text for said in answers), next(iter(scores.values()), None), scores,
            tried[n], next((said.failed for said in answers if said.failed), None),
            tuple(map(len, each.case.replies)), any(said.over for said in answers), row.problem,
        ), any(said.gone for said in answers)  # fmt: skip


def check_judging(
    run: str | os.PathLike[str], judge: str | Judge, against: str | None = None,
    recipes: Seq[str] = (), tasks: Seq[str] = (),
) -> None:  # fmt: skip
    """Whether a run has replies for a judge, before any model is loaded.

    Args:
        run, judge, against, recipes, tasks: as in `judge_run`.

    Raises:
        RecipeError: for an unknown judge, with the nearest one, and for wrong options.
        LengthwiseError: as `judge_run` does.
    """
    _brought(judge_of(judge), Path(run), against, recipes, tasks)


def _brought(
    judge: Judge, run: Path, against: str | None, recipes: Seq[str], tasks: Seq[str]
) -> _Brought:
    """The replies to judge, and what was left out."""
    head, every = read_run(run)
    wanted = chosen(run, every, recipes, tasks)
    opponent = _opponent(judge, against, every, run)
    others = {row.sample: row for row in every if row.recipe == opponent and row.refused is None}
    found, alone, bare = [], 0, 0
    for row in wanted:
        if row.refused is not None or row.recipe == opponent:
            continue
        other = others.get(row.sample) if judge.compares else None
        if judge.compares and other is None:
            alone += 1
            continue
        if judge.grounded and not any(each.strip() for each in row.references):
            bare += 1
            continue
        found.append(_brief(row, other))
    left = {f"a reply of {opponent} to be compared with": alone,
            f"a reference, which {judge.name} needs": bare}  # fmt: skip
    notes = [f"{many(n, 'sample')} without {what}" for what, n in left.items() if n]
    if not found:
        more = f": {'; '.join(notes)}" if notes else ""
        raise LengthwiseError(f"{run} has no reply that {judge.name} could judge{more}")
    return _Brought(found, every, notes, opponent, head["job"].get("model"))


def _brief(row: SampleRow, other: SampleRow | None) -> _Brief:
    replies = tuple(f"{each.begin}{each.said}" for each in (row, other) if each is not None)
    return _Brief(row, Case(row.question, row.references, replies), case_of(row, other))


def _opponent(judge: Judge, against: str | None, rows: Seq[SampleRow], run: Path) -> str | None:
    """The recipe that replies are compared with; None for a judge of single replies."""
    if not judge.compares:
        if against is not None:
            raise LengthwiseError(
                f"against {against!r}: {judge.name} judges each reply alone; leave it out, or "
                "take pair"
            )
        return None
    there, wished = recipes_in(rows), BASELINE if against is None else against
    if wished not in there:
        raise LengthwiseError(
            f"{run} has no recipe {wished!r} to compare with; it has {', '.join(there)}: name one "
            "by against (--against)"
        )
    return wished


def _same(asker: JudgingModel, judged: object) -> bool:
    """Whether the judge is the model that is judged, be it in another dtype or place."""
    return isinstance(judged, str) and asker.name in (judged, judged.rsplit(" ", 2)[0])


def _is_done(row: JudgementRow | None, sign: str, tries: int) -> bool:
    """Whether a judgement is of what is shown now, and no more can be tried."""
    if row is None or row.case != sign or row.failed is not None:
        return False
    return row.score is not None or row.tries >= tries


def _require_some(found: Judgements) -> None:
    if any(row.score is not None for row in found.rows):
        return
    last, none = found.rows[-1], f"{found.model} judged none of {len(found.rows):,} replies"
    if last.failed is not None:
        raise LengthwiseError(f"{none}: {last.failed}")
    raise LengthwiseError(
        f"{none}: what it says cannot be read as {found.judge.name} (at last "
        f"{' | '.join(last.said)[:200]!r}); take a stronger model, or give more tries"
    )


__all__ = ["BATCH", "TRIES", "Judgements", "check_judging", "judge_run"]
