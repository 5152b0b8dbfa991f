"""Fields of OpenAI's and vLLM's requests become the method `grammar`."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lengthwise.errors import RecipeError
from lengthwise.methods.decoding.grammar import Grammar
from lengthwise.methods.decoding.structured_output import structured_output

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}


@pytest.mark.parametrize("body, expected", [
    ({"messages": [], "temperature": 1}, None),
    ({"response_format": {"type": "text"}, "guided_json": None}, None),
    ({"response_format": {"type": "json_object"}}, Grammar.of({"type": "object"})),
    ({"response_format": FORMAT}, Grammar.of(SCHEMA)),
    ({"response_format": {"type": "text"}, "guided_regex": "a+"}, Grammar(regex="a+")),
    ({"guided_json": SCHEMA}, Grammar.of(SCHEMA)),
    ({"guided_json": '{"type": "object"}'}, Grammar.of({"type": "object"})),
    ({"guided_choice": ["a|b", "c"]}, Grammar.of(choice=["a|b", "c"])),
    ({"guided_grammar": 'root ::= "a"'}, Grammar(ebnf='root ::= "a"')),
    ({"structured_outputs": {"json": SCHEMA}}, Grammar.of(SCHEMA)),
    ({"structured_outputs": {"json_object": True}}, Grammar.of({"type": "object"})),
    ({"structured_outputs": {"choice": ["a"], "regex": None}}, Grammar(choice="a")),
    ({"structured_outputs": {}}, None),
])  # fmt: skip
def test_what_is_asked(body: dict[str, Any], expected: Grammar | None) -> None:
    assert structured_output(body) == expected


@pytest.mark.parametrize("body, said", [
    ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_regex and guided_choice each say"),
    ({"response_format": "json"}, "response_format: type is None"),
    ({"response_format": {"type": "structural_tag"}}, "type is 'structural_tag'"),
    ({"response_format": {"type": "json_schema"}}, "there is no json_schema.schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": [1]}}}, "is a dict"),
    ({"guided_choice": []}, "guided_choice: grammar(choice=[])"),
    ({"guided_json": 3}, "guided_json: grammar: a JSON schema is a dict, not a int"),
    ({"guided_json": "schema.json"}, "no file is read for a request"),
    ({"guided_grammar": "/etc/passwd"}, "no file is read for a request"),
    ({"structured_outputs": {"structural_tag": "x"}}, "structural_tag cannot be served"),
    ({"structured_outputs": [1]}, "is no object"),
    ({"structured_outputs": {"json": {}, "regex": "a"}}, "give one of"),
])  # fmt: skip
def test_what_cannot_be_served(body: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        structured_output(body)
