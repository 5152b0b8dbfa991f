"""Planted questions: facts stand in the document once, and questions have their answers."""

from __future__ import annotations

import pytest

from lengthwise.documents.document import Document
from lengthwise.documents.folders import document_from
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.scorers.matching import plain_words
from lengthwise.evaluation.tasks.planted import KINDS, MOST, planted

COUNT = 60
SMALL_WORDS = {"is", "was", "in", "to", "of", "did"}


def test_every_question_has_its_evidence_once_and_an_answer_in_it() -> None:
    document, asked = planted(document_from(None), COUNT)
    assert len(asked) == COUNT == len({each.question for each in asked})
    assert {each.kind for each in asked} == set(KINDS)
    for each in asked:
        spans = each.located(document)
        read = " ".join(" ".join(document.text[a:b] for a, b in spans).split())
        assert len(spans) == {"several": 3, "hop": 2}.get(each.kind, 1)
        if each.kind != "several":
            assert each.answers[0] in read


def test_nothing_of_the_document_is_lost_and_seeds_differ() -> None:
    plain = document_from(None)
    document, asked = planted(plain, 20, seed=3)
    text = document.text
    for sentence in (e.text for each in asked if each.kind != "copied" for e in each.evidence):
        assert sentence is not None
        text = text.replace(sentence, "")
    assert text.split() == plain.text.split()
    assert planted(plain, 20, seed=3) == (document, asked) != planted(plain, 20, seed=4)


def test_a_reworded_question_shares_no_word_of_weight_with_its_fact() -> None:
    _, asked = planted(Document("d", "A line. " * 50), MOST, kinds=["reworded"])
    for each in asked:
        fact = set(plain_words(str(each.evidence[0].text)))
        assert not (fact & set(plain_words(each.question))) - SMALL_WORDS


def test_what_cannot_be_had_is_refused() -> None:
    short = Document("d", "One line. Two lines.")
    for count in (0, MOST * len(KINDS) + 1):
        with pytest.raises(LengthwiseError, match="planted questions: allowed are 1 to 200"):
            planted(short, count)
    for kinds in ([], ["keys"], ["key", "key"]):
        with pytest.raises(LengthwiseError, match="kinds="):
            planted(short, 1, kinds=kinds)
    with pytest.raises(DocumentError, match="0 sentences of 14 to 40 words"):
        planted(short, 5)
