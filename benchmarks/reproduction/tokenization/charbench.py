"""CharBench at little size: questions on words of our own, asked of the embedded model."""

from __future__ import annotations

import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from random import Random

from benchmarks.reproduction.books import gutenberg
from benchmarks.reproduction.harness import Found, Note, check, encode, load

from lengthwise.evaluation.runs.replies import replies_of
from lengthwise.evaluation.tasks.benchmark import Sample, Task, Wanted, tasks_of
from lengthwise.evaluation.tasks.published.charbench import questions

LENGTHS = range(4, 11)


@check(
    {"task": "", "questions": "d", "right": ".1f", "numbers": ".1f", "first number": ".1f",
     "always 1": ".1f", "always the likeliest": ".1f"},
    correlation={"task": "", "word length": ".2f", "answer": ".2f", "tokens": ".2f",
                 "characters a token": ".2f", "length of the token asked for": ".2f"},
)  # fmt: skip
def charbench(count: int = 105) -> Iterator[Found]:
    """Percent right of the embedded model a task, beside replies that read nothing; and how a right
    reply correlates with what the paper looked at."""
    model = load("float32")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "charbench.jsonl"
        rows = list(questions(words(4 * count)))
        path.write_text("".join(dumps(row) + "\n" for row in rows), encoding="utf-8")
        wanted = Wanted(4096, count, 0, lambda text: len(encode(model, text)), "")
        for task in tasks_of(f"charbench(data={path})"):
            yield from _of(task, task.samples(wanted))
    yield Note({"words": 4 * count, "of each length": count // len(LENGTHS)})


def words(count: int) -> list[str]:
    """Words of the books, as many of each length from 4 to 10, shuffled."""
    by_length = defaultdict(set)
    for word in re.findall(r"\b[a-zA-Z]+\b", gutenberg()):
        by_length[len(word)].add(word)
    draw = Random(42)
    found = [
        word for size in LENGTHS
        for word in draw.sample(sorted(by_length[size]), -(-count // len(LENGTHS)))
    ]  # fmt: skip
    draw.shuffle(found)
    return found[:count]


def _of(task: Task, samples: list[Sample]) -> Iterator[Found]:
    model = load("float32")
    assert model.tokenizer is not None
    replies = list(replies_of(model, "full").of(samples))
    scores = [task.score(each.said, s) for each, s in zip(replies, samples, strict=True)]
    right = [each["right"] for each in scores]
    named = [each["first_number"] for each in scores]
    answers = [int(each.references[0]) for each in samples]
    usual = statistics.mode(answers)
    yield {
        "task": task.name, "questions": len(samples), "right": 100 * statistics.fmean(right),
        "numbers": 100 * statistics.fmean(each["number"] for each in scores),
        "first number": 100 * statistics.fmean(named),
        "always 1": 100 * answers.count(1) / len(answers),
        "always the likeliest": 100 * answers.count(usual) / len(answers),
    }  # fmt: skip
    looked: dict[str, list[float]] = defaultdict(list)
    for sample, answer in zip(samples, answers, strict=True):
        word, letter = str(sample.facts["word"]), str(sample.facts["character"])
        # As it stands in the question, behind a quotation mark.
        spans = model.tokenizer(word, add_special_tokens=False, return_offsets_mapping=True)
        cuts = spans["offset_mapping"]
        place = word.rfind(letter) if "last" in task.name else word.find(letter)
        held = next((b - a for a, b in cuts if a <= place < b), 0) if letter else 0
        looked["word length"].append(len(word))
        looked["answer"].append(answer)
        looked["tokens"].append(len(cuts))
        looked["characters a token"].append(len(word) / len(cuts))
        looked["length of the token asked for"].append(held)
    yield "correlation", {
        "task": task.name, **{name: _pearson(named, each) for name, each in looked.items()},
    }  # fmt: skip


def _pearson(a: list[float], b: list[float]) -> float | None:
    """The correlation; None where one of them is always the same."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return statistics.correlation(a, b)


__all__ = ["charbench", "words"]
