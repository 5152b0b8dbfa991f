"""crag: clusters of texts, and what is read of each."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting.crag import CRAG
from lengthwise.methods.prompts import GAP
from lengthwise.testing.prompting import letters
from tests.methods.prompting.noting import Noting

# Reviews on topics of letters of their own, which an encoder of letters tells apart.
TOPICS = ("abcd", "mnop", "WXYZ")


def reviews(each: int = 20) -> list[str]:
    draws = random.Random(0)
    texts = ["".join(draws.choices(topic, k=24)) + ". " for topic in TOPICS for _ in range(each)]
    draws.shuffle(texts)
    return texts


def crag(**options: Any) -> CRAG:
    return CRAG(encoder=CRAG.example().encoder, **options)


def topics(text: str) -> set[str]:
    return {topic for topic in TOPICS if set(topic) & set(text)}


@pytest.mark.parametrize("k", [0, 3])
def test_the_nearest_sentences_have_every_topic_in_a_fifth_of_the_text(k: int) -> None:
    documents, model = reviews(), LocalText(letters())
    method = crag(budget=Budget(10, "%"), k=k, summary="nearest")
    found = method.write_prompt(documents, "How is it?", model)
    assert topics(found.text) == set(TOPICS) and found.question == "How is it?"
    assert model.count(found.text) < 0.2 * model.count(GAP.join(documents))
    assert all(documents[p.document or 0][p.start : p.stop] == p.text for p in found.passages)
    places = [each.document for each in found.passages]
    assert places == sorted(places, key=lambda n: n or 0)


def test_a_cluster_is_summarised_by_the_model() -> None:
    model = Noting(lambda text: "".join(sorted(topics(text))) + " summed up", 2000)
    found = crag(budget=Budget(12), k=3).write_prompt(reviews(), "q?", model)
    assert sorted(found.text.split(GAP)) == sorted(f"{topic} summed up" for topic in TOPICS)
    # Each is shown the texts of one topic, without the question.
    assert [len(topics(text)) for text, _, _ in model.asked] == [1, 1, 1]
    assert not any("q?" in asked for _, asked, _ in model.asked)
    assert all(each.document is None for each in found.passages)


def test_a_long_cluster_is_summarised_in_parts() -> None:
    model = Noting(lambda text: "one two three four")
    method = crag(budget=Budget(15), k=3, chunk=10, note=4)
    found = method.write_prompt(reviews(), "q?", model)
    shown = [text for text, asked, _ in model.asked if asked.startswith("Above are texts")]
    assert len(shown) > 3 and all(model.count(text) <= 10 for text in shown)
    assert any(asked.startswith("Above are summaries") for _, asked, _ in model.asked)
    assert 0 < model.count(found.text) <= 15


def test_where_nothing_is_written_the_prompt_says_so() -> None:
    found = crag(budget=Budget(9), k=2).write_prompt(reviews(), "q?", Noting(lambda text: "", 2000))
    assert found.text == "The documents say nothing about it."


def test_one_document_is_clustered_by_its_passages() -> None:
    text = "".join(reviews(4))
    method = crag(budget=Budget(90), k=3, passage=30, summary="nearest")
    found = method.write_prompt([text], "q?", LocalText(letters()))
    assert topics(found.text) == set(TOPICS)
    assert all(text[each.start : each.stop] == each.text for each in found.passages)


@pytest.mark.parametrize("documents", [["x" * 90], ["é 😀. Ünï!\r\n" * 9, ""], [" \n" * 50, "\t"]])
@pytest.mark.parametrize("summary", ["model", "nearest"])
def test_any_text_is_cut_to_the_budget(documents: list[str], summary: str) -> None:
    method = crag(budget=Budget(30), passage=16, summary=summary)
    found = method.write_prompt(documents, "Где?", LocalText(letters()))
    assert 0 < len(found.text) <= 30


def test_what_cannot_run_is_refused() -> None:
    model = LocalText(letters())
    with pytest.raises(Refused, match="crag compares vectors, and no encoder is given"):
        CRAG(budget=Budget(9)).write_prompt(reviews(), "q", model)
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        crag(budget=Budget(1, "KB"))
    with pytest.raises(Refused, match="texts and a summary are 6,128 tokens"):
        crag(budget=Budget(9), chunk=6000).write_prompt(reviews(), "q", model)
    with pytest.raises(RecipeError, match="does nothing without summary=model"):
        crag(summary="nearest", chunk=512)
    with pytest.raises(RecipeError, match="chunk=100 does not hold two such notes"):
        crag(chunk=100)
