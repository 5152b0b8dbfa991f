"""Docstrings are read by people for whom English is a second language."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lengthwise

ROOT = Path(lengthwise.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MOST_WORDS = 40
# A sentence ends at . ? or ! before a capital, a quote, or the `name:` of the next option.
_END = re.compile(r"(?<=[.?!])[)\"']?\s+(?=[A-Z`(\"<]|\w+(?:(?:, | and )\w+)*: )")


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def sentences(text: str) -> Iterator[str]:
    """Of running text: an indented block (equations, tables) ends a sentence and is not read."""
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.strip() and not line.startswith("    "):
            if line.startswith("- "):
                yield from _END.split(" ".join(paragraph))
                paragraph = []
            paragraph.append(line.strip())
        elif paragraph:
            yield from _END.split(" ".join(paragraph).replace("et al.", "et al"))
            paragraph = []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sentence_is_long(path: Path) -> None:
    said = [each for text in docstrings(path) for each in sentences(text)]
    long = [each for each in said if len(each.split()) > MOST_WORDS]
    assert not long, f"over {MOST_WORDS} words: {long[0]}"


def test_sentences_are_told_apart() -> None:
    long = "word " * 50
    assert max(len(each.split()) for each in sentences(f"One. Two {long}end. Three.")) == 52
    text = "One two. Three.\n\n    x = y. Z\n\nk: this. size, rest: that.\n- a\n- b"
    assert [*sentences(text)] == [
        "One two.", "Three.", "k: this.", "size, rest: that.", "- a", "- b",
    ]  # fmt: skip
