"""A corpus in two parts, and what is said of one that is none."""

from __future__ import annotations

import pytest

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.corpus import LINE, STRETCH, Parts, stretches, survey
from lengthwise.tokenization.trainers.patterns import WORDS, split_by


def _told(what: str, share: float) -> None:
    pass


LINES = "".join(f"line {number} of a book\n" + "\n" * (number % 3) for number in range(3000))


def test_stretches_are_the_text_and_end_with_lines() -> None:
    found = list(stretches(LINES))
    assert "".join(found) == LINES and len(found) > 5
    assert all(each.endswith("\n") for each in found)
    assert not any(each[0].isspace() for each in found)
    assert all(STRETCH <= len(each) < STRETCH + 99 for each in found[:-1])
    assert list(stretches("x" * 10_000)) == ["x" * 10_000] and list(stretches("")) == []


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.5])
def test_both_parts_are_the_corpus_and_as_large_as_said(share: float) -> None:
    corpus = [f"document {number}\n" * 8 for number in range(400)] + [LINES]
    parts = Parts(lambda: iter(corpus), share, seed=3)
    trained, held = list(parts.trained()), list(parts.held_out())
    assert sorted("".join(trained) + "".join(held)) == sorted("".join(corpus))
    count = 400 + len(list(stretches(LINES)))
    assert abs(len(held) - share * count) <= 1
    assert (trained, held) == (list(parts.trained()), list(parts.held_out()))
    if not share:
        assert trained == corpus
    # What follows each other in a document is one text.
    assert len(trained) <= 401 + len(held)


def test_another_seed_holds_out_others() -> None:
    corpus = [f"document {number}" for number in range(100)]
    parts = [list(Parts(lambda: iter(corpus), 0.1, seed).held_out()) for seed in (0, 1)]
    assert parts[0] != parts[1] and len(parts[0]) == len(parts[1]) == 10


def test_a_survey_counts_and_knows_every_change() -> None:
    found = survey(lambda: iter(["ab", "é"]), _told)
    assert (found.texts, found.characters, found.bytes) == (2, 3, 4)
    others = (["a", "bé"], ["abé"], ["ab", "e"])
    assert len({found.fingerprint, *(survey(lambda o=o: iter(o), _told).fingerprint
                                     for o in others)}) == 4  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ([], "is empty"), ([""], "is empty"), (["aaaa", "a"], "one character 'a'"),
        ([" \n", "\t"], "nothing but spaces"), (["ok", "x\udcff"], "text 2 .* lone surrogate"),
    ],
)  # fmt: skip
def test_what_nothing_can_be_learned_of_is_refused(texts: list[str], told: str) -> None:
    with pytest.raises(TokenizerError, match=told):
        survey(lambda: iter(texts), _told)


@pytest.mark.parametrize(
    "text",
    [
        "The cat, they don't 2010 see -- it's __x__ (y). " * 4000,
        "\n".join("   an indented line of code(x)" for _ in range(4000)),
        "猫在垫子上。另一只猫，也在！2010年 the end" * 4000,
        "\n" + "word e\u0301a " * 9000 + "\nshort\nlines\n",
    ],
    ids=["one line", "indented", "Chinese", "marks"],
)
def test_long_lines_are_cut_between_pieces(text: str) -> None:
    found = list(stretches(text))
    assert "".join(found) == text and len(text) > LINE
    assert max(map(len, found)) < 3 * STRETCH
    pieces = [piece for each in found for piece, _ in split_by(WORDS).pre_tokenize_str(each)]
    assert pieces == [piece for piece, _ in split_by(WORDS).pre_tokenize_str(text)]
    held = sum(map(len, Parts(lambda: iter([text]), 0.2).held_out()))
    assert held == pytest.approx(0.2 * len(text), rel=0.3)


def test_lines_that_are_not_so_long_stay_whole() -> None:
    text = "word " * (LINE // 5) + "\n"
    assert list(stretches(text * 3)) == [text] * 3
    assert list(stretches("x" * 3 * LINE)) == ["x" * 3 * LINE]


@pytest.mark.parametrize("corpus", [["a short text"], ["a short text", " \n"], [" ", "words"]])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_nothing_is_held_out_where_no_text_would_be_left(corpus: list[str], share: float) -> None:
    # With each of these seeds the first stretch would be held out, at one share or both.
    for seed in (1, 4, 5, 23, 80, 247):
        parts = Parts(lambda: iter(corpus), share, seed)
        trained, held = list(parts.trained()), list(parts.held_out())
        assert "".join(trained).strip() and sorted(trained + held) == sorted(corpus)
