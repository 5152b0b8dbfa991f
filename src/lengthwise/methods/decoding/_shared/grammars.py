"""A grammar as options of a method: a JSON schema, a regular expression, EBNF, or a choice."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Needs, option
from lengthwise.methods.decoding._shared import matcher
from lengthwise.methods.decoding._shared.matcher import Matcher

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel

KINDS = ("json", "regex", "ebnf", "choice")
# What stands between the parts of a JSON text: llguidance's own rule, one space at most, nothing.
SPACES: dict[str, dict[str, Any]] = {
    "any": {}, "one": {"whitespace_pattern": " ?"}, "none": {"whitespace_flexible": False},
}  # fmt: skip
_RULES = re.compile(r"\n|::=|^\s*(start|root|%llguidance)\b")
_BAR = re.compile(r"(?<!\\)((?:\\\\)*)\|")


@dataclass(frozen=True)
class Constrained(Method):
    """The options by which a grammar is given, exactly one of the first four.

    json, ebnf: a file, or the text itself where it begins with a brace or holds a rule.
    """

    json: str = option("", "JSON schema: its file, or its text")
    regex: str = option("", "regular expression that the whole text matches (Rust's syntax)")
    ebnf: str = option("", "grammar in Lark's or llama.cpp's notation: its file, or its text")
    choice: str = option("", "texts to choose from, with | between them")
    spaces: str = option(
        "any", "white space between the parts of a JSON text", choices=tuple(SPACES),
        needs=Needs("json=...", lambda method: method.json),
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [kind for kind in KINDS if getattr(self, kind)]
        if len(given) > 1:
            raise RecipeError(
                f"{self.name}: {' and '.join(given)} are several grammars; give one of them"
            )

    @classmethod
    def example(cls) -> Self:
        return cls(regex="[a-z ]{1,60}")

    @classmethod
    def of(
        cls,
        schema: Any = None,
        *,
        regex: str | None = None,
        choice: Any = None,
        ebnf: str | None = None,
        **more: Any,
    ) -> Self:
        """The method for a grammar that a program holds.

        Args:
            schema: a JSON schema as a dict, a bool or its text.
            regex: a regular expression.
            choice: a list of texts.
            ebnf: the text of a grammar.
            **more: other options.

        Returns:
            The method, for a list of methods that is a recipe.

        Raises:
            RecipeError: for none of these, several, or what is none.
        """
        given = {"json": schema, "regex": regex, "choice": choice, "ebnf": ebnf}
        found = {kind: value for kind, value in given.items() if value is not None}
        if len(found) != 1:
            raise RecipeError(f"{cls.name}: give one of schema, regex, choice and ebnf")
        ((kind, value),) = found.items()
        if kind == "json" and not isinstance(value, str):
            value = _dumped(cls.name, value)
        if kind == "choice":
            value = joined(cls.name, value)
        if not isinstance(value, str) or not value:
            raise RecipeError(f"{cls.name}({kind}={value!r}): give a text that is not empty")
        if (kind == "json" and not _is_schema(value)) or (kind == "ebnf" and not _is_rules(value)):
            raise RecipeError(
                f"{cls.name}({kind}={value!r}): this is no text of one, and no file is read for a "
                "request"
            )
        return cls(**{kind: value}, **more)

    def check(self, model: AdaptedModel) -> None:
        """Reads and compiles the grammar for this model's vocabulary."""
        self.start(model)

    def start(self, model: AdaptedModel) -> Matcher:
        """A matcher at the beginning of a text.

        Args:
            model: with its tokenizer.

        Raises:
            RecipeError: for a grammar that cannot be had, is none, or that no text satisfies.
            Refused: for a model without a tokenizer that serves.
        """
        return matcher.start(self.name, self.grammar(), model)

    def grammar(self) -> str:
        """The grammar as llguidance writes it. Raises RecipeError."""
        kind = next((kind for kind in KINDS if getattr(self, kind)), None)
        if kind is None:
            raise RecipeError(
                f'{self.name} needs a grammar: {self.name}(json="schema.json"), '
                f'{self.name}(regex="[0-9]+"), {self.name}(ebnf="file.lark") or '
                f'{self.name}(choice="yes|no")'
            )
        make = {"json": self._schema, "ebnf": self._rules}.get(kind)
        if make is not None:
            return make()
        read = matcher.library(self.name).LLMatcher
        if kind == "regex":
            return str(read.grammar_from_regex(self.regex))
        texts = split(self.choice)
        if not all(texts):
            raise RecipeError(f"{self.name}(choice={self.choice!r}): one of the texts is empty")
        quoted = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
        return str(read.grammar_from_lark(f"start: {quoted}"))

    def _schema(self) -> str:
        inline = _is_schema(self.json)
        where = "its text" if inline else self.json
        text = self.json if inline else _file(self.name, "json", self.json)
        try:
            schema = json.loads(text)
        except ValueError as error:
            raise RecipeError(f"{self.name}: {where} is no JSON ({error})") from None
        if not isinstance(schema, dict | bool):
            raise RecipeError(
                f"{self.name}: {where} is no JSON schema: it holds a {type(schema).__name__}, and "
                'a schema is an object such as {"type": "object"}'
            )
        read = matcher.library(self.name).LLMatcher
        if isinstance(schema, bool):
            # The library reads options of objects alone.
            schema = {} if schema else {"enum": []}
        overrides = SPACES[self.spaces]
        return str(read.grammar_from_json_schema(json.dumps(schema), overrides=overrides))

    def _rules(self) -> str:
        text = self.ebnf if _is_rules(self.ebnf) else _file(self.name, "ebnf", self.ebnf)
        matcher.library(self.name)
        from llguidance.gbnf_to_lark import any_to_lark

        try:
            text = any_to_lark(text)
        except Exception as error:
            raise RecipeError(f"{self.name}: this grammar cannot be read: {error}") from None
        return str(matcher.library(self.name).LLMatcher.grammar_from_lark(text))


def _is_schema(text: str) -> bool:
    """Whether this is a schema's text, and not the name of its file."""
    return text.lstrip()[:1] in ("{", "") or text.strip() in ("true", "false")


def _is_rules(text: str) -> bool:
    """Whether this is a grammar's text, and not the name of its file."""
    return _RULES.search(text) is not None


def split(choice: str) -> list[str]:
    r"""The texts of a choice: `a|b\|c` are "a" and "b|c"."""
    parts = _BAR.sub(r"\1" "\0", choice).split("\0")
    return [re.sub(r"\\([\\|])", r"\1", part) for part in parts]


def joined(name: str, texts: Any) -> str:
    """Texts as the option `choice` writes them. Raises RecipeError for what is no list of texts."""
    listed = list(texts) if isinstance(texts, list | tuple) else []
    if not listed or not all(isinstance(text, str) and text for text in listed):
        raise RecipeError(f"{name}(choice={texts!r}): give a list of texts, none of them empty")
    return "|".join(text.replace("\\", "\\\\").replace("|", "\\|") for text in listed)


def _dumped(name: str, schema: Any) -> str:
    if not isinstance(schema, dict | bool):
        raise RecipeError(f"{name}: a JSON schema is a dict, not a {type(schema).__name__}")
    try:
        return json.dumps(schema)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{name}: this schema is no JSON ({error})") from None


def _file(name: str, kind: str, path: str) -> str:
    try:
        return Path(os.path.expanduser(path)).read_text("utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{name}({kind}={path}): there is no such file") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RecipeError(f"{name}({kind}={path}): the file cannot be read: {error}") from None


__all__ = ["Constrained", "joined", "split"]
