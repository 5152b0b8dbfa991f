"""Derivations that a model shortens, and those that no longer lead to their answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lengthwise.sequences.answers.compress import FROM_NOTES, asked, compressed, says


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
