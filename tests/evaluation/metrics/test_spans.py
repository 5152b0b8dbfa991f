"""Evidence that is read, in characters: the published fixture, and edges."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.metrics.spans import span_scores, union


def test_the_fixture_of_the_paper_s_code() -> None:
    chunks = [(0, 200), (200, 400), (400, 600)]
    found = span_scores([(100, 150), (380, 420)], [chunks[0], chunks[2]], chunks)
    assert found.recall == pytest.approx(70 / 90)
    assert found.precision == pytest.approx(70 / 400)
    assert found.iou == pytest.approx(70 / 420)
    assert found.omega == pytest.approx(90 / 600)


def test_passages_that_overlap_count_twice_in_the_sum_and_once_in_the_meeting() -> None:
    found = span_scores([(10, 20)], [(0, 20), (10, 30)])
    assert found.recall == 1 and found.precision == 10 / 40 and found.iou == 10 / 40
    assert found.omega is None


@pytest.mark.parametrize("read", [[], [(20, 30)], [(0, 10)], [(5, 5)]])
def test_what_does_not_meet_the_evidence_scores_nothing(read: list[tuple[int, int]]) -> None:
    found = span_scores([(10, 20)], read, [(20, 30)])
    assert (found.recall, found.precision, found.iou, found.omega) == (0, 0, 0, 0)


def test_evidence_that_no_passage_holds_stands_in_omega_s_way() -> None:
    assert span_scores([(0, 10), (50, 60)], [(0, 20)], [(0, 20)]).omega == 10 / 30


def test_union_joins_what_overlaps_or_touches() -> None:
    assert union([(5, 9), (0, 2), (2, 3), (7, 8), (4, 4)]) == [(0, 3), (5, 9)]
