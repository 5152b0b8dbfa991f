"""KL3M: domain vocabularies with tokens added by rule, and vocabularies of a few characters.

Bommarito et al., "KL3M Tokenizers: A Family of Domain-Specific and Character-Level Tokenizers for
Legal, Financial, and Preprocessing Applications", 2025, arXiv:2503.17247. Two families:

    domain      byte-level BPE, NFKC, pairs at least 10 times; trained to V less the tokens of a
                list, of which those that were not learned are then added; filled up to a power of
                two with long runs of spaces and of lines, then with special tokens
    characters  the same BPE with tokens of at most 3 characters, 4 from 16k tokens on, for
                correcting text: a wrong letter changes few tokens

The list (`custom_tokens`): runs of 2 to 8 spaces; what begins and ends things in Markdown, HTML,
JSON and XML; the years 1776 to 2049; the numbers 10 to 999; enumerators as (a) and (iv). The terms
of a file that the user names are added, such as abbreviations of reporters.

Ours: the paper adds the list as AddedToken, which is matched before BPE wherever it stands: "10"
cuts 2010 in two, and "(i)" a name of a function. Here they are tokens of the model itself, taken
where a piece of the text is one of them as a whole, as `ignore_merges` of the library does it.
Signs of the list and terms are cut out first, at the ends of words; numbers are pieces. Nothing is
normalized unless asked for (`nfkc=true` is the paper's): NFKC loses what was written, and a text
comes back exactly without it. The limit of characters counts bytes, so that it holds in any script,
and a vocabulary under it is filled up with special tokens, for runs would be too long.
The 13 special tokens of the paper are not added; `--special` adds any.

The paper's percentages are inverted: 7.70 tokens a term against 4.20 is 45% fewer, not 83%.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import ClassVar

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import Split

from lengthwise._utils.options import option
from lengthwise._utils.papers import Paper
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.byte_level import (
    ALPHABET,
    NONE,
    byte_letters,
    byte_level,
    pattern,
    spelled,
)
from lengthwise.tokenization.trainers.kind import Texts, TokenizerKind, Told
from lengthwise.tokenization.trainers.terms import read_terms

MARKDOWN = ("**", "__", "~~", "```", "##", "###", "####", "#####", "######", "---", "***",
            "===", "- [ ]", "- [x]", "](", "![", "|---|", "> ", "* ")  # fmt: skip
_ELEMENTS = ("html", "head", "title", "body", "div", "span", "p", "a", "b", "i", "em", "strong",
             "u", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "table", "thead", "tbody",
             "tr", "th", "td", "pre", "code", "blockquote", "section", "article", "header",
             "footer",
             "script", "style", "img", "br", "hr", "sup", "sub", "nav", "main", "form", "input",
             "button", "label", "link", "meta")  # fmt: skip
_ATTRIBUTES = ("href", "src", "class", "id", "style", "alt", "name", "type", "value", "width",
               "height", "rel", "content", "colspan", "rowspan")  # fmt: skip
JSON = ('{"', '"}', '":', '": ', '": "', '", "', '",', '["', '"]', "[]", "{}", "},", "],", "}]",
        "[{", '": {', '": [', "null", "true", "false")  # fmt: skip
XML = ("<?xml", "?>", "<![CDATA[", "]]>", "<!--", "-->", "<!DOCTYPE", "/>", "</", "xmlns", '="')
_ROMAN = ((10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
# Runs that fill a vocabulary up are shorter; what it then lacks are special tokens.
_FILL = 1 << 12


@dataclass(frozen=True)
class Kl3m(TokenizerKind):
    """Domain vocabularies with tokens by rule, and vocabularies of a few characters."""

    name: ClassVar[str] = "kl3m"
    paper: ClassVar[Paper] = Paper(
        "KL3M Tokenizers: A Family of Domain-Specific and Character-Level Tokenizers for Legal, "
        "Financial, and Preprocessing Applications",
        "Bommarito et al.",
        2025,
        arxiv="2503.17247",
        code="https://github.com/alea-institute/kl3m-tokenizers",
    )

    characters: bool = option(False, "the family of a few characters")
    longest: int | None = option(None, "of a token in that family (none: 3, or 4 from 16k on)",
                                 low=2)  # fmt: skip
    custom: bool = option(True, "the list of tokens by rule, in the domain family")
    terms: str | None = option(None, "file of more tokens, a line each")
    nfkc: bool = option(False, "normalize as the paper does")
    uncased: bool = option(False, "small letters alone")
    pad: bool = option(True, "fill up to a power of two")
    min_frequency: int = option(10, "how often a pair occurs at least", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.characters and self.terms is not None:
            raise TokenizerError(
                "kl3m: terms are longer than a few characters: leave out terms, or characters"
            )
        if self.longest is not None and not self.characters:
            raise TokenizerError("kl3m: longest is of characters=true: give that, or leave it out")

    def least(self) -> int:
        return 256 + len(self._list())

    def train(self, texts: Texts, size: int, work: Path, told: Told) -> Tokenizer:
        listed = self._list()
        fresh = models.BPE(ignore_merges=True)
        tokenizer = byte_level(fresh, NONE)
        if listed:
            tokenizer.pre_tokenizer = _cutting_out(listed)
        tokenizer.normalizer = self._normalizer()
        # The library's limit is the first length that is too long.
        limit = self._limit(size)
        trainer = trainers.BpeTrainer(
            vocab_size=size - len(listed), min_frequency=self.min_frequency, show_progress=False,
            initial_alphabet=list(ALPHABET), max_token_length=limit and limit + 1,
        )  # fmt: skip
        tokenizer.train_from_iterator(texts(), trainer)
        told("merging", 1.0)
        return _with_tokens(tokenizer, [spelled(each) for each in listed])

    def finish(self, tokenizer: Tokenizer) -> Tokenizer:
        if not self.pad:
            return tokenizer
        size = int(tokenizer.get_vocab_size(with_added_tokens=True))
        lacks = (1 << (size - 1).bit_length()) - size
        known = tokenizer.get_vocab()
        # A run would be longer than a token of few characters may be.
        lengths = range(0) if self.characters else range(9, _FILL)
        runs = (spelled(sign * length) for length in lengths for sign in (" ", "\n"))
        fill = list(islice((each for each in runs if each not in known), lacks))
        if fill:
            tokenizer = _with_tokens(tokenizer, fill)
        unused = (each for each in map("<|unused{}|>".format, count()) if each not in known)
        tokenizer.add_special_tokens(list(islice(unused, lacks - len(fill))))
        return tokenizer

    def _limit(self, size: int) -> int | None:
        if not self.characters:
            return None
        return self.longest or (3 if size < 16_000 else 4)

    def reads(self) -> list[str]:
        return [] if self.terms is None else [self.terms]

    def learned_twice(self, tokenizer: Tokenizer) -> int:
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        learned = {"".join(each) for each in merges}
        return sum(spelled(each) in learned for each in self._list())

    def _normalizer(self) -> normalizers.Normalizer | None:
        steps: list[normalizers.Normalizer] = [normalizers.NFKC()] if self.nfkc else []
        steps += [normalizers.Lowercase()] if self.uncased else []
        return normalizers.Sequence(steps) if steps else None

    def _list(self) -> list[str]:
        """The tokens by rule and the terms, normalized as texts are."""
        found = custom_tokens() if self.custom and not self.characters else []
        found += [] if self.terms is None else read_terms(self.terms)
        own = self._normalizer()
        found = [self._first(each) for each in found]
        found = found if own is None else [own.normalize_str(each) for each in found]
        return list(dict.fromkeys(each for each in found if len(each.encode()) > 1))


def custom_tokens() -> list[str]:
    """The tokens that the paper's rules give, in their order, each once."""
    html = [f"{begin}{name}>" for name in _ELEMENTS for begin in ("<", "</")]
    html += [f' {name}="' for name in _ATTRIBUTES]
    inside = [*map(_roman, range(1, 21)), *map(str, range(1, 21)), *map(chr, range(97, 123))]
    found = [
        *(" " * length for length in range(2, 9)), *MARKDOWN, *html, *JSON, *XML,
        *map(str, range(1776, 2050)), *map(str, range(10, 1000)),
        *(f"({each})" for each in [*inside, *(each.upper() for each in inside)]),
    ]  # fmt: skip
    return list(dict.fromkeys(found))


def _roman(number: int) -> str:
    found = ""
    for value, letters in _ROMAN:
        while number >= value:
            found, number = found + letters, number - value
    return found


def _cutting_out(listed: list[str]) -> pre_tokenizers.PreTokenizer:
    """What cuts out the tokens of a list that the usual pattern does not, and then by that. Runs of
    spaces and numbers are pieces as it is."""
    odd = [each for each in listed if each.strip() and not each.isdigit()]
    odd.sort(key=lambda each: (-len(each), each))
    first = "|".join(map(_bounded, odd)) or r"(?!)"
    whole = rf"\A(?:{'|'.join(map(_escaped, odd)) or '(?!)'})\z"
    cuts = [Split(Regex(each), "isolated") for each in (first, f"{whole}|{pattern(NONE)}")]
    return pre_tokenizers.Sequence([*cuts, byte_letters()])


def _escaped(token: str) -> str:
    return re.sub(r"([^\w\s]|_)", r"\\\1", token, flags=re.ASCII)


def _bounded(token: str) -> str:
    # A letter at an end is an end of a word, and an enumerator stands behind no name: f(i).
    inside = r"[\p{L}\p{M}\p{N}_]"
    before = rf"(?<!{inside})" if token[0].isalnum() or token[0] == "(" else ""
    after = rf"(?!{inside})" if token[-1].isalnum() else ""
    return before + _escaped(token) + after


def _with_tokens(tokenizer: Tokenizer, letters: list[str]) -> Tokenizer:
    """The tokenizer with more tokens of its model, taken as wholes, behind those it has."""
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    # Else those that were added would be numbered anew, behind the model's own.
    vocabulary |= {each["content"]: each["id"] for each in state["added_tokens"]}
    number = 1 + max(vocabulary.values(), default=-1)
    for each in letters:
        if each not in vocabulary:
            vocabulary[each] = number
            number += 1
    return Tokenizer.from_str(json.dumps(state))


__all__ = ["Kl3m", "custom_tokens"]
