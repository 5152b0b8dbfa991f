"""CharBench: questions about the characters of a word.

Uzan and Pinter, "CharBench: Evaluating the Role of Tokenization in Character-Level Tasks", AAAI
2026, arXiv:2508.02591. The published table has 175,000 questions: 6,250 words of each length from
4 to 10 a task. A task is a value of its column `task`:

    count_unique_chars         distinct characters of a word
    count_character_frequency  how often a character stands in it
    find_first_occurrence      the place of its first occurrence, counted from 0
    find_last_occurrence       the place of its last

A reply that is a whole number and nothing else is compared; any other is wrong. `first_number` is
ours, and compares the first number of a reply, whatever stands around it. `questions` makes
such rows of one's own words, in the paper's wording: what its data was made with, but for the words
and their draw.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import Any, ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.tasks.benchmark import Sample
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    NEEDLE_LIKE,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import number_in, text_in

MOST = 32
_WHOLE = re.compile(r"-?[0-9]+")
_ASK = (
    "Answer this question only with the final number, without any other text. Lower case and upper "
    "case letters are considered different characters.\n\nQuestion: {question}"
)
_FROM_0 = "\nStart counting from 0."
_QUESTIONS = {
    "count_unique_chars": "How many unique characters appear in the string '{word}'?",
    "count_character_frequency":
        "How many times does the character '{character}' appear in the string '{word}'?",
    "find_first_occurrence": "What is the index of the first occurrence of the character "
        "'{character}' in the string '{word}'?" + _FROM_0,
    "find_last_occurrence": "What is the index of the last occurrence of the character "
        "'{character}' in the string '{word}'?" + _FROM_0,
}  # fmt: skip


@dataclass(frozen=True)
class CharBench(PublishedBenchmark):
    """CharBench's four tasks."""

    name: ClassVar[str] = "charbench"
    paper: ClassVar[Paper] = Paper(
        "CharBench: Evaluating the Role of Tokenization in Character-Level Tasks",
        "Uzan and Pinter", 2026, arxiv="2508.02591", venue="AAAI",
        code="https://github.com/omriuz/CharBench",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Any]] = dict.fromkeys(_QUESTIONS, NEEDLE_LIKE)

    def source(self, task: str) -> Source:
        """One table of all tasks."""
        return Source(
            ("benchmark_english.csv", "benchmark.csv", "charbench.csv", "charbench.jsonl"),
            ("question", "answer", "word", "task"), "omriuz/CharBench", split="train",
        )  # fmt: skip

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row of the task is a sample."""
        if text_in(row, "task") != task:
            return
        facts = {"word": text_in(row, "word"), "character": row.get("character") or ""}
        right = (str(number_in(row, "answer")),)
        yield Sample("", _ASK.format(question=text_in(row, "question")), right, MOST, facts=facts)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """Whether the reply is the number, whether it is one, whether its first one is right."""
        right = int(sample.references[0])
        first = _WHOLE.search(said)
        named = float(first is not None and int(first[0]) == right)
        try:
            found = int(said.strip())
        except ValueError:
            return {"right": 0.0, "number": 0.0, "first_number": named}
        return {"right": float(found == right), "number": 1.0, "first_number": named}


def questions(words: Seq[str], seed: int = 42) -> Iterator[dict[str, str]]:
    """Rows as they are published, of words that are given: a word has one question.

    Args:
        words: each once, for the tasks have different ones; the first quarter is the first task's.
        seed: of the characters that are asked for.
    """
    draw, share = random.Random(seed), len(words) // len(_QUESTIONS)
    for number, (task, text) in enumerate(_QUESTIONS.items()):
        for word in words[number * share : (number + 1) * share]:
            # Over places, so that what stands twice is asked for twice as often.
            character = "" if task == "count_unique_chars" else draw.choice(word)
            yield {
                "question": text.format(word=word, character=character),
                "answer": str(_answer(task, word, character)),
                "word": word, "character": character, "task": task,
            }  # fmt: skip


def _answer(task: str, word: str, character: str) -> int:
    if task == "count_unique_chars":
        return len(set(word))
    if task == "count_character_frequency":
        return word.count(character)
    return word.index(character) if task == "find_first_occurrence" else word.rindex(character)


__all__ = ["MOST", "CharBench", "questions"]
