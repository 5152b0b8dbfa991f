"""Derivations that a model shortens, and those that no longer lead to their answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lengthwise.sequences.answers.base import Pair
from lengthwise.sequences.answers.compress import (
    FIELDS,
    FROM_NOTES,
    ShortenedPairs,
    asked,
    compressed,
    says,
)
from lengthwise.sequences.answers.pairs import read_pairs
from lengthwise.sequences.errors import SequenceError


class Scripted:
    """A model of text that says what it is told to, by the text that it is asked about."""

    name, trained_length = "scripted", 512

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers, self.questions = answers, list[str]()

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [(n, n + 1) for n in range(len(text))]

    def count(self, text: str) -> int:
        return len(text)

    def write(
        self, text: str, question: str, max_new_tokens: int,
        stream: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        self.questions.append(question)
        return self.answers[text]


@pytest.mark.parametrize(
    ("derivation", "answer", "wanted"),
    [
        ("3+4=7, 7*2=14", "14", True), ("3+4=7, 7*2=14", "4", True), ("7*2=14", "1", False),
        ("it is 3.5", "3.5", True), ("it is 3.5", "3", False), ("x = -2", "-2", True),
        ("x = -2", "2", False), ("9-2", "-2", False), ("9-2=7", "2", True), ("so (b)", "B", True),
        ("so New York it is", "new york", True), ("York, so New", "New York", False),
        ("a", "", False), ("a", "?", False), ("1,200 in all", "1,200", True),
        ("au cafe\u0301", "café", True), ("हिन्दी", "हिन्दी", True), ("हिन्दी", "हन्दा", False),
        ("他在北京市。", "北京", True), ("GPT4 it is", "gpt4", True),
    ],
)  # fmt: skip
def test_an_answer_is_said_whole(derivation: str, answer: str, wanted: bool) -> None:
    assert says(derivation, answer) is wanted


def test_a_short_derivation_is_shorter_and_still_says_its_answer() -> None:
    model = Scripted({
        "first 3 and 4 is 7": " 3+4=7 ", "first 3 and 5 is 8": "3+5",
        "1": "the answer is 1, as was said", "nothing": "",
    })  # fmt: skip
    pairs = [
        {"question": "q", "long": long, "answer": answer}
        for long, answer in (
            ("first 3 and 4 is 7", "7"), ("first 3 and 5 is 8", "8"), ("1", "1"), ("nothing", "0"),
        )
    ]  # fmt: skip
    assert list(compressed(pairs, model)) == [pairs[0] | {"short": "3+4=7"}]


def test_a_model_may_be_asked_where_notes_lead() -> None:
    model = Scripted({"a long derivation of 7": "notes: 7", "notes: 7": "It is 8."})
    pair = {"question": "How many?", "long": "a long derivation of 7", "answer": "7"}
    assert list(compressed([pair], model, entails=asked(model))) == []
    assert model.questions[-1] == f"How many?\n{FROM_NOTES}"
    model.answers["notes: 7"] = "7"
    assert len(list(compressed([pair], model, entails=asked(model)))) == 1


PAIRS = [{"question": "q", "long": f"first {n} and then {n}", "answer": str(n)} for n in range(5)]
JOB = {"model": "m", "asked": False}


class Killed(Exception):
    """What ends a job in its middle."""


def halved(pair: Pair) -> list[Pair]:
    """Those with an even answer."""
    return [] if int(pair["answer"]) % 2 else [{**pair, "short": pair["answer"]}]


def test_a_job_that_was_killed_goes_on_behind_its_last_line(tmp_path: Path) -> None:
    seen: list[str] = []

    def shorten(pair: Pair) -> list[Pair]:
        seen.append(pair["answer"])
        if seen.count("3") == 1 and seen[-1] == "3":
            raise Killed
        return halved(pair)

    out = tmp_path / "out.jsonl"
    with pytest.raises(Killed):
        ShortenedPairs(out, PAIRS, JOB).fill(shorten)
    with out.open("ab") as file:
        file.write(b'{"pair": 4, "mod')
    again = ShortenedPairs(out, PAIRS, JOB)
    again.fill(shorten)
    assert seen == ["0", "1", "2", "3", "3", "4"] and (again.done, again.kept) == (5, 3)
    # The file is what `--method c3ot` reads.
    assert [each["short"] for each in read_pairs(out, (*FIELDS, "short"))] == ["0", "2", "4"]
    once = tmp_path / "once.jsonl"
    ShortenedPairs(once, PAIRS, JOB).fill(halved)
    assert once.read_bytes() == out.read_bytes()


def test_a_model_that_shortens_nothing_leaves_no_file(tmp_path: Path) -> None:
    file = ShortenedPairs(tmp_path / "out.jsonl", PAIRS, JOB)
    file.fill(lambda pair: [])
    assert (file.done, file.kept) == (5, 0) and not list(tmp_path.iterdir())


def test_a_file_of_others_is_refused_and_begun_anew_by_force(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ShortenedPairs(out, PAIRS, JOB).fill(halved)
    others = {"model": "n"}, {"asked": True}
    for other in others:
        with pytest.raises(SequenceError, match=f"another {next(iter(other))}"):
            ShortenedPairs(out, PAIRS, {**JOB, **other})
    with pytest.raises(SequenceError, match="other pairs"):
        ShortenedPairs(out, PAIRS[::-1], JOB)
    with pytest.raises(SequenceError, match="line 3 is damaged"):
        ShortenedPairs(out, PAIRS[:3], JOB)
    out.write_bytes(b"[" * 9000 + b"\n")
    with pytest.raises(SequenceError, match="line 1 is damaged"):
        ShortenedPairs(out, PAIRS, JOB)
    ShortenedPairs(out, PAIRS[::-1], {"model": "n"}, force=True).fill(halved)
    assert len(read_pairs(out, (*FIELDS, "short"))) == 3
