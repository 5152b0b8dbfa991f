"""Training of Byte2Word: masked words of bytes that say their subwords.

Lee et al., "Word-Level Representation From Bytes For Language Modeling", 2022, arXiv:2211.12677.

The model is `architectures/byte2word.py`. Of every row a share of the words is hidden, all bytes of
each, and their states say the subwords that a fixed tokenizer has for them.

Ours: a hidden word is always hidden, where BERT leaves one in ten as it is and changes another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor

from lengthwise._utils.utf8 import utf8
from lengthwise.architectures.byte2word import Byte2WordForMaskedLM, bytes_of_words, pieces_of
from lengthwise.training.byte_models import Fit, silent
from lengthwise.training.config import TrainingError
from lengthwise.training.fitting import fit_batches

Told = Callable[[int, float], None]
Row = list[str]
_TOGETHER = 32


@dataclass(frozen=True)
class MaskedScore:
    """How well masked words are said.

    Attributes:
        right: share of masked words whose every subword is the likeliest.
        bits: a byte of the masked words, all their slots together.
        cut: words of the text that were longer than allowed, and are several here.
        short: words that have more subwords than slots; only the first of them are said.
    """

    right: float
    bits: float
    cut: int
    short: int


def words_of_text(text: str, longest: int) -> tuple[Row, int]:
    """Words of a text as BERT's splitter has them, and how many were cut.

    Args:
        text: any that UTF-8 can write.
        longest: bytes of a word.

    Raises:
        TokenizerError: for half a surrogate pair.
    """
    utf8(text)
    return pieces_of([word for word, _ in BertPreTokenizer().pre_tokenize_str(text)], longest)


def labels_of(rows: Seq[Row], tokenizer: Tokenizer, slots: int) -> tuple[Tensor, int]:
    """Subwords of every word, int64 `[rows, words, slots]`, and how many words have more.

    Args:
        rows: words.
        tokenizer: whose subwords are said; its size is the class for none.
        slots: of a word.
    """
    none = tokenizer.get_vocab_size()
    count = max(map(len, rows), default=0)
    found = torch.full((len(rows), count, slots), none, dtype=torch.long)
    known: dict[str, list[int]] = {}
    short = 0
    for row, words in zip(found, rows, strict=True):
        for place, word in enumerate(words):
            if word not in known:
                known[word] = tokenizer.encode(word, add_special_tokens=False).ids
            ids = known[word]
            short += len(ids) > slots
            row[place, : min(len(ids), slots)] = torch.tensor(ids[:slots])
    return found, short


def masks(rows: Seq[Row], share: float, chance: Random) -> Tensor:
    """Words to hide, bool `[rows, words]`; one at least in every row.

    Args:
        rows: words.
        share: of the words of a row.
        chance: what is drawn from.
    """
    found = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.bool)
    for row, words in zip(found, rows, strict=True):
        row[chance.sample(range(len(words)), max(1, round(share * len(words))))] = True
    return found


def fit_masked(
    model: Byte2WordForMaskedLM, tokenizer: Tokenizer, rows: Seq[Row], how: Fit,
    share: float = 0.15, told: Told = silent,
) -> None:  # fmt: skip
    """Trains on rows of words, in place.

    Args:
        model: with as many ids as the tokenizer.
        tokenizer: whose subwords are said.
        rows: words of each.
        how: steps and rates.
        share: of words that are hidden; BERT's.
        told: called with each step and its loss in nats a hidden word.

    Raises:
        TrainingError: where there is no row, or sizes do not agree.
    """
    _check(model, tokenizer, rows, share)
    chance, config = Random(how.seed), model.config

    def loss_of(some: Seq[Row]) -> Tensor:
        labels, _ = labels_of(some, tokenizer, config.slots)
        words = bytes_of_words(some, config.longest)
        found: Tensor = model(words, masks(some, share, chance), labels).loss
        return found

    fit_batches(model, loss_of, rows, how, told, how.warmup)


@torch.inference_mode()
def score_masked(
    model: Byte2WordForMaskedLM, tokenizer: Tokenizer, rows: Seq[Row], share: float = 0.15,
    seed: int = 0, shown: Callable[[str], str] = lambda word: word,
) -> MaskedScore:  # fmt: skip
    """How well hidden words of rows are said.

    Args:
        model: that says them.
        tokenizer: whose subwords are said.
        rows: words of each.
        share: of words that are hidden.
        seed: of what is drawn.
        shown: how a word that is not hidden is spelled, such as with noise.
    """
    _check(model, tokenizer, rows, share)
    chance, config = Random(seed), model.config
    nats, right, count, size, short = 0.0, 0, 0, 0, 0
    for first in range(0, len(rows), _TOGETHER):
        some = rows[first : first + _TOGETHER]
        labels, more = labels_of(some, tokenizer, config.slots)
        hidden = masks(some, share, chance)
        seen = [[pieces_of([shown(word)], config.longest)[0][0] for word in row] for row in some]
        out = model(bytes_of_words(seen, config.longest), hidden, labels)
        wanted = labels[hidden]
        right += int((out.logits.argmax(-1) == wanted).all(-1).sum())
        nats += float(out.loss) * len(wanted)
        count, short = count + len(wanted), short + more
        size += sum(
            len(word.encode())
            for row, mask in zip(some, hidden.tolist(), strict=True)
            for word, is_hidden in zip(row, mask, strict=False)
            if is_hidden
        )
    return MaskedScore(right / count, nats / math.log(2) / size, 0, short)


def train_byte2word(
    model: Byte2WordForMaskedLM, tokenizer: Tokenizer, text: str, held_out: str,
    how: Fit | None = None, words: int = 64, share: float = 0.15, told: Told = silent,
) -> MaskedScore:  # fmt: skip
    """Trains on a text, in place; how well hidden words of a held-out text are said.

    Args:
        model: with as many ids as the tokenizer.
        tokenizer: whose subwords are said, such as a WordPiece one.
        text: to train on.
        held_out: another text.
        how: steps and rates; None takes 400 steps at 3e-4, as a BERT learns at lower rates.
        words: of a row.
        share: of words that are hidden.
        told: called with each step and its loss in nats a hidden word.

    Raises:
        TrainingError: for an empty text, rows that the model cannot read, or sizes that do not
            agree.
    """
    most = model.config.max_position_embeddings - 1
    if not 1 <= words <= most:
        raise TrainingError(f"words={words}: this model reads rows of 1 to {most} words")
    parts = [words_of_text(each, model.config.longest) for each in (text, held_out)]
    rows, test = (
        [found[at : at + words] for at in range(0, len(found), words)] for found, _ in parts
    )
    _check(model, tokenizer, test, share)
    fit_masked(model, tokenizer, rows, how or Fit(lr=3e-4), share, told)
    found = score_masked(model, tokenizer, test, share)
    return MaskedScore(found.right, found.bits, parts[1][1], found.short)


def _check(model: Byte2WordForMaskedLM, tokenizer: Tokenizer, rows: Seq[Row], share: float) -> None:
    if not rows or not all(rows):
        raise TrainingError("there is no word to train on or to measure: give more text")
    if not 0 < share <= 1:
        raise TrainingError(f"share={share}: above 0 and at most 1")
    ids = tokenizer.get_vocab_size()
    if model.config.vocab_size != ids:
        raise TrainingError(
            f"the model says {model.config.vocab_size} subwords and the tokenizer has {ids}: make "
            f"the model with vocab_size={ids}"
        )


__all__ = [
    "MaskedScore",
    "fit_masked",
    "labels_of",
    "masks",
    "score_masked",
    "train_byte2word",
    "words_of_text",
]
