"""One sample of a run in words: what was asked, wanted and said, and what judges said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence as Seq
from typing import Any

from lengthwise.evaluation.metrics.judgement_row import JudgementRow
from lengthwise.evaluation.metrics.sample_row import SampleRow

# The job of a judge, and its judgements by the key of their rows.
JudgedBy = tuple[Mapping[str, Any], Mapping[tuple[str, int, float | None, int, str], JudgementRow]]


def sample_text(row: SampleRow, judged: Seq[JudgedBy] = ()) -> str:
    """A sample in a few lines.

    Args:
        row: of a run.
        judged: what judges said of the run's replies.
    """
    waits = "not judged" if row.refused is None else "refused"
    score = waits if row.score is None else f"{row.score:.2f}"
    depth = "" if row.depth is None else f", asked at {row.depth:.0%}"
    depth = depth if row.place is None else f", answer at {row.place:.0%}"
    said = row.begin + row.said if row.refused is None else row.refused
    lines = [
        f"{row.task} {row.number + 1}, {row.length:,} tokens{depth}, {row.recipe}: {score}",
        f"  asked    {_short(row.question)}",
        *([f"  wanted   {_short(' | '.join(row.references))}"] if row.references else []),
        f"  said     {_short(said)}",
        *_judged(row, judged),
    ]
    return "\n".join(lines)


def _judged(row: SampleRow, judged: Seq[JudgedBy]) -> Iterator[str]:
    for job, rows in judged:
        found = rows.get(row.key)
        if found is None:
            continue
        value = "no answer" if found.failed else "unread"
        if found.score is not None:
            value = f"{found.score:.2f}"
        against = f" against {job['against']}" if job.get("against") else ""
        words = found.failed or " | ".join(found.said)
        yield f"  judged   {job.get('judge')}{against}: {value}; {_short(words)}"


def _short(text: str, most: int = 400) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 3]}..."


__all__ = ["JudgedBy", "sample_text"]
