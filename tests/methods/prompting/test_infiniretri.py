"""infiniretri: sentences that the question attends to are carried from chunk to chunk."""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq

import numpy as np
import pytest
import torch

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting.infiniretri import TEMPLATE, InfiniRetri, _smoothed
from lengthwise.methods.prompts import Regard
from lengthwise.testing.prompting import letters

TEXT = "Aaa bbb one. Ccc BO ddd. Eee fff two. Ggg BO BO. Hhh iii three. Jjj kkk four. "


class Attentive:
    """Words are tokens; what a question gives to those that begin with BO is by their length.

    rows: by row of the question, the letter that its words begin with and what it gives itself.
    """

    name = "attentive"

    def __init__(self, trained: int = 400, rows: Seq[tuple[str, float]] = (("B", 0.5),)) -> None:
        self.trained_length, self.rows = trained, rows
        self.asked: list[tuple[str, str, float]] = []

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S+\s*|\s+", text)]

    def count(self, text: str) -> int:
        return len(self.spans(text))

    def write(self, text: str, question: str, max_new_tokens: int) -> str:
        return ""

    def regard(self, text: str, question: str, depth: float = 1.0) -> Regard:
        self.asked.append((text, question, depth))
        words = [text[a:b].strip() for a, b in self.spans(text)]
        given = [[1.0 * len(w) * w.startswith(sign) for w in words] for sign, _ in self.rows]
        return Regard(torch.tensor(given), torch.tensor([own for _, own in self.rows]))


def chosen(text: str | list[str], model: Attentive | None = None, **options: int | float) -> str:
    documents = [text] if isinstance(text, str) else text
    given = {"budget": Budget(6), "chunk": 6, "top": 1, "phrase": 1, **options}
    found = InfiniRetri(**given).write_prompt(  # type: ignore[arg-type]
        documents, "q?", model or Attentive()
    )
    assert found.question == "q?"
    return found.text


def test_what_the_question_attends_to_is_carried_to_the_end() -> None:
    model = Attentive()
    assert chosen(TEXT, model, top=3) == "Ccc BO ddd. Ggg BO BO. "
    texts = [text for text, _, _ in model.asked]
    assert texts[0] == "Aaa bbb one. Ccc BO ddd. "
    # A memory stands before each chunk, without what nobody looked at.
    assert texts[-1].endswith("Hhh iii three. Jjj kkk four. ") and "Ccc BO ddd. " in texts[-1]
    assert len(texts) == 3 and {q for _, q, _ in model.asked} == {"q?"}


def test_a_sentence_is_dropped_when_better_ones_come() -> None:
    assert chosen("Aaa BO one. Bbb bbb two. Ccc BOOOO three. ", Attentive()) == "Ccc BOOOO three. "


def test_the_best_sentences_stay_within_the_budget() -> None:
    text = "Xx BO yy. " * 3 + "Xx BOOO zz. " * 3
    found = chosen(text, top=9, budget=Budget(9))
    assert found == "Xx BOOO zz. " * 3


def test_the_memory_leaves_room_for_a_chunk_and_the_question() -> None:
    trained = 6 + 1 + TEMPLATE + 3
    assert chosen(TEXT, Attentive(trained), top=3, budget=Budget(17)) == "Ggg BO BO. "
    with pytest.raises(Refused, match="no room for a memory in the 71 tokens that attentive"):
        chosen(TEXT, Attentive(trained - 3), budget=Budget(17))


def test_rows_that_look_at_the_question_count_more() -> None:
    rows = (("B", 0.1), ("k", 0.9), ("B", 0.2))
    text = "Aaa BOOOOO. Ccc kk. Ddd ee. Fff gg. "
    assert chosen(text, Attentive(rows=rows), budget=Budget(2), chunk=8) == "Ccc kk. "
    assert chosen(text, Attentive(rows=rows), budget=Budget(2), chunk=8, weigh=False) == (
        "Aaa BOOOOO. "
    )


def test_weights_are_those_behind_the_first_chunk() -> None:
    class Changing(Attentive):
        def regard(self, text: str, question: str, depth: float = 1.0) -> Regard:
            found = super().regard(text, question, depth)
            own = found.question if len(self.asked) == 1 else found.question.flip(0)
            return Regard(found.text, own)

    rows = (("B", 0.9), ("k", 0.1))
    text = "Aaa BOOO. Ccc aa. Ddd kkkk. Fff gg. "
    model = Changing(rows=rows)
    assert chosen(text, model, budget=Budget(2), chunk=4) == "Aaa BOOO. "
    assert len(model.asked) == 2


@pytest.mark.parametrize("count", [1, 3, 8, 30])
@pytest.mark.parametrize("phrase", [1, 2, 3, 8])
def test_attention_is_smoothed_as_the_released_code_does(count: int, phrase: int) -> None:
    score = np.random.default_rng(0).random(count)
    # A convolution with ones whose middle part is taken, of an even number the left of the two.
    start = (phrase - 1) // 2
    wanted = np.convolve(score, np.ones(phrase))[start : start + count]
    assert np.allclose(_smoothed(score, phrase), wanted)


def test_all_documents_are_read_and_the_layer_is_handed_on() -> None:
    model = Attentive()
    found = chosen(["", "Aa bb. " * 4, "Cc BO. ", "Dd ee. " * 5], model, depth=0.5)
    assert found == "Cc BO. " and {depth for _, _, depth in model.asked} == {0.5}


def test_nothing_is_asked_where_all_fits() -> None:
    model = Attentive()
    assert chosen(TEXT, model, budget=Budget(99)) == TEXT and not model.asked


def test_a_model_that_does_not_show_its_attention_is_refused() -> None:
    class Text:
        name, trained_length = "text", 64
        spans, count, write = Attentive.spans, Attentive.count, Attentive.write

    with pytest.raises(
        Refused, match="attention of a model, and text does not offer that"
    ) as refusal:
        InfiniRetri().write_prompt([TEXT], "q?", Text())  # type: ignore[arg-type]
    assert "bm25" in refusal.value.remedy


def test_settings_that_make_no_sense_are_refused() -> None:
    for name in ("chunk", "top", "phrase"):
        with pytest.raises(RecipeError, match=name):
            InfiniRetri(**{name: 0})
    with pytest.raises(RecipeError, match="depth"):
        InfiniRetri(depth=1.5)
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        InfiniRetri(budget=Budget(1, "KB"))


@pytest.mark.parametrize("document", ["x" * 90, "é 😀. Ünï!\r\n" * 9, "no end " * 12, " \n" * 60])
def test_a_real_model_is_asked_about_any_text(document: str) -> None:
    model = LocalText(letters())
    method = InfiniRetri(budget=Budget(40), chunk=24, top=5)
    found = method.write_prompt([document, ""], "Где кран?", model)
    assert 0 < len(found.text) <= 40 and model.tokens_read > len(document)
