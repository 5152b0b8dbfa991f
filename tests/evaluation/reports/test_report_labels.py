"""Labels of a chart: beside their points, on nothing, and as wide as their letters."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from lengthwise.evaluation.reports import labels
from lengthwise.evaluation.reports.labels import Box
from tests.evaluation.reports.report_cases import LONG

_PLACES = st.tuples(st.floats(40, 440), st.floats(30, 290))
_AREA = Box(0, 0, 480, 320)


@settings(max_examples=60, deadline=None)
@given(st.lists(_PLACES, max_size=20), st.integers(1, 24))
def test_labels_touch_nothing(places: list[tuple[float, float]], length: int) -> None:
    put = labels.place(places, [["m" * length, "m"]] * len(places), _AREA, [8] * len(places))
    boxes = [label.box for label in put if label is not None]
    for i, box in enumerate(boxes):
        assert box.inside(_AREA)
        assert not any(box.touches(other) for other in boxes[:i])
        assert not any(box.touches(Box(x - 8, y - 8, x + 8, y + 8)) for x, y in places)


def test_a_lonely_point_is_labelled_beside_it_without_a_line() -> None:
    (label,) = labels.place([(100, 100)], [["full"]], _AREA, [8])
    assert label is not None and label.lead is None and label.anchor == "start"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(100, 120), st.floats(100, 120)), max_size=10))
def test_crowded_points_are_pushed_apart_sideways(places: list[tuple[float, float]]) -> None:
    moved = labels.apart(places, 17, _AREA)
    assert [y for _, y in moved] == [y for _, y in places]
    for i, (x, y) in enumerate(moved):
        for other_x, other_y in moved[:i]:
            assert ((x - other_x) ** 2 + (y - other_y) ** 2) ** 0.5 > 16


def test_heights_are_spread_in_order_and_only_as_many_as_fit() -> None:
    assert labels.spread([50, 50, 10], 10, 0, 100) == [50, 60, 10]
    assert labels.spread([99, 99], 10, 0, 100) == [90, 100]
    assert labels.spread([5, 5, 5], 10, 0, 10) == [0, 10, None]


def test_wide_characters_are_counted_wide() -> None:
    assert labels.text_width("检索") > 1.5 * labels.text_width("ab")
    assert labels.text_width(labels.shortened(LONG, 80)) <= 80
    assert labels.shortened("full", 80) == "full"
