"""Judgements by recipe: means without what is not known, win rates as they are fitted."""

from __future__ import annotations

import json

import pytest

from lengthwise.evaluation.metrics.judged import agreement_of, judged_of
from lengthwise.evaluation.metrics.judgement_row import JudgementRow
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.scorers.preferences import length_controlled

PREFERENCES = (1.0, 0.0, 0.75, 0.5, 1.0, 0.0, 1.0, 0.5)
LENGTHS = tuple((100 + 40 * n, 300 - 20 * n) for n in range(8))


def pairs(recipe: str = "kivi") -> list[JudgementRow]:
    return [
        JudgementRow("qa", recipe, 1, n, score=score, characters=lengths,
                     scores={"preference": score, "changes": float(score in (0.75, 0.5))})
        for n, (score, lengths) in enumerate(zip(PREFERENCES, LENGTHS, strict=True))
    ]  # fmt: skip


def test_win_rates_are_those_of_the_scorer() -> None:
    (found,) = judged_of(pairs(), True, True)
    mine, other = zip(*LENGTHS, strict=True)
    assert found.controlled == length_controlled(PREFERENCES, mine, other)
    assert found.mean is not None and found.mean.value == pytest.approx(sum(PREFERENCES) / 8)
    assert found.changes == (3, 8)
    assert judged_of(pairs()[:4], True, True)[0].controlled is None


def test_what_is_not_known_has_no_say() -> None:
    rows = [*pairs(), JudgementRow("qa", "kivi", 1, 8, tries=3),
            JudgementRow("qa", "kivi", 1, 9, failed="busy")]  # fmt: skip
    (found,), (known,) = judged_of(rows, True, True), judged_of(pairs(), True, True)
    assert (found.unread, found.failed) == (1, 1) and (known.unread, known.failed) == (0, 0)
    assert found.mean == known.mean and found.controlled == known.controlled
    (none,) = judged_of(rows[-2:], False, False)
    assert none.mean is None and none.against is None


def test_scores_are_held_against_full_where_both_have_one() -> None:
    rows = [JudgementRow("qa", "full", 1, n, score=-1.0 * n) for n in range(3)]
    rows += [JudgementRow("qa", "kivi", 1, n, score=-2.0 * n) for n in range(1, 4)]
    full, kivi = judged_of(rows, False, False)
    assert full.recipe == "full" and full.against is None
    assert kivi.against is not None and (kivi.against.value, kivi.against.n) == (-1.5, 2)
    assert kivi.mean is not None and kivi.mean.value == -4.0


def test_replies_to_one_question_are_one_judgement_of_intervals_and_tests() -> None:
    once = [JudgementRow("qa", r, 1, n, score=s - n, problem=f"p{n}", characters=(9, 8 + n))
            for r, s in (("full", 9.0), ("kivi", 3.0)) for n in range(6)]  # fmt: skip
    copies = [JudgementRow.read(json.dumps({**each.dump(), "number": each.number + 6 * copy}))
              for copy in range(3) for each in once]  # fmt: skip
    few, many = judged_of(once, False, False), judged_of(copies, False, False)
    assert [(each.mean, each.against) for each in few] == [(e.mean, e.against) for e in many]
    assert [each.judged for each in many] == [18, 18]
    wins = [JudgementRow.read(json.dumps({**each.dump(), "score": float(each.number % 2)}))
            for each in copies if each.recipe == "kivi"]  # fmt: skip
    assert (
        judged_of(wins, True, True)[0].controlled == judged_of(wins[:6], True, True)[0].controlled
    )


def test_agreement_of_pairs_is_with_the_difference_of_scores() -> None:
    run = [SampleRow("qa", "full", 1, n, score=0.5) for n in range(8)]
    run += [SampleRow("qa", "kivi", 1, n, score=score) for n, score in enumerate(PREFERENCES)]
    found = agreement_of(pairs(), run, "full")
    assert found is not None and found.kind == "rank correlation"
    assert (found.value, found.n) == (pytest.approx(1.0), 8)
    assert agreement_of(pairs()[:1], run, "full") is None
    assert agreement_of(pairs(), run[:8], "full") is None
    assert agreement_of(pairs(), run[8:], "full") is None


def test_a_line_is_a_judgement_or_none() -> None:
    (row, *_) = pairs()
    assert JudgementRow.read(json.dumps({**row.dump(), "later": 1})) == row
    for wrong in ("[]", "3", "{}", '{"task": "x"}', "[" * 100_000, '{"task": 1'):
        with pytest.raises(ValueError, match="no judgement|Expecting"):
            JudgementRow.read(wrong)
