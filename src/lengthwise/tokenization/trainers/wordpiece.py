"""WordPiece: pieces that begin a word and pieces that go on, the longest match first.

Wu et al., "Google's Neural Machine Translation System: Bridging the Gap between Human and Machine
Translation", 2016, arXiv:1609.08144. Words are cut from the left: the longest piece of the
vocabulary that the rest begins with is taken, and pieces within a word are other tokens than those
that begin one.

    word = p_1 ~p_2 ~p_3      each p_i the longest in the vocabulary at its place

The vocabulary is learned by merges of the most frequent pair, as the `tokenizers` library does
under this name; Google's trainer, which merges by likelihood, was never released, and `swe` has
such merges.

Ours: pieces are spelled in byte letters, and both forms of all 256 stay, so that any text comes
back exactly, where BERT's writes [UNK]. The mark of pieces within a word is U+2040 in place of ##,
which a text may hold itself. A word of more than 64 bytes is cut there: the search is quadratic
in its length. The library's WordPieceTrainer numbers letters in the order of a hash that each
process seeds anew, so its BPE trainer is given the same words with other letters within a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from lengthwise._utils.options import option
from lengthwise._utils.papers import Paper
from lengthwise.tokenization.trainers.byte_level import (
    ALPHABET,
    byte_letters,
    cutter,
    digits_option,
)
from lengthwise.tokenization.trainers.kind import Texts, TokenizerKind, Told

WITHIN = "\u2040"
"""Stands before a piece within a word; no byte is spelled so."""
LONGEST_WORD = 64
PRIVATE = {letter: chr(0xE000 + byte) for byte, letter in enumerate(ALPHABET)}
"""Letters within a word while they are trained: of a range of Unicode for private use."""
_TABLE = str.maketrans(PRIVATE)
_BACK = {private: letter for letter, private in PRIVATE.items()}


@dataclass(frozen=True)
class WordPiece(TokenizerKind):
    """Pieces that begin a word and that go on, longest match first."""

    name: ClassVar[str] = "wordpiece"
    paper: ClassVar[Paper] = Paper(
        "Google's Neural Machine Translation System: Bridging the Gap between Human and Machine "
        "Translation",
        "Wu et al.",
        2016,
        arxiv="1609.08144",
    )

    digits: str = digits_option()
    min_frequency: int = option(2, "how often a pair occurs at least", low=1)

    def least(self) -> int:
        return 512

    def train(self, texts: Texts, size: int, work: Path, told: Told) -> Tokenizer:
        cut = pre_tokenizers.Sequence([cutter(self.digits), *short_letters()])
        learned = Tokenizer(models.BPE())
        learned.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.BpeTrainer(
            vocab_size=size, min_frequency=self.min_frequency, show_progress=False,
            initial_alphabet=[*ALPHABET, *_BACK],
        )  # fmt: skip
        learned.train_from_iterator(_marked(texts, cut), trainer)
        told("merging", 1.0)
        ordered = sorted(learned.get_vocab().items(), key=lambda item: item[1])
        return word_pieces([piece_of(each) for each, _ in ordered], cut)


def short_letters() -> list[pre_tokenizers.PreTokenizer]:
    """What writes pieces in byte letters, and cuts the long ones."""
    short = pre_tokenizers.Split(Regex(f".{{1,{LONGEST_WORD}}}"), "isolated")
    return [byte_letters(), short]


def word_pieces(pieces: list[str], cut: pre_tokenizers.PreTokenizer) -> Tokenizer:
    """A tokenizer that takes the longest piece at each place.

    Args:
        pieces: in the order of their ids, those within a word behind `WITHIN`; among them both
            forms of all byte letters.
        cut: cuts a text into words of byte letters.
    """
    model = models.WordPiece(
        {piece: number for number, piece in enumerate(pieces)}, unk_token=pieces[0],
        max_input_chars_per_word=LONGEST_WORD, continuing_subword_prefix=WITHIN,
    )  # fmt: skip
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.Sequence([decoders.Replace(WITHIN, ""), decoders.ByteLevel()])
    return tokenizer


def _marked(texts: Texts, cut: pre_tokenizers.PreTokenizer) -> Iterator[str]:
    """The words of each text, letters behind the first one written otherwise."""
    for text in texts():
        words = [piece for piece, _ in cut.pre_tokenize_str(text)]
        yield " ".join(word[0] + word[1:].translate(_TABLE) for word in words)


def piece_of(letters: str) -> str:
    """A piece as WordPiece names it.

    Args:
        letters: as they are trained, those within a word of `PRIVATE`.
    """
    begins = letters[0] not in _BACK
    plain = "".join(_BACK.get(each, each) for each in letters)
    return plain if begins else WITHIN + plain


__all__ = [
    "LONGEST_WORD", "PRIVATE", "WITHIN", "WordPiece", "piece_of", "short_letters", "word_pieces",
]  # fmt: skip
