"""Unigram language model: of many pieces those are kept that make the corpus likeliest.

Kudo, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword
Candidates", ACL 2018, arXiv:1804.10959. A segmentation has the probability of its pieces, each
drawn by itself. From a large set of pieces those whose removal costs least likelihood are taken
out, share by share, and probabilities are fitted anew by EM.

    p(x_1 .. x_m) = prod p(x_i)        encoding: the segmentation of largest p (Viterbi)

Ours: pieces are spelled in byte letters, all 256 of which stay, so that any text comes back
exactly. SentencePiece trains it, the paper's own code, from counted pieces. The trainer of the
`tokenizers` library goes through words in the order of a hash that each process seeds anew: two
trainings gave other scores in the last digits and another order of tokens, so other files.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import Tokenizer, models

from lengthwise._utils.files import write_aside
from lengthwise._utils.options import option
from lengthwise._utils.papers import Paper
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.byte_level import (
    ALPHABET,
    UNSEEN,
    byte_level,
    cutter,
    digits_option,
    spelled,
)
from lengthwise.tokenization.trainers.kind import Texts, TokenizerKind, Told
from lengthwise.tokenization.trainers.piece_counts import count_pieces


@dataclass(frozen=True)
class Unigram(TokenizerKind):
    """Keeps the pieces that make the corpus likeliest."""

    name: ClassVar[str] = "unigram"
    paper: ClassVar[Paper] = Paper(
        "Subword Regularization: Improving Neural Network Translation Models with Multiple "
        "Subword Candidates",
        "Kudo",
        2018,
        arxiv="1804.10959",
        venue="ACL",
        code="https://github.com/google/sentencepiece",
    )

    digits: str = digits_option()
    longest: int = option(16, "bytes of the longest piece", low=1, high=256)
    shrink: float = option(0.75, "share of pieces that a round keeps", low=0.1, high=0.95)
    seeds: int = option(1_000_000, "pieces it begins with, at most", low=1000)

    def check(self) -> None:
        _sentencepiece()

    def train(self, texts: Texts, size: int, work: Path, told: Told) -> Tokenizer:
        counts = count_pieces(texts, cutter(self.digits), work, told)
        words = {spelled(piece): count for piece, count in counts.items()}
        seen = {letter for word in words for letter in word}
        # SentencePiece counts its own unknown piece, and knows only letters that occur.
        wanted = max(size - (256 - len(seen)), len(seen)) + 1
        scores = self._fitted(words, wanted, work)
        told("fitting", 1.0)
        rarest = min(scores.values(), default=0.0)
        for letter in ALPHABET:
            scores.setdefault(letter, rarest - UNSEEN)
        ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return byte_level(models.Unigram(ordered), self.digits)

    def _fitted(self, words: dict[str, int], wanted: int, work: Path) -> dict[str, float]:
        """Pieces and the logarithms of their probabilities, as SentencePiece finds them."""
        sentencepiece = _sentencepiece()
        table, seeds, made = work / "pieces.tsv", work / "seeds.tsv", io.BytesIO()
        with write_aside(table) as aside, aside.open("w", encoding="utf-8") as file:
            file.writelines(f"{word}\t{count}\n" for word, count in words.items())
        letters = sorted({letter for word in words for letter in word})
        with write_aside(seeds) as aside, aside.open("w", encoding="utf-8") as file:
            file.writelines(f"{letter}\t1\n" for letter in letters)
            for piece, covered in _seeds(words, self.longest, self.seeds):
                file.write(f"{piece}\t{covered}\n")
        try:
            sentencepiece.SentencePieceTrainer.train(
                input=str(table), input_format="tsv", model_writer=made, model_type="unigram",
                vocab_size=wanted, max_sentencepiece_length=self.longest,
                shrinking_factor=self.shrink, seed_sentencepieces_file=str(seeds),
                character_coverage=1.0, normalization_rule_name="identity",
                add_dummy_prefix=False, remove_extra_whitespaces=False,
                split_by_unicode_script=False, split_by_number=False, split_by_whitespace=False,
                hard_vocab_limit=False, unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, num_threads=1,
                minloglevel=2, max_sentence_length=1 << 20,
            )  # fmt: skip
        except (RuntimeError, OSError) as error:
            raise TokenizerError(f"SentencePiece cannot learn from this corpus: {error}") from error
        table.unlink()
        seeds.unlink()
        model = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
        pieces = range(1, model.get_piece_size())
        return {model.id_to_piece(each): model.get_score(each) for each in pieces}


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise TokenizerError(
            "unigram needs SentencePiece: pip install 'lengthwise[tokenizers]'"
        ) from None
    return sentencepiece


def _seeds(words: dict[str, int], longest: int, most: int) -> list[tuple[str, int]]:
    """The substrings of words that occur at least twice, those that cover most letters first, with
    how many they cover."""
    found: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word) - 1):
            for end in range(start + 2, min(start + longest, len(word)) + 1):
                found[word[start:end]] += count
        if len(found) > 8 * most:
            found = Counter(dict(found.most_common(4 * most)))
    scored = ((piece, count * len(piece)) for piece, count in found.items() if count > 1)
    return sorted(scored, key=lambda item: (-item[1], item[0]))[:most]


__all__ = ["Unigram"]
