"""Sentences as they come: counted, told apart, and what is streamed is what is kept."""

from __future__ import annotations

from collections import Counter

import pytest

from lengthwise.workflows.writing_part import Enough, PartText, goes_round, note_sentences

ONE, TWO = "Ships come in at noon. ", "Nobody counts them there. "
THREE = "It rains all day long. "


def part(target: int = 100, said: Counter[str] | None = None, repeats: int = 1) -> PartText:
    return PartText(2, target, Counter() if said is None else said, repeats)


def heard(text: PartText, answer: str, whole: bool = True) -> bool:
    """Whether an answer was ended, given letter by letter."""
    text.begin()
    try:
        for letter in answer:
            text.hear(letter)
        text.end(answer, whole)
    except Enough:
        return True
    return False


def test_sentences_are_let_through_when_they_are_whole() -> None:
    pieces: list[str] = []
    text = PartText(1, 100, Counter(), 1, pieces.append)
    text.begin()
    for letter in ONE + "Nobody":
        text.hear(letter)
    assert "".join(pieces) == ONE
    text.end(ONE + "Nobody", True)
    assert "".join(pieces) == text.text == ONE + "Nobody" and text.words == 6


def test_a_torn_sentence_is_left_out_unless_it_is_all() -> None:
    text = part()
    assert not heard(text, ONE + "Nobody counts", whole=False) and text.text == ONE
    text = part()
    assert not heard(text, "Nobody counts", whole=False) and text.text == "Nobody counts"


def test_a_model_that_does_not_stream_is_heard_at_its_end() -> None:
    text = part()
    text.begin()
    text.end(ONE + TWO, True)
    assert text.text == ONE + TWO


def test_it_ends_at_the_sentence_that_is_nearest_to_its_words() -> None:
    # Five, nine and fourteen words.
    for target, words in ((4, 5), (6, 5), (7, 9), (11, 9), (12, 14), (14, 14)):
        text = part(target)
        heard(text, ONE + TWO + THREE)
        assert text.words == words, target


def test_what_was_said_before_is_left_out_and_three_in_a_row_end_the_answer() -> None:
    said: Counter[str] = Counter()
    note_sentences(ONE + TWO + THREE, said)
    text = part(said=said)
    assert not heard(text, ONE + "This is something new. " + TWO)
    assert (text.text.strip(), text.held_back) == ("This is something new.", 2)
    text = part(said=said)
    assert heard(text, ONE + TWO + THREE + "This is quite new too.")
    assert (text.text, text.held_back) == ("", 3)


def test_repeats_may_be_allowed() -> None:
    text = part(repeats=2)
    heard(text, ONE * 3)
    assert (text.words, text.held_back) == (10, 1)
    text = part(repeats=0)
    heard(text, ONE * 9)
    assert (text.words, text.held_back) == (45, 0)


def test_numbers_alone_make_no_new_sentence() -> None:
    text = part()
    assert heard(text, "".join(f"Step {n}: Water\n\n" for n in range(1, 20)))
    assert (text.words, text.held_back) == (12, 3)


def test_a_sentence_that_goes_round_ends_the_answer() -> None:
    circle = "it moves and it moves and " * 100
    text = part(10_000)
    assert heard(text, ONE + circle) and text.text == ONE and text.held_back == 1
    assert goes_round("a b c d e a b c d e a b c d e a b c d") and not goes_round("a b c d " * 3)
    assert not goes_round("") and not goes_round("a b c")


def test_its_own_heading_goes_and_a_later_one_ends_it() -> None:
    text = part()
    assert heard(text, f"**Part 2:** {ONE}{TWO}\n\nPart 3: {THREE}")
    assert text.text.split() == (ONE + TWO).split()
    text = part()
    assert not heard(text, "Part 2\n\nPartners come by sea.")
    assert text.text.strip() == "Partners come by sea."


def test_answers_are_joined_by_a_paragraph() -> None:
    text = part()
    text.gap()
    heard(text, ONE)
    text.gap()
    heard(text, TWO)
    assert text.text == f"{ONE.rstrip()}\n\n{TWO}" or text.text == f"{ONE}\n\n{TWO}"


@pytest.mark.parametrize("answer", ["", " ", "\n\n"])
def test_nothing_is_nothing(answer: str) -> None:
    text = part()
    assert not heard(text, answer) and text.words == 0 and not text.text.strip()


def test_a_model_that_says_again_what_it_was_asked_says_nothing() -> None:
    text = part()
    text.begin("Write this part alone, please. It is too short.\n\nAdd 50 words.")
    text.hear(f"{ONE}It is too short. Add 64 words. {TWO}Then")
    assert text.text.split() == (ONE + TWO).split() and text.held_back == 2


def test_there_is_one_empty_line_at_most() -> None:
    text = part()
    heard(text, f"\n\n{ONE}\n\n\n\n\n\n{TWO}")
    text.gap()
    text.gap()
    assert "\n\n\n\n" not in text.text and text.text.split() == (ONE + TWO).split()
