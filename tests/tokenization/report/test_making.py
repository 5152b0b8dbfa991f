"""A whole report, on tiny tokenizers and sound and broken ones side by side."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models

from lengthwise.documents.document import Document
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.opened import Fast
from lengthwise.tokenization.report import Parallel, Question, report
from lengthwise.tokenization.report.identifiers import identifiers_in, style_of
from lengthwise.tokenization.report.round_trip import random_unicode, round_trip
from lengthwise.tokenization.report.turkish import Lexicon
from tests.tiny_tokenizers import byte_fallback, byte_level

DOCUMENTS = [Document("a.txt", "the cat saw the dog"), Document("b.txt", "日本 12")]
PARALLEL = Parallel("x", {"en": ["the cat"], "tr": ["kedi"]})


def byte(name: str = "bytes") -> Fast:
    return Fast(name, byte_level().backend_tokenizer, byte_level().eos_token_id)


def broken() -> Fast:
    """One that has lost its decoder."""
    made = json.loads(byte_level().backend_tokenizer.to_str()) | {"decoder": None}
    return Fast("broken", Tokenizer.from_str(json.dumps(made)), None)


def test_figures_of_texts_are_of_totals() -> None:
    question = Question(DOCUMENTS, prices={"bytes": 2.0})
    text = report([byte()], question).tokenizers[0].text
    # Every byte is a token, and of Chinese every character is a word.
    assert text.documents == 2 and text.bytes == 19 + 9 and text.characters == 19 + 5
    assert text.words == 5 + 2 + 1 and text.tokens == 28
    assert text.bytes_per_token == 1.0 and text.fertility == 3.5
    assert text.words_per_token == pytest.approx(2 / 7)
    assert text.tokens_per_character == pytest.approx(7 / 6)
    assert text.cost(2.0) == pytest.approx(14 * 2e-6)


def test_sound_and_broken_stand_side_by_side() -> None:
    lexicon = Lexicon("mine", frozenset({"k"}))
    question = Question(DOCUMENTS, PARALLEL, None, ["kedi"], lexicon)
    found = report([byte(), broken(), byte()], question)
    assert [each.name for each in found.tokenizers] == ["bytes (1)", "broken", "bytes (2)"]
    sound, odd, _ = found.tokenizers
    assert sound.on_text.failed == sound.on_random.failed == 0 and sound.turkish is not None
    assert sound.turkish.tr == 25 and sound.languages[1].tokens == 4
    assert odd.on_text.failed > 0 and odd.vocabulary is None and odd.end is None
    assert "it names no end token" in odd.notes and odd.on_text.examples
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["reference"] == "en" and record["tokenizers"][0]["turkish"]["tr"] == 25
    assert record["tokenizers"][0]["text"]["fertility"] == 3.5


def test_causes_of_what_does_not_come_back() -> None:
    class Shouts(Fast):
        def decode(self, ids: object) -> str:
            return super().decode(ids).upper()  # type: ignore[arg-type]

    class Plain(Fast):
        def decode(self, ids: object) -> str:
            return "\n".join(super().decode(ids).splitlines())  # type: ignore[arg-type]

    class Raises(Fast):
        def decode(self, ids: object) -> str:
            raise RuntimeError("no way\nback")

    backend = byte_level().backend_tokenizer
    assert round_trip(Shouts("x", backend, None), ["abc"]).causes == {"case": 1}
    found = round_trip(Plain("x", backend, None), ["a\r\nb", "a\rb", "a\nb"])
    assert (found.failed, found.causes) == (2, {"line ends": 2})
    found = round_trip(Raises("x", backend, None), ["abc", "d"])
    assert found.failed == 2 and found.causes == {"the decoder raises RuntimeError: no way": 2}
    lost = round_trip(Fast("x", byte_fallback().backend_tokenizer, None), [" x", "x"])
    assert lost.failed == 1 and lost.causes == {"spaces at an end": 1}
    ends = {"one\r\ntwo\r\n", "one\rtwo\r"}
    assert ends < set(random_unicode(1)) and len(set(random_unicode(1))) > 250
    assert random_unicode(1) == random_unicode(1)


def test_one_that_cannot_encode_is_refused_in_a_line() -> None:
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))
    with pytest.raises(TokenizerError, match="words cannot encode these texts") as error:
        report([Fast("words", words, None)], Question(DOCUMENTS))
    assert "\n" not in str(error.value)


def test_a_price_of_none_of_them_is_refused() -> None:
    with pytest.raises(TokenizerError, match="a price for 'byte'.*did you mean 'bytes'"):
        report([byte()], Question(DOCUMENTS, prices={"byte": 1.0}))


def test_identifiers_by_style() -> None:
    assert identifiers_in("def run_it(x, valueOf): return None") == {"run_it", "valueOf"}
    styles = {name: style_of(name) for name in ("run_it", "valueOf", "TestCase", "_MAX", "self")}
    assert list(styles.values()) == [
        "snake_case", "camelCase", "PascalCase", "UPPER_CASE", "one word"
    ]  # fmt: skip
