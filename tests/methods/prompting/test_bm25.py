"""bm25: the passages that share words with a question."""

from __future__ import annotations

import pytest

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting.bm25 import BM25
from lengthwise.methods.prompts import GAP
from lengthwise.testing.prompting import letters

FILL = "".join(f"Ship {n} left the harbour. " for n in range(20))
FACT = "The keeper's dog is called Bo. "
DOCUMENT = FILL + FACT + FILL
ASKED = "What is the dog called?"


def test_the_fact_is_read_and_its_place_is_known() -> None:
    method = BM25(budget=Budget(60), passage=32)
    found = method.write_prompt([DOCUMENT], ASKED, LocalText(letters()))
    assert any(FACT in each.text for each in found.passages) and found.question == ASKED
    assert all(DOCUMENT[each.start : each.stop] == each.text for each in found.passages)


def test_passages_are_read_in_the_order_of_the_documents() -> None:
    documents = ["Bo is a dog. Nothing here. ", "No. Nothing. ", "The dog Bo, a dog, barks. "]
    found = BM25(budget=Budget(27), passage=30).write_prompt(
        documents, "the dog Bo barks", LocalText(letters())
    )
    assert found.text == documents[2]
    found = BM25(budget=Budget(56), passage=30).write_prompt(
        documents, "the dog Bo barks", LocalText(letters())
    )
    assert found.text == documents[0] + GAP + documents[2]


def test_no_more_than_k_passages_are_read() -> None:
    documents = ["Bo is a dog. ", "No. Nothing. ", "The dog Bo, a dog, barks. "]
    for k, wanted in ((1, [2]), (2, [0, 2]), (3, [0, 1, 2])):
        found = BM25(budget=Budget(999), passage=30, k=k).write_prompt(
            documents, "the dog Bo barks", LocalText(letters())
        )
        assert [each.document for each in found.passages] == wanted


@pytest.mark.parametrize(
    ("documents", "question"),
    [
        (["船离开了港口。", "看守人的狗叫小波。"], "狗叫什么名字？"),
        (["जहाज़ बंदरगाह से निकला।", "कुत्ते का नाम बो है।"], "कुत्ते को क्या कहते हैं?"),
        (["Ships left the harbour.", "The cafe\u0301 is red."], "Which café?"),
    ],
)
def test_words_of_any_script_are_met(documents: list[str], question: str) -> None:
    documents = [documents[0], *documents, documents[0]]
    found = BM25(budget=Budget(24), passage=24, k=1).write_prompt(
        documents, question, LocalText(letters())
    )
    assert [each.document for each in found.passages] == [2] and not found.notes


@pytest.mark.parametrize("question", ["Где стоит кран?", "?!", "😀"])
def test_a_question_without_shared_words_reads_the_beginning(question: str) -> None:
    method = BM25(budget=Budget(60), passage=30)
    found = method.write_prompt([DOCUMENT], question, LocalText(letters()))
    assert found.passages[0].start == 0 and DOCUMENT.startswith(found.text) and found.question


@pytest.mark.parametrize(
    "document",
    ["no end at all " * 20, "x" * 300, "a.\r\n\r\nB é. 😀 Ünï! " * 20, "\n" * 200,
     "def f(x):\n    return x.y  # z\n" * 9],
)  # fmt: skip
def test_any_text_is_cut_to_the_budget(document: str) -> None:
    found = BM25(budget=Budget(50), passage=16).write_prompt(
        [document, "", " "], "what is x?", LocalText(letters())
    )
    assert 0 < len(found.text) <= 50
    assert all(document[p.start : p.stop] == p.text for p in found.passages if p.document == 0)


def test_documents_within_the_budget_are_read_as_they_are() -> None:
    found = BM25(budget=Budget(100, "%")).write_prompt(
        ["a\r\n", "", "é 😀"], "q", LocalText(letters())
    )
    assert found.text == "a\r\n" + GAP + GAP + "é 😀"


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        BM25(budget=Budget(1, "KB"))
    for options in ({"passage": 0}, {"b": 1.5}, {"k1": -1.0}):
        with pytest.raises(RecipeError, match=next(iter(options))):
            BM25(**options)  # type: ignore[arg-type]
