"""Tokens of domain text with the paper's list and without, and what a wrong letter changes."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Iterator, Sequence as Seq
from pathlib import Path

from benchmarks.reproduction.books import gutenberg
from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.licences import licences
from tokenizers import AddedToken, Tokenizer

from lengthwise.tokenization.trainers.bpe import Bpe
from lengthwise.tokenization.trainers.kind import TokenizerKind
from lengthwise.tokenization.trainers.kl3m import Kl3m, custom_tokens
from lengthwise.tokenization.trainers.measured import measure
from lengthwise.tokenization.trainers.training import train_tokenizer

TERMS = (
    "sublicense", "derivative work", "contributory infringement", "without limitation",
    "merchantability", "fitness for a particular purpose", "17 U.S.C. 107", "Section 4(b)",
    "subsection (iii)", "the year 1998", "indemnify", "consequential damages", "severability",
    "patent claims", "(a) and (b)", "governing law", "hereinafter", "in 2004", "30 days",
    "choice-of-law",
)  # fmt: skip
MARKUP = '<div class="a"><p>(iv) <em>10</em></p></div> {"year": 2010, "all": [1, 2]} <br/> ```x```'


@check(
    {"tokenizer": "", "size": "", "tokens a character, licences": ".4f", "books": ".4f",
     "markup": ".4f", "tokens a term": ".2f", "years in two": "", "construed": ""},
    characters={"tokenizer": "", "size": "", "longest": "", "tokens a character": ".4f",
                "tokens a letter changes": ".2f", "of the word": ".1%"},
)  # fmt: skip
def kl3m(size: int = 8192) -> Iterator[Found]:
    """Licences of software, nine of ten to train on and the tenth to measure."""
    texts = licences()
    trained, held = [t for n, t in enumerate(texts) if n % 10], texts[::10]
    other = [gutenberg()[:300_000]]
    domain = {
        "kl3m": Kl3m(), "kl3m(custom=false)": Kl3m(custom=False), "bpe": Bpe(min_frequency=10),
    }  # fmt: skip
    for name, kind in domain.items():
        tokenizer = _trained(kind, trained, size)
        yield _row(name, tokenizer, held, other)
    # As the paper adds them: matched wherever they stand.
    plain = _trained(Kl3m(custom=False, pad=False), trained, size - len(custom_tokens()))
    plain.add_tokens([AddedToken(each, normalized=False) for each in custom_tokens()])
    yield _row("the list as AddedToken", plain, held, other)
    for longest, small in ((3, 4096), (3, 8192), (4, 16384)):
        kind = Kl3m(characters=True, longest=longest, min_frequency=2)
        yield "characters", _changes(str(kind), _trained(kind, trained, small), held)
    yield "characters", _changes("bpe", _trained(Bpe(), trained, size), held)


def _trained(kind: TokenizerKind, texts: Seq[str], size: int) -> Tokenizer:
    with tempfile.TemporaryDirectory() as place:
        return train_tokenizer(kind, texts, size, Path(place) / "out", held_out=0).tokenizer


def _row(name: str, tokenizer: Tokenizer, held: Seq[str], other: Seq[str]) -> Found:
    years = [str(year) for year in range(1776, 2050)]
    inside = measure(tokenizer, held)
    assert not inside.failures
    return {
        "tokenizer": name, "size": tokenizer.get_vocab_size(),
        "tokens a character, licences": inside.tokens / inside.characters,
        "books": _rate(tokenizer, other), "markup": _rate(tokenizer, [MARKUP]),
        "tokens a term": sum(len(tokenizer.encode(f" {each}").ids) for each in TERMS) / len(TERMS),
        "years in two": sum(len(tokenizer.encode(year).ids) > 1 for year in years),
        # In which "true" of the list stands.
        "construed": len(tokenizer.encode(" construed").ids),
    }  # fmt: skip


def _rate(tokenizer: Tokenizer, texts: Seq[str]) -> float:
    found = measure(tokenizer, texts)
    return found.tokens / found.characters


def _changes(name: str, tokenizer: Tokenizer, held: Seq[str]) -> Found:
    """How many tokens of a word are others once one of its letters is wrong."""
    chance = random.Random(0)
    words = sorted({word for text in held for word in re.findall(r"[a-z]{6,}", text)})[:3000]
    changed = tokens = 0
    for word in words:
        place = chance.randrange(1, len(word))
        wrong = word[:place] + chance.choice("abcdefghijklmnopqrstuvwxyz") + word[place + 1 :]
        one, other = (tokenizer.encode(f" {each}").tokens for each in (word, wrong))
        same = _common(one, other)
        same += _common(one[same:][::-1], other[same:][::-1])
        changed, tokens = changed + len(one) - same, tokens + len(one)
    special = {each.content for each in tokenizer.get_added_tokens_decoder().values()}
    inside = measure(tokenizer, held)
    return {
        "tokenizer": name, "size": tokenizer.get_vocab_size(),
        "longest": max(len(each) for each in tokenizer.get_vocab() if each not in special),
        "tokens a character": inside.tokens / inside.characters,
        "tokens a letter changes": changed / len(words), "of the word": changed / tokens,
    }  # fmt: skip


def _common(one: Seq[str], other: Seq[str]) -> int:
    """How many tokens two lists begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
