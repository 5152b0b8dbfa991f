"""Texts that follow a grammar: whole, in every way of writing, and refused where none can."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

import lengthwise
from lengthwise.errors import ConstraintError, RecipeError, Refused
from lengthwise.methods.decoding.grammar import Grammar
from lengthwise.recipes import parse
from lengthwise.testing import decoders
from lengthwise.testing.tiny import tiny_model
from tests.knows import knowing
from tests.methods.decoding.law_models import written_model

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "ages": {"type": "array", "items": {"type": "integer", "maximum": 99}, "maxItems": 2},
        "kind": {"enum": ["cat", "cattle"]},
    },
    "required": ["name", "ages", "kind"],
    "additionalProperties": False,
}
PROMPT = "Say it as JSON:"


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return written_model()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("beside", ["full", "streaming(sinks=2, window=16)", "lookup"])
def test_a_schema_is_followed_to_its_end(model, beside: str, temperature: float) -> None:
    recipe = [*parse(beside).methods, Grammar.of(SCHEMA, spaces="none")]
    asked = {"temperature": temperature, "seed": 3, "max_new_tokens": 200}
    found = model.generate(PROMPT, recipe, **asked)
    jsonschema.validate(json.loads(found.text), SCHEMA)
    assert found.metrics.finish_reason == "stop" and not found.metrics.notes
    if beside == "lookup":
        plain = model.generate(PROMPT, [Grammar.of(SCHEMA, spaces="none")], **asked)
        assert plain.token_ids == found.token_ids


@pytest.mark.parametrize("recipe, pattern", [
    (r'grammar(regex="[ab]{3}-[0-9]{2}")', r"[ab]{3}-[0-9]{2}"),
    ('grammar(choice="yes|no|may\\\\|be")', r"yes|no|may\|be"),
    ('grammar(ebnf="start: (\\"x\\" | \\"y\\")~3")', r"[xy]{3}"),
    ('grammar(ebnf="root ::= \\"u\\" [0-9] [0-9]?")', r"u[0-9]{1,2}"),
    ('grammar(regex="é日")', "é日"),
])  # fmt: skip
def test_other_grammars(model, recipe: str, pattern: str) -> None:
    for seed in range(4):
        found = model.generate(PROMPT, recipe, temperature=1.0, seed=seed, max_new_tokens=40)
        assert re.fullmatch(pattern, found.text), found.text
        assert str(parse(str(parse(recipe)))) == str(parse(recipe))


def test_files(model, tmp_path: Path) -> None:
    schema, rules = tmp_path / "schema.json", tmp_path / "rules.lark"
    schema.write_text(json.dumps({"enum": ["one", 2]}), "utf-8")
    rules.write_text('start: greeting "!"\ngreeting: "hi" | "ho"\n', "utf-8")
    assert json.loads(model.generate(PROMPT, f'grammar(json="{schema}")').text) in ("one", 2)
    assert model.generate(PROMPT, f'grammar(ebnf="{rules}")').text in ("hi!", "ho!")


def test_the_end_is_allowed_only_where_the_text_may_end(model) -> None:
    law = Grammar(regex="a{2,3}").start_law(model.adapted)
    law.begin(None, None, 9, [256])  # type: ignore[arg-type]
    ends = [law.allowed(300, [97] * count)[256].item() for count in range(3)]
    assert ends == [False, False, True] and not law.ends([97, 97]) and law.ends([97] * 3)
    # A token of the text that the user has stop there, too.
    law.begin(None, None, 9, [97])  # type: ignore[arg-type]
    assert [law.allowed(300, [97] * count)[97].item() for count in (2,)] == [True]
    with pytest.raises(ConstraintError, match="nothing may follow token 0"):
        law.allowed(300, [])


@pytest.mark.parametrize("check", [
    decoders.check_law_by_path, decoders.check_decoder_batch,
])  # fmt: skip
def test_laws_of_decoders(model, check) -> None:
    check(Grammar, model.adapted)


LONG = {
    "type": "object",
    "properties": {
        "text": {"type": "string"}, "count": {"type": "integer"},
        "list": {"type": "array", "items": {"type": "string", "minLength": 2}, "minItems": 2},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
    },
    "required": ["text", "count", "list", "next"],
    "additionalProperties": False,
}  # fmt: skip


@pytest.mark.parametrize("spaces", ["any", "none"])
def test_json_comes_to_its_end_in_time(model, spaces: str) -> None:
    """Random bytes never end a string by themselves."""
    ended = 0
    for seed in range(3):
        found = model.generate(PROMPT, [Grammar.of(LONG, spaces=spaces)], temperature=1.0,
                               seed=seed, max_new_tokens=120)  # fmt: skip
        jsonschema.validate(json.loads(found.text), LONG)
        ended += any("was brought to its end" in note for note in found.metrics.notes)
    assert ended
    left = Grammar.of(LONG, spaces=spaces, finish=False)
    found = model.generate(PROMPT, [left], temperature=1.0, max_new_tokens=120)
    assert found.metrics.finish_reason == "length"
    short = model.generate(PROMPT, [Grammar.of(LONG)], max_new_tokens=20)
    assert any("is not whole" in note for note in short.metrics.notes)


def test_a_text_that_is_broken_off_says_so(model) -> None:
    found = model.generate(PROMPT, 'grammar(ebnf="start: \\"a\\" start")', max_new_tokens=6)
    assert found.text == "aaaaaa" and found.metrics.finish_reason == "length"
    assert any("not whole: max_new_tokens=6" in note for note in found.metrics.notes)


WRONG = {
    "grammar": "grammar needs a grammar",
    'grammar(regex="a", choice="b")': "regex and choice are several grammars",
    'grammar(regex="[a-z")': "unclosed character class",
    'grammar(regex="a(?!b)")': "look-around",
    'grammar(regex="[^\\\\x00-\\\\U0010FFFF]")': "no text satisfies this grammar",
    'grammar(regex="a", spaces=none)': "does nothing without json",
    'grammar(choice="a||b")': "one of the texts is empty",
    "grammar(json=absent.json)": "there is no such file",
    "grammar(json=.)": "cannot be read",
    'grammar(json="{")': "its text is no JSON",
    'grammar(json="{\\"type\\": \\"objekt\\"}")': "Invalid type: objekt",
    'grammar(json="{\\"type\\": \\"string\\", \\"minLength\\": 5, \\"maxLength\\": 2}")':
        "Unsatisfiable schema",
    'grammar(json="false")': "Unsatisfiable schema",
    'grammar(json="{\\"not\\": {\\"type\\": \\"string\\"}}")': "Unimplemented keys",
    "grammar(ebnf=absent.lark)": "there is no such file",
    'grammar(ebnf="start: foo")': "unknown name",
    'grammar(ebnf="root ::= (")': "cannot be read",
}  # fmt: skip


@pytest.mark.parametrize("recipe", WRONG)
def test_bad_grammars_are_refused_before_anything_is_read(model, recipe: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(WRONG[recipe])) as caught:
        model.plan(recipe)
    # A second line points at the place in the recipe, where it was its text that is wrong.
    assert str(caught.value).count("\n") <= 2 and len(str(caught.value)) < 300


def test_a_file_that_holds_no_schema(model, tmp_path: Path) -> None:
    for text in ("[1]", "3", "{]", "\xff"):
        path = tmp_path / "schema.json"
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(RecipeError, match="schema|read"):
            model.plan(f'grammar(json="{path}")')


def test_without_a_tokenizer_it_is_refused() -> None:
    bare = lengthwise.wrap(tiny_model("llama"))
    with pytest.raises(Refused, match="has no tokenizer"):
        bare.plan('grammar(regex="a")')


def test_without_the_library_it_says_what_to_install(model, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(RecipeError, match=re.escape("pip install 'lengthwise[grammar]'")):
        model.plan('grammar(regex="a")')


def test_a_regex_that_explodes_ends_in_time(model) -> None:
    recipe = r'grammar(regex="(.*a.{30}){3}(x{1,900}){1,900}")'
    try:
        found = model.generate(PROMPT, recipe, max_new_tokens=40, temperature=1.0)
    except (ConstraintError, RecipeError) as error:
        assert "grammar" in str(error)
    else:
        assert len(found.token_ids) == 40


def test_what_is_forced_is_guessed(model) -> None:
    """Keys of a schema that leaves no choice about them cost no step of their own."""
    schema = {"type": "object", "properties": {"temperature": {"enum": [1, 2]}},
              "required": ["temperature"], "additionalProperties": False}  # fmt: skip
    method = Grammar.of(schema, spaces="none")
    law = method.start_law(model.adapted)
    assert bytes(law.forced([])) == b'{"temperature":' and not law.forced([1])
    drafted = model.generate(PROMPT, [*parse("lookup + fixed(nodes=16)").methods, method])
    plain = model.generate(PROMPT, [method])
    assert drafted.token_ids == plain.token_ids
    assert drafted.metrics.accepted["forced"] >= 10
    assert drafted.metrics.steps < plain.metrics.steps / 2


def test_what_a_program_holds() -> None:
    assert Grammar.of(choice=["a|b", "c\\"]) == Grammar(choice="a\\|b|c\\\\")
    for wrong in ({}, {"regex": "a", "choice": ["b"]}, {"choice": []}, {"choice": [1]},
                  {"regex": ""}, {"schema": [1]}, {"schema": {"a": {1}}}):  # fmt: skip
        with pytest.raises(RecipeError):
            Grammar.of(**wrong)


@pytest.mark.parametrize("recipe", [
    'grammar(choice="yes|no")', r'grammar(regex="[ab]{3}-[0-9]{2}")',
    'length(max_sentences=1)', 'length(max_words=2)',
])  # fmt: skip
@pytest.mark.parametrize("stops", [True, False])
def test_a_text_that_is_guessed_to_its_end_and_on_is_the_same(
    model, recipe: str, stops: bool
) -> None:
    end = model.tokenizer.eos_token_id
    asked = {"max_new_tokens": 60, "stop_ids": [end] if stops else []}
    plain = model.generate(PROMPT, recipe, **asked)
    for more in ([end, 97, 98], [97, 98]):
        guessed = knowing([*plain.token_ids, *more], *parse(recipe).methods)
        drafted = model.generate(PROMPT, guessed, **asked)
        assert drafted.token_ids == plain.token_ids and drafted.text == plain.text
        assert drafted.metrics.finish_reason == plain.metrics.finish_reason
        assert drafted.metrics.notes == plain.metrics.notes


@pytest.mark.parametrize("stops", [True, False])
def test_what_is_forced_is_guessed_to_the_end(model, stops: bool) -> None:
    """A choice is cut into several tokens, of which the last ends it."""
    end = model.tokenizer.eos_token_id
    found = model.generate(PROMPT, 'lookup + fixed(nodes=16) + grammar(choice="yes")',
                           max_new_tokens=9, stop_ids=[end] if stops else [])  # fmt: skip
    assert found.text == "yes" and found.metrics.finish_reason == "stop"
    assert found.metrics.accepted["forced"] >= 1


def test_files_lie_under_the_home_folder(model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "schema.json").write_text('{"enum": [7]}', "utf-8")
    (tmp_path / "x.lark").write_text('start: "u" "v"', "utf-8")
    for recipe, text in (("json=~/schema.json", "7"), ("ebnf=~/x.lark", "uv")):
        assert model.generate(PROMPT, f"grammar({recipe})", max_new_tokens=9).text == text
    with pytest.raises(RecipeError, match="json=~/none.json.*no such file"):
        model.plan("grammar(json=~/none.json)")
