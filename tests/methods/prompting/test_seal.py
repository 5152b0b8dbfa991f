"""seal: what the model writes under an index of passages, and what passages score by it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence as Seq

import pytest
import torch
from torch import Tensor

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting.seal import Seal, scores, uncovered, weight, written
from lengthwise.retrieval.datastore import Datastore
from lengthwise.testing.prompting import letters

TOKENS = 10_000_000
TEXT = "Aaa bbb ccc. Ddd eee fff. Ggg hhh iii. Jjj kkk lll. "


@pytest.mark.parametrize(
    ("log", "count", "expected"),
    [(math.log(0.1), 3, 140.22), (math.log(0.1), 300_000, 1.635), (math.log(1e-6), 3, 0.0498),
     (math.log(0.01), 2_000_000, 0.0)],
)  # fmt: skip
def test_weights_are_those_of_the_paper(log: float, count: int, expected: float) -> None:
    assert weight(log, count, TOKENS) ** 2 == pytest.approx(expected, rel=5e-4)


def test_what_is_certain_and_what_is_everywhere_have_finite_weights() -> None:
    assert 0 < weight(0.0, 1, 100) < math.inf
    assert weight(-1.0, 100, 100) == 0.0


@pytest.mark.parametrize(("seen", "factor"), [({9}, 1.0), ({1, 9}, 0.6), ({1, 2, 3}, 0.2)])
def test_tokens_that_were_counted_count_less(seen: set[int], factor: float) -> None:
    assert uncovered([1, 2], seen) == pytest.approx(factor)


class Fixed:
    """The likeliest token is the next of `wanted`, then the least one; tokens are 0 to 9."""

    def __init__(self, wanted: Seq[int]) -> None:
        self.wanted = list(wanted)
        self.asked: list[tuple[int, ...]] = []

    def after(self, given: Seq[Seq[int]]) -> Tensor:
        self.asked += [tuple(each) for each in given]
        logits = -torch.arange(10.0).repeat(len(given), 1)
        for row, each in enumerate(given):
            if len(each) < len(self.wanted):
                logits[row, self.wanted[len(each)]] = 3.0
        return torch.log_softmax(logits, -1)


PASSAGES = [[1, 2, 3, 4], [1, 2, 5], [6, 2, 3, 7], [3, 1]]


def stands(gram: Seq[int]) -> bool:
    return any(list(gram) == each[n : n + len(gram)] for each in PASSAGES for n in range(len(each)))


@pytest.mark.parametrize("beam", [1, 2, 15])
def test_what_is_written_stands_in_a_passage(beam: int) -> None:
    found = written(Fixed([1, 2, 9, 9]), Datastore.build(PASSAGES, 10), beam, 6)
    assert found and all(stands(gram) for gram in found)
    assert (1, 2) in found and max(map(len, found)) == 4
    # No passage has the separator's neighbours side by side.
    assert not any(gram[:2] in ((4, 1), (5, 6), (7, 3)) for gram in found)


def test_beams_are_the_likeliest_of_all_that_go_on() -> None:
    index, steps = Datastore.build(PASSAGES, 10), Fixed([2])
    found = written(steps, index, 2, 2)
    first = steps.after([()])[0]
    assert found[(2,)] == pytest.approx(float(first[2]), abs=1e-5)
    assert set(found) == {(2,), (1,), (2, 3), (2, 5)}
    second = steps.after([(2,)])[0]
    assert found[(2, 3)] == pytest.approx(float(first[2] + second[3]), abs=1e-5)


def test_shares_of_what_is_allowed_are_those_of_its_tokens() -> None:
    found = written(Fixed([1, 2, 9]), Datastore.build(PASSAGES, 10), 15, 4, "allowed")
    # Behind 1 nothing but 2 goes on.
    assert found[(1, 2)] == pytest.approx(found[(1,)])
    assert sum(math.exp(log) for gram, log in found.items() if len(gram) == 1) == pytest.approx(1)


def test_a_passage_scores_each_n_gram_once_and_where_nothing_stands() -> None:
    passages = [[1, 2, 1, 2, 3], [], [2, 3], [7]]
    index = Datastore.build(passages, 10)
    grams = {(1, 2): -0.1, (2, 3): -0.5}
    total = sum(map(len, passages))
    first = weight(-0.1, 2, total) ** 2
    second = weight(-0.5, 2, total) ** 2
    assert first > second > 0
    # In the first passage (1, 2) stands twice, and takes a token of (2, 3).
    single = 0.25
    found = scores(index, [5, 0, 2, 1], grams, {3: single, 7: 1.0})
    assert found == pytest.approx([first + single, 0.0, second, 1.0])
    # 3 was counted with (2, 3).
    assert scores(index, [5, 0, 2, 1], {(2, 3): -0.5}, {2: 1.0})[2] == pytest.approx(second)


class Writer:
    """Words are tokens; its answer is made of the words of `said`."""

    name, trained_length = "writer", 64

    def __init__(self, said: str) -> None:
        self.words: dict[str, int] = {}
        self.said = said
        self.begun: list[tuple[str, str]] = []

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S+\s*|\s+", text)]

    def count(self, text: str) -> int:
        return len(self.spans(text))

    def ids(self, text: str) -> list[int]:
        words = (text[a:b].strip(" .\n") for a, b in self.spans(text))
        return [self.words.setdefault(word, len(self.words)) for word in words]

    def write(self, text: str, question: str, max_new_tokens: int) -> str:
        return ""

    def begin(self, question: str, cue: str) -> Fixed:
        self.begun.append((question, cue))
        steps = Fixed(self.ids(self.said))
        count = len(self.words)
        inner = steps.after
        steps.after = lambda given: torch.log_softmax(  # type: ignore[method-assign]
            torch.nn.functional.pad(inner(given), (0, max(0, count - 10)), value=-30.0), -1
        )
        return steps


def test_the_passage_is_read_that_says_what_the_model_writes() -> None:
    model = Writer("Ggg hhh iii")
    method = Seal(budget=Budget(3), passage=3, length=3, beam=2, cue="So:")
    found = method.write_prompt(["", TEXT], "q?", model)
    assert found.text == "Ggg hhh iii. " and model.begun == [("q?", "So:")]


def test_nothing_is_written_where_all_fits() -> None:
    model = Writer("Ggg")
    assert Seal(budget=Budget(99)).write_prompt([TEXT], "q?", model).text == TEXT
    assert not model.begun


def test_a_model_of_text_alone_is_refused() -> None:
    class Text:
        name, trained_length = "text", 64
        spans, count, write = Writer.spans, Writer.count, Writer.write

    with pytest.raises(Refused, match="seal chooses each token .* text does not offer that"):
        Seal(budget=Budget(3)).write_prompt([TEXT], "q?", Text())  # type: ignore[arg-type]


def test_settings_that_make_no_sense_are_refused() -> None:
    for name in ("beam", "length", "passage"):
        with pytest.raises(RecipeError, match=name):
            Seal(**{name: 0})
    with pytest.raises(RecipeError, match="among"):
        Seal(among="some")


@pytest.mark.parametrize("document", ["x" * 90, "é 😀. Ünï!\r\n" * 9, "no end " * 12, " \n" * 60])
def test_a_real_model_is_asked_about_any_text(document: str) -> None:
    model = LocalText(letters())
    method = Seal(budget=Budget(40), passage=24, beam=3, length=3, among="allowed")
    found = method.write_prompt([document, ""], "Где кран?", model)
    assert 0 < len(found.text) <= 40 and model.tokens_read
