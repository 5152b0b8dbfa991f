"""What OpenAI's and vLLM's requests call structured outputs, as the method that does it.

response_format   {"type": "json_object"}, {"type": "json_schema", "json_schema": {...}}
guided_json, guided_regex, guided_choice, guided_grammar              vLLM until 0.11
structured_outputs   {"json" | "regex" | "choice" | "grammar" | "json_object": ...}   vLLM since
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lengthwise.errors import RecipeError
from lengthwise.methods.decoding.grammar import Grammar

OBJECT = {"type": "object"}
# The fields that a request may have.
FIELDS = (
    "response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice",
    "guided_grammar",
)  # fmt: skip
_ARGUMENTS = {"json": "schema", "regex": "regex", "choice": "choice", "grammar": "ebnf"}


def structured_output(body: Mapping[str, Any]) -> Grammar | None:
    """The method that a request's fields ask for.

    Args:
        body: a request of OpenAI's or vLLM's API as a dict; other fields are not looked at.

    Returns:
        `grammar` with what was asked, to be added to the recipe's methods; None where nothing was.

    Raises:
        RecipeError: for two of them, an unknown form, or what no grammar can be made of. Its text
            begins with the field's name.
    """
    given = {field: body[field] for field in FIELDS if body.get(field) is not None}
    made = {field: found for field in given if (found := _of(field, given[field])) is not None}
    if len(made) > 1:
        raise RecipeError(f"{' and '.join(made)} each say what the text has to be; give one")
    return next(iter(made.values()), None)


def _of(field: str, value: Any) -> Grammar | None:
    try:
        if field == "response_format":
            return _response_format(value)
        if field == "structured_outputs":
            return _structured_outputs(value)
        return Grammar.of(**{_ARGUMENTS[field.removeprefix("guided_")]: value})
    except RecipeError as error:
        raise RecipeError(f"{field}: {error}") from None


def _response_format(value: Any) -> Grammar | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return Grammar.of(OBJECT)
    if kind == "json_schema":
        inside = value.get("json_schema")
        schema = inside.get("schema") if isinstance(inside, Mapping) else None
        if schema is None:
            raise RecipeError('there is no json_schema.schema: give {"name": ..., "schema": {...}}')
        return Grammar.of(schema)
    raise RecipeError(f"type is {kind!r}; allowed are text, json_object and json_schema")


def _structured_outputs(value: Any) -> Grammar | None:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{value!r} is no object")
    given = {name: each for name, each in value.items() if each is not None and each is not False}
    if given.pop("json_object", None):
        given["json"] = given.get("json", OBJECT)
    strange = [name for name in given if name not in _ARGUMENTS]
    if strange:
        raise RecipeError(
            f"{', '.join(strange)} cannot be served; there are json, regex, choice, grammar and "
            "json_object"
        )
    return Grammar.of(**{_ARGUMENTS[name]: each for name, each in given.items()}) if given else None


__all__ = ["FIELDS", "structured_output"]
