"""What names in programs cost: tokens of an identifier, by how its parts are joined.

The sources are modules of the standard library, which every Python has. An identifier stands behind
"= ", as most stand behind a space; the tokens of "=" are taken off, and with them what a tokenizer
puts before every text.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lengthwise.tokenization.opened import OpenTokenizer

MODULES = (
    "argparse", "ast", "dataclasses", "inspect", "logging", "pathlib", "shutil", "threading",
    "typing", "unittest.case",
)  # fmt: skip
_NAME = re.compile(r"\b[A-Za-z_][A-Za-z0-9_]*\b")


@dataclass(frozen=True, slots=True)
class CodeFigures:
    """identifiers: distinct ones. per_identifier: their mean tokens; by_style: the same for
    snake_case, camelCase, PascalCase, UPPER_CASE and single words. whole: the share that is one
    token. bytes_per_token: over the whole sources."""

    identifiers: int
    per_identifier: float
    by_style: dict[str, float]
    whole: float
    bytes_per_token: float


@cache
def sources() -> tuple[str, ...]:
    """The sources of MODULES, those that are there."""
    found = []
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin and spec.origin.endswith(".py"):
            found.append(Path(spec.origin).read_text(encoding="utf-8"))
    return tuple(found)


def identifiers_in(text: str) -> set[str]:
    """Names of two letters or more that are no keywords.

    Args:
        text: a program's.
    """
    return {each for each in _NAME.findall(text) if len(each) > 1 and not keyword.iskeyword(each)}


def style_of(name: str) -> str:
    """How the parts of a name are joined.

    Args:
        name: an identifier.
    """
    core = name.strip("_")
    if core.isupper():
        return "UPPER_CASE"
    if "_" in core:
        return "snake_case"
    if re.search(r"[a-z0-9][A-Z]", core):
        return "PascalCase" if core[:1].isupper() else "camelCase"
    return "one word"


def measure_code(tokenizer: OpenTokenizer) -> CodeFigures:
    """What identifiers of the standard library cost.

    Args:
        tokenizer: that encodes them.
    """
    texts = sources()
    names = sorted(set().union(*map(identifiers_in, texts)))
    (before, *encoded) = tokenizer.encode(["=", *(f"= {name}" for name in names)])
    lengths = [len(ids) - len(before) for ids in encoded]
    styles: dict[str, list[int]] = {}
    for name, length in zip(names, lengths, strict=True):
        styles.setdefault(style_of(name), []).append(length)
    tokens = sum(map(len, tokenizer.encode(texts)))
    return CodeFigures(
        len(names), sum(lengths) / max(len(lengths), 1),
        {style: sum(each) / len(each) for style, each in sorted(styles.items())},
        sum(length == 1 for length in lengths) / max(len(lengths), 1),
        sum(len(text.encode()) for text in texts) / max(tokens, 1),
    )  # fmt: skip


__all__ = ["CodeFigures", "identifiers_in", "measure_code", "sources", "style_of"]
