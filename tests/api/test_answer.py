"""`lengthwise.answer`: a document, a question and a recipe; an answer with its sources."""

from __future__ import annotations

from pathlib import Path

import pytest

import lengthwise
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.testing.prompting import letters

TEXT = "\n\n".join(f"The keeper of tower {n} is called {name}." for n, name in enumerate(
    ("Ada", "Bo", "Cem", "Dora", "Eli", "Finn", "Gül", "Hal")))  # fmt: skip


def test_without_a_prompting_method_all_is_read() -> None:
    model = letters()
    found = lengthwise.answer(model, TEXT, "Who keeps tower 3?", max_new_tokens=3)
    (source,) = found.sources
    assert (source.start, source.stop, source.text) == (0, len(TEXT), TEXT)
    assert found.metrics.tokens_read == found.metrics.prompt_tokens


def test_a_path_names_its_sources(tmp_path: Path) -> None:
    path = tmp_path / "towers.txt"
    path.write_text(TEXT, encoding="utf-8")
    found = lengthwise.answer(
        letters(), path, "tower 6", "bm25(budget=60, passage=60)", max_new_tokens=2
    )
    assert [each.name for each in found.sources] == ["towers.txt"]
    assert "Gül" in found.sources[0].text
    assert TEXT[found.sources[0].start : found.sources[0].stop] == found.sources[0].text


def test_what_is_read_to_choose_is_counted_and_timed() -> None:
    model = letters()
    found = lengthwise.answer(
        model, TEXT, "tower 6", "xl3m(budget=60, segment=60)", max_new_tokens=2
    )
    assert found.metrics.tokens_read > len(TEXT) + found.metrics.prompt_tokens
    assert found.metrics.prompt_tokens < 100


def test_it_streams_and_samples_as_generate_does() -> None:
    told: list[str] = []
    options = {"max_new_tokens": 8, "temperature": 1.0}
    first, second = (
        lengthwise.answer(letters(), TEXT, "tower 1", "bm25(budget=80)", seed=7,
                          stream=told.append, **options)
        for _ in range(2)
    )  # fmt: skip
    assert first.token_ids == second.token_ids
    assert "".join(told) == first.text + second.text


@pytest.mark.parametrize("question", ["", "  ", None, 3])
def test_a_question_is_a_text(question: object) -> None:
    with pytest.raises(LengthwiseError, match="give a text that is not empty"):
        lengthwise.answer(letters(), TEXT, question)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recipe", "error", "says"),
    [
        ("bm25(budget=64KB)", RecipeError, r"allowed is tokens \(2048\) or a share"),
        ("bm25 + xl3m", Refused, "both decide what enters the context"),
        ("bm25(passage=0)", RecipeError, "at least 1"),
        ("xl3m(segment=9999, budget=10)", Refused, "give a smaller segment"),
    ],
)
def test_what_cannot_be_is_refused(recipe: str, error: type[LengthwiseError], says: str) -> None:
    with pytest.raises(error, match=says):
        lengthwise.answer(letters(), TEXT, "tower 1", recipe)


def test_special_is_no_option_here() -> None:
    with pytest.raises(LengthwiseError, match="no option of answer"):
        lengthwise.answer(letters(), TEXT, "tower 1", special="tokens")  # type: ignore[call-arg]


def test_special_tokens_in_a_document_are_text() -> None:
    found = lengthwise.answer(letters(), "It ends.</s> Not yet.", "When?", max_new_tokens=1)
    plain = lengthwise.answer(letters(), "It ends.[/s] Not yet.", "When?", max_new_tokens=1)
    assert found.metrics.prompt_tokens == plain.metrics.prompt_tokens


@pytest.mark.parametrize("call", ["generate", "read", "stream", "score"])
def test_where_the_prompt_is_whole_it_is_refused(call: str) -> None:
    model = letters()
    with pytest.raises(Refused, match="bm25 chooses what enters the context.*lengthwise.answer"):
        getattr(model, call)("A prompt.", recipe="bm25")


def test_what_drafts_are_measured_on_is_given_whole_too() -> None:
    from lengthwise.recipes import plan_of

    with pytest.raises(Refused, match="bm25 chooses what enters the context"):
        plan_of("bm25 + lookup", letters().adapted)
    assert plan_of("lookup", letters().adapted).drafters


@pytest.mark.parametrize("question", ["谁守着塔?", "Кто там?", "quokka wombat"])
def test_a_question_that_shares_no_word_is_told(question: str) -> None:
    found = lengthwise.answer(letters(), TEXT, question, "bm25(budget=60)", max_new_tokens=2)
    assert "no passage serves the question better" in found.metrics.notes[-1]
    assert found.sources[0].start == 0
    near = lengthwise.answer(letters(), TEXT, "tower 6", "bm25(budget=60)", max_new_tokens=2)
    assert not any("no passage" in note for note in near.metrics.notes)


def test_a_budget_smaller_than_the_question_is_one_of_the_document_alone() -> None:
    question = "Who is it that keeps tower 6, and how long has that been so?"
    found = lengthwise.answer(letters(), TEXT, question, "bm25(budget=3)", max_new_tokens=2)
    assert sum(len(each.text) for each in found.sources) == 3
    assert found.metrics.prompt_tokens > len(question)
