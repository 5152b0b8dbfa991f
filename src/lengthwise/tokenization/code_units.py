"""Which tokens of a source text form one identifier: what merging of subtokens needs.

A lexer gives the units of a text with where they stand; a token belongs to the unit in which its
first character stands that is no space. `python_units` is the standard library's lexer;
`tree_sitter_units` reads any language whose grammar is installed.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Callable, Iterable, Sequence as Seq
from dataclasses import dataclass
from typing import Any

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.spans import token_spans

IDENTIFIER, OTHER, TEXT = "identifier", "other", "text"
"""Kinds of units: names and keywords; operators and numbers; strings and comments."""
_LAYOUT = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_TEXTS = {
    each
    for name in ("STRING", "COMMENT", "FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END")
    if (each := getattr(tokenize, name, None)) is not None
}


@dataclass(frozen=True)
class Unit:
    """A lexical unit of a text, in characters, half open."""

    start: int
    end: int
    kind: str


Lexer = Callable[[str], Iterable[Unit]]


def python_units(text: str) -> list[Unit]:
    """The units of Python source, in order.

    Args:
        text: of a whole module or statement.

    Raises:
        TokenizerError: where the text is no Python, or ends within a bracket or string.
    """
    starts = [0]
    for line in io.StringIO(text):
        starts.append(starts[-1] + len(line))
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in _LAYOUT or not token.string:
                continue
            kind = TEXT if token.type in _TEXTS else OTHER
            if token.type == tokenize.NAME:
                kind = IDENTIFIER
            begin, end = (starts[row - 1] + column for row, column in (token.start, token.end))
            found.append(Unit(begin, end, kind))
    except (tokenize.TokenError, SyntaxError) as error:
        reason, place = (*error.args, "")[:2]
        raise TokenizerError(
            f"this text is no whole Python source ({reason} at {place}): give whole modules or "
            "statements, or a lexer that reads pieces, as tree_sitter_units does"
        ) from error
    return found


def tree_sitter_units(language: Any) -> Lexer:
    """A lexer of a language that tree-sitter knows; it reads broken and cut texts too.

    Args:
        language: a `tree_sitter.Language`, such as `Language(tree_sitter_java.language())`.

    Raises:
        TokenizerError: where the package tree-sitter is not installed.
    """
    try:
        from tree_sitter import Parser  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise TokenizerError(
            "lexing by tree-sitter needs the package tree-sitter and a grammar: pip install "
            "tree-sitter tree-sitter-java"
        ) from error
    parser = Parser(language)

    def units(text: str) -> list[Unit]:
        data = text.encode()
        # Where each byte's character stands; a character has one to four.
        places = [n for n, letter in enumerate(text) for _ in letter.encode()] + [len(text)]
        found, waiting = [], [parser.parse(data).root_node]
        while waiting:
            node = waiting.pop()
            kind = node.type
            texts = "comment" in kind or "string" in kind or kind.startswith("char")
            if node.children and not texts:
                waiting += reversed(node.children)
            elif node.end_byte > node.start_byte:
                word = data[node.start_byte : node.end_byte]
                name = OTHER
                if "identifier" in kind or (word.isalpha() and kind == word.decode()):
                    name = IDENTIFIER
                found.append(Unit(
                    places[node.start_byte], places[node.end_byte], TEXT if texts else name
                ))  # fmt: skip
        return found

    return units


def code_groups(
    text: str, tokenizer: Any, lexer: Lexer = python_units, kinds: Seq[str] = (IDENTIFIER,)
) -> list[int]:
    """For every token of a text the number of its group, counted from 0 and never falling.

    Args:
        text: source.
        tokenizer: of transformers.
        lexer: what cuts the text into units.
        kinds: of units whose tokens are merged. Strings and comments (`TEXT`) hold many words and
            are left out of the default, as are operators and numbers.

    Raises:
        TokenizerError: for a kind that is none, or a text that the lexer cannot read.
    """
    strange = set(kinds) - {IDENTIFIER, OTHER, TEXT}
    if strange:
        raise TokenizerError(
            f"{sorted(strange)[0]!r} is no kind of unit: {IDENTIFIER}, {OTHER} or {TEXT}"
        )
    owner: list[int] = [-1] * len(text)
    for number, unit in enumerate(lexer(text)):
        if unit.kind in kinds:
            owner[unit.start : unit.end] = [number] * (unit.end - unit.start)
    groups: list[int] = []
    last = -1
    for start, end in token_spans(tokenizer, text):
        # A character of several tokens, and one of spaces alone, begin where they stand.
        first = next((at for at in range(start, end) if not text[at].isspace()), start)
        unit_of = owner[first] if first < len(text) else -1
        before = groups[-1] if groups else -1
        groups.append(before if unit_of >= 0 and unit_of == last else before + 1)
        last = unit_of
    return groups


__all__ = [
    "IDENTIFIER",
    "OTHER",
    "TEXT",
    "Lexer",
    "Unit",
    "code_groups",
    "python_units",
    "tree_sitter_units",
]
