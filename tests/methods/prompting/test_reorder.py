"""reorder: the best passages at both ends."""

from __future__ import annotations

import pytest

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting._shared import choosing
from lengthwise.methods.prompting.reorder import Reorder, at_the_ends
from lengthwise.methods.prompts import GAP, Passage, PromptText
from lengthwise.testing.prompting import letters

# One passage a sentence; how often each has the word of the question.
COUNTS = (1, 4, 0, 5, 2, 3)
SENTENCES = [f"{'red ' * n}{'pad ' * (5 - n)}{'ABCDEF'[at]}. " for at, n in enumerate(COUNTS)]


@pytest.mark.parametrize(
    ("size", "order"), [(0, ""), (1, "1"), (2, "12"), (5, "13542"), (6, "135642")]
)
def test_ranks_alternate_between_the_ends(size: int, order: str) -> None:
    ranked = [Passage(str(n + 1)) for n in range(size)]
    assert "".join(each.text for each in at_the_ends(ranked)) == order


def test_the_best_passages_stand_at_the_ends() -> None:
    model = LocalText(letters())
    text = "".join(SENTENCES) + "\n" + "x" * 100
    method = Reorder(budget=Budget(145), passage=len(SENTENCES[0]))
    found = method.write_prompt([text], "Red?", model)
    # Ranks D, B, F, E, A; C and what is behind it have no such word.
    assert [each.text[-3] for each in found.passages] == list("DFAEB")
    assert len(found.text) <= 145 and found.text.count(GAP) == 4
    assert all(text[each.start : each.stop] == each.text for each in found.passages)


def test_ranks_are_read_as_they_are_and_k_of_them() -> None:
    text = "".join(SENTENCES) + "\n" + "x" * 100
    for options, order in (
        ({"order": "rank"}, "DBFEA"), ({"order": "rank", "k": 3}, "DBF"), ({"k": 3}, "DFB"),
        ({"k": 1}, "D"),
    ):  # fmt: skip
        method = Reorder(budget=Budget(145), passage=len(SENTENCES[0]), **options)
        found = method.write_prompt([text], "Red?", LocalText(letters()))
        assert "".join(each.text[-3] for each in found.passages) == order


def test_k_chooses_among_documents_that_fit_and_no_more_than_k_are_read_whole() -> None:
    wide = Reorder(budget=Budget(999), passage=len(SENTENCES[0]), k=2)
    found = wide.write_prompt(SENTENCES, "red", LocalText(letters()))
    assert [each.document for each in found.passages] == [3, 1]
    found = wide.write_prompt(SENTENCES[:2], "red", LocalText(letters()))
    assert found.text == GAP.join(SENTENCES[:2])


def test_documents_are_cut_once_for_many_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = []
    real = choosing.passages
    monkeypatch.setattr(choosing, "passages", lambda *a: cut.append(a) or real(*a))
    method = Reorder(budget=Budget(50), passage=len(SENTENCES[0]))

    def write(documents: list[str], question: str) -> PromptText:
        # As answers are asked for: each question has a reader of its own.
        return method.write_prompt(documents, question, LocalText(letters()))

    # Other documents than those that an earlier test had cut.
    first = write(SENTENCES[1:], "red")
    assert write(SENTENCES[1:], "B").passages[0].document == 0
    assert write(SENTENCES[1:], "red") == first and len(cut) == 1
    assert write(SENTENCES[2:], "red").passages[0].document == 1
    assert len(cut) == 2


def test_fewer_passages_fit_a_smaller_budget() -> None:
    method = Reorder(budget=Budget(50), passage=len(SENTENCES[0]))
    found = method.write_prompt(SENTENCES, "red", LocalText(letters()))
    assert [each.document for each in found.passages] == [3, 1]


def test_documents_within_the_budget_are_read_as_they_are() -> None:
    found = Reorder(budget=Budget(999)).write_prompt(SENTENCES, "red", LocalText(letters()))
    assert found.text == GAP.join(SENTENCES)


@pytest.mark.parametrize("question", ["?!", "Где кран?", "red"])
@pytest.mark.parametrize("text", ["x" * 99, "no end " * 20, "😀 é. Ünï!\r\n" * 12, "\n" * 99])
def test_any_text_is_cut_to_the_budget(text: str, question: str) -> None:
    method = Reorder(budget=Budget(30), passage=8)
    assert 0 < len(method.write_prompt([text, ""], question, LocalText(letters())).text) <= 30


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RecipeError, match="passage"):
        Reorder(passage=0)
    with pytest.raises(RecipeError, match="ends, rank"):
        Reorder(order="documents")
    with pytest.raises(RecipeError, match="k=-1"):
        Reorder(k=-1)
    with pytest.raises(RecipeError, match="encoder=/nowhere: this is no folder of an encoder"):
        Reorder(budget=Budget(9), encoder="/nowhere").write_prompt(
            SENTENCES, "red", LocalText(letters())
        )
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        Reorder(budget=Budget(1, "KB"))
