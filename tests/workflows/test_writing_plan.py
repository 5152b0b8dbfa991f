"""Plans as models write them, and as they are written by."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.workflows.writing_plan import (
    Part,
    as_text,
    equal_parts,
    fitted,
    read_plan,
    usable,
)

PARTS = [Part("where to begin", 400), Part("what to sow", 600)]


@pytest.mark.parametrize(
    "text",
    [
        "Part 1 - Main point: where to begin - Words: 400\nPart 2 - Main point: what to sow - "
        "Words: 600",
        "Paragraph 1 - Main Point: [where to begin] - Word Count: [400 words]\n\nParagraph 2 - "
        "Main Point: what to sow. - Word Count: 600 words.",
        "Here is a plan:\n\n1. **where to begin** (400 words)\n2. **what to sow** (600 words)\n",
        "## Part 1: where to begin\nWords: 400\n\n## Part 2: what to sow\nWords: 600",
        "- Section 1: Main point:\n  where to begin\n  Word count: 300-500\n- Section 2: what to "
        "sow, about 600 words",
        "where to begin: 400 words\nwhat to sow: 600 words",
        "| Part 1 | where to begin | 400 words |\n| Part 2 | what to sow | 600 words |",
        "1) where to begin - 400 words\n2) Where to begin! - 100 words\n3) what to sow - 600 words",
    ],
)
def test_a_plan_is_read_in_many_forms(text: str) -> None:
    assert read_plan(text) == PARTS


@pytest.mark.parametrize(
    "text", ["", "I cannot do that.", "A guide is a text.\nIt has 12 lines.", "1.\n2.\n3."]
)
def test_what_is_no_plan_has_no_parts(text: str) -> None:
    assert read_plan(text) == []


def test_headings_have_no_counts_and_other_scripts_are_read() -> None:
    assert read_plan("1. Seeds\n2. Soil\n3. Seeds") == [Part("Seeds"), Part("Soil")]
    assert read_plan("1. \u5f00\u5934 - 400\u5b57\n2. \u7ed3\u5c3e - 1,200\u5b57") == [
        Part("\u5f00\u5934", 400), Part("\u7ed3\u5c3e", 1200),
    ]  # fmt: skip
    assert len(read_plan("1. " + "word " * 200)[0].point) <= 300


def test_what_is_read_of_a_plan_that_is_shown_is_the_plan() -> None:
    assert read_plan(as_text(PARTS)) == PARTS
    assert as_text(PARTS[1:], 2) == "Part 2 - Main point: what to sow - Words: 600"


def test_counts_are_scaled_to_the_sum() -> None:
    assert fitted(PARTS, 5000, 5000) == (Part("where to begin", 2000), Part("what to sow", 3000))
    three = fitted([Part("a"), Part("b", 100), Part("c", 300)], 600, 1000)
    assert [part.words for part in three] == [200, 100, 300]
    assert [part.words for part in fitted([Part(n) for n in "abc"], 100, 99)] == [33, 34, 33]


def test_a_long_part_is_split() -> None:
    assert fitted([Part("a", 1), Part("b", 4)], 2500, 1000) == (
        Part("a", 500), Part("b (1 of 2)", 1000), Part("b (2 of 2)", 1000),
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=50),
    words=st.integers(1, 50_000),
    most=st.integers(1, 2000),
)
def test_every_part_has_words_and_their_sum_is_right(
    counts: list[int], words: int, most: int
) -> None:
    counts = counts[:words]
    found = fitted([Part("x", count) for count in counts], words, most)
    assert sum(part.words for part in found) == words
    assert all(1 <= part.words <= most for part in found)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=300))
def test_anything_is_read(text: str) -> None:
    assert all(part.point for part in read_plan(text))


def test_what_can_be_written_by() -> None:
    assert usable(PARTS, 2000, 50, 1000) and not usable(PARTS, 2001, 50, 1000)
    assert not usable([], 100, 50, 1000) and not usable(PARTS, 1, 50, 1000)
    assert not usable([Part(str(n)) for n in range(51)], 5000, 50, 1000)


def test_equal_parts() -> None:
    parts = equal_parts(1001, 4)
    assert [part.words for part in parts] == [250, 250, 251, 250]
    assert "beginning" in parts[0].point and "end" in parts[-1].point and "2 of 4" in parts[1].point
    assert equal_parts(7, 1) == (Part("all of it", 7),)
