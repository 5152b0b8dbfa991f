"""Qtok (arXiv 2410.12989, 2024): what a vocabulary holds, and what of it a text uses.

Every token is decoded (its byte letters or its word marker undone) and put into one class:

    special       no text: control tokens, ends, reserved places
    undecodable   bytes that are no UTF-8 by themselves
    whitespace, digits, symbols, letters of one script
    mixed         several of these, or letters of several scripts

Beside the class stand flags: it begins a word, is capitalised, is all capitals. Qtok counts the
vocabulary alone; shares weighted by use on a text stand beside it here, because a vocabulary is not
how it is used. Qtok tells languages by lists of words; here a language is what uses a token on its
side of a parallel text (`parallel.LanguageFigures.used`). Its list of core tokens is, here, what
all tokenizers of a report share.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass

from lengthwise.tokenization.opened import OpenTokenizer
from lengthwise.tokenization.report.scripts import letters_of_scripts, script_of, scripts_of
from lengthwise.tokenization.report.texts import Counts

CLASSES = ("letters", "mixed", "digits", "symbols", "whitespace", "undecodable", "special")


@dataclass(frozen=True, slots=True)
class TokenView:
    """What Qtok says of a token. script: of its letters; "" without letters, "several" for more
    than one. case: "lower", "capitalised", "upper", "mixed" or "" without case. latin: "ascii" or
    "beyond ascii" for letters of the Latin script."""

    kind: str
    script: str = ""
    case: str = ""
    word_start: bool = False
    latin: str = ""
    length: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """Tokens of the vocabulary, their share of it, and their share of the tokens of a text."""

    tokens: int
    vocabulary: float
    used: float


@dataclass(frozen=True, slots=True)
class ScriptCoverage:
    """letters: that Unicode has in the script. own: how many of these are a token by themselves."""

    letters: int
    own: int


@dataclass(frozen=True, slots=True)
class VocabularyFigures:
    """Qtok's tables. mean_length: characters of a token that is text. coverage: by script."""

    classes: Mapping[str, Share]
    scripts: Mapping[str, Share]
    cases: Mapping[str, Share]
    latin: Mapping[str, Share]
    word_starts: Share
    mean_length: float
    coverage: Mapping[str, ScriptCoverage]


def view_of(spelled: bytes | None) -> TokenView:
    """The view of one token.

    Args:
        spelled: its bytes; None for one that is no text.
    """
    if spelled is None:
        return TokenView("special")
    try:
        text = spelled.decode()
    except UnicodeDecodeError:
        return TokenView("undecodable")
    start, core = text[:1] == " ", text.strip()
    if not core:
        return TokenView("whitespace", word_start=False, length=len(text))
    kinds = {_kind(each) for each in core}
    scripts = scripts_of("".join(each for each in core if _kind(each) == "letters"))
    script = scripts[0] if len(scripts) == 1 else "several" if scripts else ""
    kind = next(iter(kinds)) if len(kinds) == 1 and script != "several" else "mixed"
    latin = ("ascii" if core.isascii() else "beyond ascii") if script == "Latin" else ""
    return TokenView(kind, script, _case(core), start, latin, len(text))


def _kind(character: str) -> str:
    category = unicodedata.category(character)[0]
    if category in "LM":
        return "letters"
    return "digits" if category == "N" else "symbols"


def _case(core: str) -> str:
    cased = [each for each in core if each.lower() != each.upper()]
    if not cased:
        return ""
    if all(each == each.lower() for each in cased):
        return "lower"
    if len(cased) > 1 and all(each == each.upper() for each in cased):
        return "upper"
    rest = cased[1:]
    first = cased[0] == cased[0].upper()
    return "capitalised" if first and all(each == each.lower() for each in rest) else "mixed"


def measure_vocabulary(tokenizer: OpenTokenizer, counts: Counts) -> VocabularyFigures:
    """Qtok's tables of a tokenizer.

    Args:
        tokenizer: whose bytes of tokens are told.
        counts: how often each token stands in a text, `[vocabulary]`.
    """
    views = [view_of(each) for each in tokenizer.spelled]
    texts = [view.length for view in views if view.length]

    def shares(names: Seq[str]) -> dict[str, Share]:
        """By name, the most frequent first; "" is left out."""
        found = Counter(names)
        uses: Counter[str] = Counter()
        for name, count in zip(names, counts.tolist(), strict=True):
            uses[name] += count
        whole, used = max(len(names), 1), max(int(counts.sum()), 1)
        return {
            name: Share(number, number / whole, uses[name] / used)
            for name, number in found.most_common()
            if name
        }

    empty = Share(0, 0.0, 0.0)
    return VocabularyFigures(
        shares([view.kind for view in views]), shares([view.script for view in views]),
        shares([view.case for view in views]), shares([view.latin for view in views]),
        shares(["start" if view.word_start else "" for view in views]).get("start", empty),
        sum(texts) / max(len(texts), 1), _coverage(tokenizer),
    )  # fmt: skip


def _coverage(tokenizer: OpenTokenizer) -> dict[str, ScriptCoverage]:
    """Letters that are a token by themselves, with or without a space before them."""
    own: set[str] = set()
    for spelled in tokenizer.spelled:
        core = b"" if spelled is None or len(spelled) > 5 else spelled.strip()
        try:
            text = core.decode()
        except UnicodeDecodeError:
            continue
        if len(text) == 1 and _kind(text) == "letters":
            own.add(text)
    found = Counter(map(script_of, own))
    return {
        name: ScriptCoverage(total, found[name]) for name, total in letters_of_scripts().items()
    }


def shared_tokens(tokenizers: Seq[OpenTokenizer]) -> int:
    """How many tokens, by their bytes, all of these tokenizers have.

    Args:
        tokenizers: one at least, whose bytes of tokens are told.
    """
    sets = [{each for each in one.spelled if each} for one in tokenizers]
    return len(set.intersection(*sets))


__all__ = [
    "CLASSES",
    "ScriptCoverage",
    "Share",
    "TokenView",
    "VocabularyFigures",
    "measure_vocabulary",
    "shared_tokens",
    "view_of",
]
