"""Passages: cut from documents, chosen within a budget, and joined again."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, strategies as st
from torch import Tensor, zeros

from lengthwise.errors import Refused
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompts import (
    GAP,
    ROUNDS,
    AttentionModel,
    LogitModel,
    Passage,
    PromptText,
    attention_of,
    cut,
    in_order,
    joined,
    logits_of,
    pieces,
    places,
    whole,
    within,
)
from lengthwise.methods.text_budget import tokens_of
from lengthwise.retrieval.sentences import sentences
from lengthwise.testing.prompting import letters


class Toy:
    """A token is a word with the space behind it; `wide` makes bytes of UTF-8 tokens instead."""

    name, trained_length = "toy", 64

    def __init__(self, wide: bool = False) -> None:
        self.wide = wide

    def spans(self, text: str) -> list[tuple[int, int]]:
        if self.wide:
            return [(n, n + 1) for n, sign in enumerate(text) for _ in sign.encode()]
        return [match.span() for match in re.finditer(r"\S+\s*|\s+", text)]

    def count(self, text: str) -> int:
        return len(self.spans(text))

    def write(self, text: str, question: str, max_new_tokens: int) -> str:
        return question[:max_new_tokens]


class ToyLogits(Toy):
    def foretell(self, text: str, question: str, tokens: int) -> Tensor:
        return zeros(tokens, 2)

    def losses(self, text: str) -> Tensor:
        return zeros(self.count(text))


TEXT = "One two three. Four five six! Seven."
TEXTS = (
    TEXT, "", " ", "no end at all " * 9, "😀👩‍👩‍👧 é. Ja!\r\nДа. 你好。", "x" * 50,
    "def f(x):\n    return x.y  # z. Q\n", "\n\n\nA. B c.\r\n\r\n",
)  # fmt: skip


def test_neighbours_are_joined_as_they_stand_and_others_apart() -> None:
    first, second, other = Passage("ab", 0, 0, 2), Passage("cd", 0, 2, 4), Passage("gh", 0, 6, 8)
    assert joined([first, second, other]) == "abcd" + GAP + "gh"
    assert joined([second, first]) == "cd" + GAP + "ab"
    # The beginning of another document is no neighbour, and neither is what a model wrote.
    assert joined([first, Passage("cd", 1, 2, 4)]) == "ab" + GAP + "cd"
    assert joined([Passage("said"), Passage("more")]) == "said" + GAP + "more"
    assert joined([]) == "" and PromptText((first, other), "q").text == "ab" + GAP + "gh"


def test_passages_of_a_gap_of_their_own_are_that_far_apart() -> None:
    first, other = Passage("ab ", 0, 0, 3, ""), Passage("gh", 0, 6, 8, "")
    assert joined([first, other]) == "ab gh"
    assert joined([other, first]) == "gh" + GAP + "ab "
    assert joined([first, Passage("x", 1, 6, 7, "")]) == "ab " + GAP + "x"
    assert in_order([other, Passage("cd", 0, 3, 5, ""), first]) == (
        Passage("ab cd", 0, 0, 5, ""), other,
    )  # fmt: skip


def test_passages_in_order_become_one_where_they_touch() -> None:
    first, second, last = Passage("ab", 0, 0, 2), Passage("cd", 0, 2, 4), Passage("x", 1, 4, 5)
    assert in_order([last, second, first]) == (Passage("abcd", 0, 0, 4), last)
    assert in_order([]) == ()


def test_texts_of_a_model_are_not_taken_for_neighbours() -> None:
    said, more = Passage("said"), Passage("more")
    assert in_order([said, more]) == (said, more)
    assert in_order([said, Passage("ab", 0, 0, 2)]) == (Passage("ab", 0, 0, 2), said)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("size", [1, 3, 8, 1000])
def test_pieces_joined_are_the_documents(size: int, wide: bool) -> None:
    model = Toy(wide)
    found = list(pieces(TEXTS, model, size, sentences))
    for number, text in enumerate(TEXTS):
        own = [each for each in found if each.document == number]
        assert "".join(each.text for each in own) == text
        assert all(text[each.start : each.stop] == each.text for each in own)
        for each in own:
            signs = 1 if wide and len(each.text) == 1 else 0
            assert each.text and (model.count(each.text) <= size or signs)


def test_pieces_end_at_sentences_that_fit() -> None:
    found = [each.text for each in pieces([TEXT], Toy(), 6, sentences)]
    assert found == ["One two three. Four five six! ", "Seven."]
    found = [each.text for each in pieces([TEXT], Toy(), 2, sentences)]
    assert found[:2] == ["One two ", "three. "]


def test_within_takes_the_best_that_fit_in_their_order() -> None:
    ranked = [Passage("Seven.", 0, 30, 36), Passage("One two three. ", 0, 0, 15),
              Passage("Four five six! ", 0, 15, 30)]  # fmt: skip
    assert within(Toy(), ranked, 5) == (ranked[1], ranked[0])
    assert within(Toy(), ranked, 2) == (ranked[0],)
    assert joined(within(Toy(), ranked, 100)) == TEXT
    assert within(Toy(), ranked[1:], 2) == (Passage("One two ", 0, 0, 8),)
    assert within(Toy(), [], 5) == ()


@pytest.mark.parametrize("budget", range(1, 12))
def test_within_counts_what_stands_between_passages(budget: int) -> None:
    model = Toy(wide=True)
    ranked = [Passage(sign, 0, 3 * n, 3 * n + 1) for n, sign in enumerate("abcdef")]
    found = within(model, ranked, budget)
    assert 1 <= model.count(joined(found)) <= budget


class Counting(Toy):
    """Remembers what it counted."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[str] = []

    def count(self, text: str) -> int:
        self.counted.append(text)
        return super().count(text)


def within_slowly(model: Toy, ranked: list[Passage], budget: int) -> tuple[Passage, ...]:
    """Every passage counted whenever it is looked at."""
    sizes: dict[int, int] = {}
    left = budget
    for _ in range(ROUNDS):
        before = len(sizes)
        for rank, each in enumerate(ranked):
            if left > 0 and rank not in sizes and model.count(each.text) <= left:
                sizes[rank] = model.count(each.text)
                left -= sizes[rank]
        if len(sizes) == before:
            break
        left = budget - model.count(joined(in_order([ranked[n] for n in sorted(sizes)])))
    kept = sorted(sizes)
    while len(kept) > 1 and left < 0:
        while left < 0 and len(kept) > 1:
            left += max(1, sizes[kept.pop()])
        left = budget - model.count(joined(in_order([ranked[n] for n in kept])))
    return in_order([ranked[n] for n in kept]) or (cut(model, ranked[0], budget),)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 60), st.booleans(),
       st.randoms(use_true_random=False))  # fmt: skip
def test_within_counts_each_passage_once_and_chooses_as_ever(
    sizes: list[int], budget: int, wide: bool, draw: Random
) -> None:
    # Pieces of one text without spaces: side by side they are fewer words than one by one.
    places = [sum(sizes[:n]) for n in range(len(sizes))]
    text = "".join(draw.choice("ab é") for _ in range(sum(sizes)))
    ranked = [Passage(text[at : at + size], 0, at, at + size)
              for at, size in zip(places, sizes, strict=True)]  # fmt: skip
    draw.shuffle(ranked)
    assert within(Toy(wide), ranked, budget) == within_slowly(Toy(wide), ranked, budget)


def test_passages_that_are_left_out_are_counted_once() -> None:
    model = Counting()
    ranked = [Passage(f"a{n} " * 9, 0, 40 * n, 40 * n + 36) for n in range(40)]
    # Side by side they are one word, which leaves room that none of the others fits.
    ranked += [Passage(f"b{n}", 0, 2000 + 2 * n, 2002 + 2 * n) for n in range(9)]
    found = within(model, ranked, 15)
    alone = [text for text in model.counted if text in {each.text for each in ranked}]
    assert len(alone) == len(set(alone)) and model.count(joined(found)) <= 15


def test_within_reads_in_the_order_that_is_asked_for() -> None:
    ranked = [Passage("c", 0, 2, 3), Passage("a", 0, 0, 1), Passage("b", 0, 1, 2)]
    assert within(Toy(wide=True), ranked, 9, tuple) == tuple(ranked)
    # Apart they need 1 + 2 + 1 + 1 bytes, for the last two follow one another.
    assert within(Toy(wide=True), ranked, 4, tuple) == tuple(ranked[:2])


def test_cut_takes_the_beginning() -> None:
    passage = Passage(TEXT, 2, 7, 7 + len(TEXT))
    assert cut(Toy(), passage, 2) == Passage("One two ", 2, 7, 15)
    assert cut(Toy(), passage, 99) == passage
    assert cut(Toy(wide=True), Passage("ab😀", 0, 0, 3), 4).text == "ab"
    # One character of more tokens than the budget cannot be cut.
    assert cut(Toy(wide=True), Passage("😀x", 0, 0, 2), 1).text == "😀"


def test_a_budget_is_of_all_documents_and_bytes_are_refused() -> None:
    assert tokens_of(["a b c", "d"], Budget(50, "%"), Toy()) == (4, 2)
    assert tokens_of(["", ""], Budget(2048), Toy(wide=True)) == (2, 2048)
    with pytest.raises(Refused, match="counted in tokens, not in bytes"):
        tokens_of(["a"], Budget(1, "MB"), Toy())


def test_probabilities_are_asked_for_by_name() -> None:
    assert isinstance(logits_of(ToyLogits(), "xl3m"), LogitModel)
    with pytest.raises(Refused, match="xl3m looks at the probabilities .* and toy does not"):
        logits_of(Toy(), "xl3m")


def test_all_of_the_documents() -> None:
    assert whole(["ab", "", "c"]) == (
        Passage("ab", 0, 0, 2), Passage("", 1, 0, 0), Passage("c", 2, 0, 1),
    )  # fmt: skip


def test_the_model_of_letters_counts_one_token_a_letter() -> None:
    from lengthwise.api.text_model import LocalText

    assert LocalText(letters()).spans("a b") == [(0, 1), (1, 2), (2, 3)]


def test_attention_is_asked_for_by_name() -> None:
    from lengthwise.api.text_model import LocalText

    assert isinstance(attention_of(LocalText(letters()), "infiniretri"), AttentionModel)
    with pytest.raises(Refused, match="infiniretri looks at the attention of a model, and toy"):
        attention_of(ToyLogits(), "infiniretri")


def test_places_are_those_in_the_joined_text() -> None:
    given = (
        Passage("One ", 0, 0, 4, ""), Passage("three ", 0, 8, 14, ""), Passage("four.", 0, 14, 19),
        Passage("A", 1, 0, 1), Passage("said"),
    )  # fmt: skip
    text = joined(given)
    assert [text[a:b] for a, b in places(given)] == [each.text for each in given]
    assert places(()) == []
