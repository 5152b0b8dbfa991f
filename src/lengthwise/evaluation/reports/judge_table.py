"""Judgements for a terminal: a row a recipe, and what has to be known of the judge."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lengthwise.evaluation.metrics.differences import Difference, Mean
from lengthwise.evaluation.metrics.judged import Agreement, Judged
from lengthwise.evaluation.reports.table import PIPE_WIDTH


@dataclass(frozen=True, slots=True)
class JudgeFacts:
    """What is said beside the table.

    judge: as it is written. model: that judged. scale: least and most of its score. replies: that
    were to be judged. tries: how often it was asked. itself: whether it is the judged model.
    against: the recipe that replies were compared with. agreement: with the run's own scores.
    notes: what was left out. over: replies whose prompt was longer than the judge was trained to
    read.
    """

    judge: str
    model: str
    scale: tuple[float, float]
    replies: int
    tries: int
    itself: bool = False
    against: str | None = None
    agreement: Agreement | None = None
    notes: Seq[str] = field(default=())
    over: int = 0


def show_judged(found: Seq[Judged], facts: JudgeFacts, file: IO[str] | None = None) -> None:
    """Prints what a judge found.

    Args:
        found: one a recipe.
        facts: what is said beside the table.
        file: None is standard output.
    """
    console = Console(markup=False, file=file)
    if not console.is_terminal:
        console = Console(markup=False, file=file, width=PIPE_WIDTH, color_system=None)
    console.print(judge_report(found, facts))


def judge_report(found: Seq[Judged], facts: JudgeFacts) -> RenderableType:
    """The table and what stands below it.

    Args:
        found: one a recipe.
        facts: what is said beside the table.
    """
    said = [*_unread(found, facts), *_of_judge(found, facts)]
    if any(each.against is not None for each in found):
        to = "a tie" if facts.against is not None else "full"
        said.append(
            f"- and +: surely below or above {to} (paired test by signs, p < 5%; no correction "
            "for many comparisons). Intervals: 95%, by the bootstrap, or Wilson's of shares."
        )
    return Group(_table(found, facts), *(Text(each) for each in [*facts.notes, *said]))


def _table(found: Seq[Judged], facts: JudgeFacts) -> Table:
    against = "" if facts.against is None else f" against {facts.against}"
    title = f"{facts.judge}{against}, judged by {facts.model}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    table.add_column("recipe", overflow="fold")
    if facts.against is None:
        heads = ["judged", f"score, {scale_text(facts.scale)}", "against full"]
    else:
        heads = ["judged", "wins", "at equal length", "changes with the order"]
    heads += ["unread"] + ["no answer"] * any(each.failed for each in found)
    for head in heads:
        table.add_column(head, justify="right")
    for each in found:
        cells = [f"{each.judged:,}", _mean(each.mean, each.against)]
        if facts.against is None:
            cells.append(_difference(each.against))
        else:
            cells += [_controlled(each), _changes(each)]
        cells += [f"{each.unread:,}"] + [f"{each.failed:,}"] * ("no answer" in heads)
        table.add_row(each.recipe, *cells)
    return table


def _mean(mean: Mean | None, against: Difference | None) -> str:
    if mean is None:
        return "-"
    sure = against is not None and against.sure and against.value
    sign = " -" if sure and sure < 0 else " +" if sure else ""
    return f"{mean.value:.2f} [{mean.low:.2f} {mean.high:.2f}]{sign}"


def _difference(found: Difference | None) -> str:
    if found is None:
        return "-"
    return f"{found.value:+.2f} [{found.low:+.2f} {found.high:+.2f}] p={found.p:.3f}"


def _controlled(found: Judged) -> str:
    rates = found.controlled
    return "-" if rates is None else f"{rates.controlled:.2f} ± {rates.error:.2f}"


def _changes(found: Judged) -> str:
    if found.changes is None or not found.changes[1]:
        return "-"
    changed, asked = found.changes
    return f"{changed / asked:.0%} of {asked:,}"


def _unread(found: Seq[Judged], facts: JudgeFacts) -> list[str]:
    """How much is not known."""
    unread, failed = sum(each.unread for each in found), sum(each.failed for each in found)
    said = []
    if unread:
        times = "once" if facts.tries == 1 else f"{facts.tries} times"
        said.append(
            f"{unread:,} of {facts.replies:,} judgements could not be read, asked {times}: they "
            "have no score and no say in any mean."
        )
    if failed:
        said.append(
            f"{failed:,} of {facts.replies:,} replies had no answer: the same command asks again."
        )
    if facts.over:
        said.append(
            f"{facts.over:,} of {facts.replies:,} replies made prompts longer than {facts.model} "
            "was trained to read."
        )
    return said


def _of_judge(found: Seq[Judged], facts: JudgeFacts) -> list[str]:
    """How far the judge can be trusted."""
    said = []
    if facts.itself:
        said.append(f"{facts.model} judges itself: models prefer what they would say.")
    if facts.agreement is not None:
        each = facts.agreement
        chance = "; 0.5 is chance" if each.kind == "AUC" else ""
        said.append(
            f"Agreement with the run's own scores: {each.kind} {each.value:.2f} over {each.n:,} "
            f"replies{chance}."
        )
    means = [each.mean for each in found if each.mean is not None]
    scores = {each.value for each in means if each.low == each.high}
    if len(scores) == 1 and all(each.low == each.high for each in means) and facts.replies > 1:
        said.append(f"Every reply has the same score, {scores.pop():.2f}: it tells none apart.")
    changes = [each.changes for each in found if each.changes is not None and each.changes[1]]
    if changes:
        changed, asked = sum(a for a, _ in changes), sum(b for _, b in changes)
        said.append(
            f"Position bias: {changed / asked:.0%} of the verdicts changed with the order of the "
            "replies."
        )
    return said


def scale_text(scale: tuple[float, float]) -> str:
    """A scale in words.

    Args:
        scale: least and most.
    """
    low, high = scale
    return f"at most {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"


__all__ = ["JudgeFacts", "judge_report", "scale_text", "show_judged"]
