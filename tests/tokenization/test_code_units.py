"""Units of source text: which tokens are of one identifier."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.code_units import (
    IDENTIFIER,
    OTHER,
    TEXT,
    code_groups,
    python_units,
    tree_sitter_units,
)

LINE = "getUserName = maxValueOf(x)"


def tokenizer(*merged: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE that knows the words of `merged`, built letter by letter."""
    vocab = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in merged:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocab:
                vocab[word[:end]] = len(vocab)
                merges.append((word[: end - 1], word[end - 1]))
    made = Tokenizer(models.BPE(vocab, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made)


WORDS = tokenizer("get", "User", "Name", "\u0120=", "\u0120max", "Value", "Of")


def test_groups_are_identifiers_and_the_merged_length_is_that_of_the_lexemes() -> None:
    groups = code_groups(LINE, WORDS)
    tokens = [WORDS.decode([each]) for each in WORDS.encode(LINE)]
    assert tokens == ["get", "User", "Name", " =", " max", "Value", "Of", "(", "x", ")"]
    assert groups == [0, 0, 0, 1, 2, 2, 2, 3, 4, 5]
    assert groups[-1] + 1 == len(python_units(LINE))


def test_two_identifiers_side_by_side_are_two_groups() -> None:
    assert code_groups("not x", tokenizer()) == [0, 0, 0, 1, 2]
    assert code_groups("not x", tokenizer("\u0120x")) == [0, 0, 0, 1]


def test_a_token_over_a_border_goes_where_it_begins() -> None:
    assert code_groups("a.bc", tokenizer("a.b")) == [0, 1]


def test_strings_comments_and_operators_are_merged_where_asked() -> None:
    text = "ab **= 'cd' # ef"
    letters = tokenizer()
    kinds = [unit.kind for unit in python_units(text)]
    assert kinds == [IDENTIFIER, OTHER, TEXT, TEXT]
    assert code_groups(text, letters)[-1] == 14
    merged = code_groups(text, letters, kinds=(IDENTIFIER, OTHER, TEXT))
    # Units and the spaces between them.
    assert merged == [0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 4, 5, 6, 6, 6, 6]
    with pytest.raises(TokenizerError, match="'name' is no kind"):
        code_groups(text, letters, kinds=("name",))


def test_units_stand_where_their_text_does_on_every_line() -> None:
    text = "def f\u00fc(x):\n    return \u00e9t\u00e9 + x\n"
    units = python_units(text)
    assert [text[u.start : u.end] for u in units if u.kind == IDENTIFIER] == [
        "def", "f\u00fc", "x", "return", "\u00e9t\u00e9", "x",
    ]  # fmt: skip
    groups = code_groups(text, tokenizer())
    assert len(groups) == len(text.encode()) and groups[0] == 0
    assert all(b - a in (0, 1) for a, b in zip(groups, groups[1:], strict=False))


@pytest.mark.parametrize("text", ["f(x", "'''open", "if x:\n  y\n z\n"])
def test_what_is_no_whole_source_is_refused(text: str) -> None:
    with pytest.raises(TokenizerError, match="no whole Python source"):
        python_units(text)


def test_other_languages_are_read_where_tree_sitter_is() -> None:
    grammar: Any = pytest.importorskip("tree_sitter_java")
    sitter: Any = pytest.importorskip("tree_sitter")
    lexer = tree_sitter_units(sitter.Language(grammar.language()))
    text = 'class A\u00fc { int getX() { return xy; } // no x\n String s = "a b"; '
    units = [(text[u.start : u.end], u.kind) for u in lexer(text)]
    assert ("getX", IDENTIFIER) in units and ("A\u00fc", IDENTIFIER) in units
    assert ("return", IDENTIFIER) in units and ("{", OTHER) in units
    assert ('"a b"', TEXT) in units and ("// no x", TEXT) in units


def test_tree_sitter_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tree_sitter", None)
    with pytest.raises(TokenizerError, match="pip install tree-sitter"):
        tree_sitter_units(None)
