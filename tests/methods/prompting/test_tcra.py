"""tcra: retrieved passages without the words that say least, or in summaries."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import pytest

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting import tcra as module
from lengthwise.methods.prompting.tcra import TCRA, shortened
from lengthwise.methods.prompts import GAP, Passage, PromptText, cut, joined
from lengthwise.retrieval.lexical import words
from lengthwise.testing.prompting import letters
from tests.methods.prompting.noting import Noting

FILL = "".join(f"Ship {n} left the harbour, and was seen no more. " for n in range(12))
FACT = "WHO IS BO? "
TEXT = FILL + FACT + FILL
# What a word weighs in the vectors of this file; all others weigh 1.
WEIGHTS = {"the": 0.01, "of": 0.02, "a": 0.03, "not": 0.001, "can't": 0.002, "crane": 9.0}


def weighed(texts: Seq[str], folder: str) -> np.ndarray[Any, Any]:
    """Vectors of weighed words, one number a word."""
    vocabulary = sorted({word for text in texts for word in text.lower().split()})
    found = [[WEIGHTS.get(word.strip(".,"), 1.0) * (word in text.lower().split())
              for word in vocabulary] for text in texts]  # fmt: skip
    vectors = np.asarray(found, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def tcra(**options: Any) -> TCRA:
    return TCRA(encoder=TCRA.example().encoder, **options)


def written(method: TCRA, documents: list[str], question: str = "WHO IS BO?") -> PromptText:
    found = method.write_prompt(documents, question, LocalText(letters()))
    for each in found.passages:
        assert each.document is not None
        assert documents[each.document][each.start : each.stop] == each.text
    return found


@pytest.mark.parametrize(
    ("target", "rounds", "stays", "expected"),
    [
        (9, 1, False, "The crane of a man can't not lift it."),
        (8, 1, False, "The crane of a man can't lift it."),
        (5, 1, False, "crane a man lift it."),
        (5, 4, False, "crane a man lift it."),
        (7, 1, True, "crane a man can't not lift it."),
        (0, 1, True, "can't not ."),
        (0, 9, False, "."),
    ],
)
def test_the_words_of_least_delta_go(
    target: int, rounds: int, stays: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "vectors_of", weighed)
    text = "The crane of a man can't not lift it."
    model = Noting(lambda text: text)
    keeps = TCRA()._stays if stays else lambda word: False
    runs = shortened(Passage(text, 0, 0, len(text)), target, model, "", rounds, keeps)
    assert "".join(each.text for each in runs) == expected
    assert all(text[each.start : each.stop] == each.text for each in runs)


@pytest.mark.parametrize("text", ["हिन्दी में नमस्ते दुनिया", "cafe\u0301 the re\u0301sume\u0301 x"])
def test_words_go_with_their_marks(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "vectors_of", weighed)
    model = Noting(lambda text: text)
    runs = shortened(Passage(text, 0, 0, len(text)), 2, model, "", 1, lambda word: False)
    left = "".join(each.text for each in runs).split()
    assert len(left) == 2 and set(left) <= set(text.split())


class Counting(Noting):
    """A token is a word; how often a text was counted is remembered."""

    def __init__(self) -> None:
        super().__init__(lambda text: text)
        self.counts = 0

    def count(self, text: str) -> int:
        self.counts += 1
        return super().count(text)


def fitting_slowly(runs: list[Passage], model: Noting, budget: int) -> list[Passage]:
    """Run by run, from the last one on."""
    while runs and (over := model.count(joined(runs)) - budget) > 0:
        last = runs.pop()
        if (size := model.count(last.text) - over) > 0:
            runs.append(cut(model, last, size))
    return runs


@pytest.mark.parametrize("budget", [1, 2, 7, 99, 100, 449, 450, 600])
def test_runs_beyond_the_budget_go_without_counting_each(budget: int) -> None:
    runs, at = [], 0
    for number in range(150):
        text = f"w{number} " * (1 + number % 5)
        runs.append(Passage(text, 0, at, at + len(text), ""))
        at += len(text) + number % 2
    model = Counting()
    found = module._fitting(list(runs), model, budget)
    assert model.counts <= 2 * module.NEAR + 3
    assert found == fitting_slowly(list(runs), model, budget)


def test_passages_near_the_question_are_read_without_their_cheapest_words() -> None:
    found = written(tcra(budget=Budget(60), passage=48), [TEXT])
    assert "WHO IS" in found.text and found.question == "WHO IS BO?"
    assert 0 < len(found.text) <= 60
    read = [word for each in found.passages for word in words(each.text)]
    assert len(read) < len(words(TEXT)) / 4 and found.choices
    # More is retrieved than is read, and no more than that.
    least = tcra(budget=Budget(60), passage=48, ratio=0.01)
    assert sum(map(len, written(least, [TEXT]).text.split())) <= 60


def test_all_of_the_documents_are_compressed_without_retrieval() -> None:
    found = written(tcra(budget=Budget(60, "%"), passage=64, retrieve=False), [FILL, FILL])
    assert len(found.text) <= 0.6 * len(FILL + GAP + FILL)
    for part in (0, 1):
        own = "".join(each.text for each in found.passages if each.document == part)
        assert len(own) > 0.5 * len(FILL) and all(f"{n} " in own or str(n) for n in range(12))


def test_negations_stay() -> None:
    method = tcra(budget=Budget(30, "%"), passage=64, retrieve=False)
    assert written(method, [FILL]).text.count("no") > 8
    assert method._stays("Not ") and method._stays("don’t") and not method._stays("note")
    assert not tcra(negations=False)._stays("not")


def test_summaries_are_as_long_as_asked() -> None:
    model = Noting(lambda text: "one two three four five six seven eight", 2000)
    method = tcra(budget=Budget(20), compress="summary", retrieve=False, chunk=40, passage=20)
    found = method.write_prompt([TEXT], "q?", model)
    assert 0 < model.count(found.text) <= 20 and all(p.document is None for p in found.passages)
    assert "".join(text for text, _, _ in model.asked) == TEXT
    assert all(f"at most {max(1, round(size * 0.75))} words" in asked
               for _, asked, size in model.asked)  # fmt: skip
    model = Noting(lambda text: "NONE", 2000)
    assert method.write_prompt([TEXT], "q?", model).text == "The documents say nothing about it."


@pytest.mark.parametrize("text", ["x" * 300, "no end " * 40, "😀 é. 你好。\r\n" * 20, "\n" * 200])
@pytest.mark.parametrize("options", [{}, {"retrieve": False}, {"compress": "summary"}])
def test_any_text_is_cut_to_the_budget(text: str, options: dict[str, Any]) -> None:
    method = tcra(budget=Budget(30), passage=16, **options)
    assert 0 < len(method.write_prompt([text, ""], "Где?", LocalText(letters())).text) <= 30


def test_what_cannot_run_is_refused() -> None:
    model = LocalText(letters())
    with pytest.raises(Refused, match="tcra compares vectors, and no encoder is given"):
        TCRA(budget=Budget(9)).write_prompt([TEXT], "q", model)
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        tcra(budget=Budget(1, "KB"))
    with pytest.raises(Refused, match="a part and its summary are 8,000 tokens"):
        tcra(budget=Budget(9), compress="summary", chunk=4000).write_prompt([TEXT], "q", model)
    for options, says in (({"chunk": 99}, "compress=summary"), ({"ratio": 1.0}, "ratio"),
                          ({"compress": "summary", "rounds": 2}, "compress=semantic"),
                          ({"retrieve": False, "ratio": 0.5}, "retrieve=true")):  # fmt: skip
        with pytest.raises(RecipeError, match=says):
            tcra(**options)
