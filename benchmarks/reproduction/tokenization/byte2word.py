"""Byte2Word and a WordPiece twin under noise: masked words, then which author wrote a passage.

Passages of 48 words of eight authors out of `books.py`, as many of each; the last tenth of every
author's text is for measuring. Both models have the same BERT backbone of two layers of 128, are
trained on masked words and then on authors. Noise changes a share of the words of two letters and
more: two neighbours change places, a letter is left out, or one is said twice. Case is kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from random import Random
from typing import Any

import torch
from benchmarks.reproduction.books import gutenberg
from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.tokenization import equal
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from lengthwise.architectures.byte2word import (
    Byte2WordConfig,
    Byte2WordForMaskedLM,
    Byte2WordForSequenceClassification,
    bytes_of_words,
    input_weights,
    pieces_of,
)
from lengthwise.training.byte_models import Fit
from lengthwise.training.fitting import IGNORED, fit_batches, padded_ids
from lengthwise.training.masked_words import fit_masked, labels_of, masks, words_of_text

AUTHORS = ("Austen", "Bryant", "Chesterton", "Edgeworth", "Melville", "Milton", "Shakespeare",
           "Whitman")  # fmt: skip
WORDS, SUBWORDS, LONGEST, SHARE = 48, 4096, 32, 0.15
# At 1e-3 both models ended at chance on authors: training on masked words had collapsed.
RATE = 3e-4
BACKBONE = {
    "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256, "num_labels": len(AUTHORS), "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
Passage = tuple[list[str], int]


@cache
def passages(train: int, test: int) -> tuple[list[Passage], list[Passage]]:
    """So many passages of each author, to train on and to measure by, mixed."""
    texts = dict.fromkeys(AUTHORS, "")
    for book in re.split(r"^(?=\[[^\]\n]+ by [^\]\n]+\])", gutenberg(), flags=re.M):
        title = book.partition("]")[0]
        author = next((name for name in AUTHORS if name in title), None)
        if author:
            texts[author] += book.partition("]")[2]
    parts: tuple[list[Passage], list[Passage]] = [], []
    for label, author in enumerate(AUTHORS):
        words, _ = words_of_text(texts[author], LONGEST)
        rows = [words[at : at + WORDS] for at in range(0, len(words) - WORDS + 1, WORDS)]
        border = len(rows) * 9 // 10
        for part, some, count in zip(
            parts, (rows[:border], rows[border:]), (train, test), strict=True
        ):
            part += [(row, label) for row in some[:: max(1, len(some) // count)][:count]]
        Random(0).shuffle(parts[0])
    return parts


def wordpiece(rows: Sequence[list[str]]) -> Tokenizer:
    """A WordPiece vocabulary of SUBWORDS, case kept."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=LONGEST))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator((" ".join(row) for row in rows), trainers.WordPieceTrainer(
        vocab_size=SUBWORDS, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[MASK]"],
        show_progress=False,
    ))  # fmt: skip
    return made


def noisy(share: float, chance: Random) -> Callable[[str], str]:
    """What changes a share of the words of two letters and more."""

    def changed(word: str) -> str:
        if len(word) < 2 or chance.random() >= share:
            return word
        at = chance.randrange(len(word) - 1)
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return chance.choice((swapped, word[:at] + word[at + 1 :], word[: at + 1] + word[at:]))

    return changed


class Bytes:
    """Byte2Word."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        torch.manual_seed(0)
        self.tokenizer = tokenizer
        self.config = Byte2WordConfig(
            vocab_size=tokenizer.get_vocab_size(), byte_size=64, longest=LONGEST, **BACKBONE
        )
        self.masked = Byte2WordForMaskedLM(self.config)
        self.classes = Byte2WordForSequenceClassification(self.config)

    def input_side(self) -> int:
        return input_weights(self.config)

    def pre_train(self, rows: Sequence[list[str]], how: Fit) -> None:
        fit_masked(self.masked, self.tokenizer, rows, how, SHARE)
        self.classes.reader.load_state_dict(self.masked.reader.state_dict())

    def masked_loss(self, rows: Sequence[list[str]], hidden: Tensor,
                    seen: Sequence[list[str]] | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Nats a hidden word, and which words are said right."""
        labels, _ = labels_of(rows, self.tokenizer, self.config.slots)
        out = self.masked(self._words(seen or rows), hidden, labels)
        return out.loss, (out.logits.argmax(-1) == labels[hidden]).all(-1)

    def logits(self, rows: Sequence[list[str]]) -> Tensor:
        found: Tensor = self.classes(self._words(rows)).logits
        return found

    def _words(self, rows: Sequence[list[str]]) -> Tensor:
        cut = [[pieces_of([word], LONGEST)[0][0] for word in row] for row in rows]
        return bytes_of_words(cut, LONGEST)


class Pieces:
    """The twin: the same backbone over WordPiece's subwords, whole words masked."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        torch.manual_seed(0)
        self.tokenizer = tokenizer
        config = BertConfig(vocab_size=tokenizer.get_vocab_size(), **BACKBONE)
        self.masked = BertForMaskedLM(config)
        self.classes = BertForSequenceClassification(config)
        self.mask, self.cls = (tokenizer.token_to_id(name) for name in ("[MASK]", "[CLS]"))

    def input_side(self) -> int:
        return int(self.masked.get_input_embeddings().weight.numel())

    def pre_train(self, rows: Sequence[list[str]], how: Fit) -> None:
        chance = Random(how.seed)
        fit_batches(
            self.masked, lambda some: self.masked_loss(some, masks(some, SHARE, chance))[0], rows,
            how, warmup=how.warmup,
        )  # fmt: skip
        self.classes.bert.load_state_dict(self.masked.bert.state_dict(), strict=False)

    def masked_loss(self, rows: Sequence[list[str]], hidden: Tensor,
                    seen: Sequence[list[str]] | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        """As of Byte2Word; but a hidden word shows how many subwords it has."""
        ids, labels, spans = [], [], []
        for row, shown, mask in zip(rows, seen or rows, hidden.tolist(), strict=True):
            ids.append([self.cls])
            labels.append([IGNORED])
            for word, other, is_hidden in zip(row, shown, mask, strict=False):
                pieces = self._pieces(word if is_hidden else other)
                if is_hidden:
                    spans.append((len(ids) - 1, len(ids[-1]), len(pieces)))
                ids[-1] += [self.mask] * len(pieces) if is_hidden else pieces
                labels[-1] += pieces if is_hidden else [IGNORED] * len(pieces)
        wanted = padded_ids(labels, torch.device("cpu"), IGNORED)
        logits = self.masked(**self._read(ids)).logits
        nats = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        good = logits.argmax(-1) == wanted
        right = torch.tensor([bool(good[r, at : at + n].all()) for r, at, n in spans])
        return nats / len(spans), right

    def logits(self, rows: Sequence[list[str]]) -> Tensor:
        ids = [[self.cls, *(i for word in row for i in self._pieces(word))] for row in rows]
        found: Tensor = self.classes(**self._read(ids)).logits
        return found

    def _pieces(self, word: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(word, add_special_tokens=False).ids
        return found

    def _read(self, ids: list[list[int]]) -> dict[str, Tensor]:
        cut = [row[: BACKBONE["max_position_embeddings"]] for row in ids]
        there = [[1] * len(row) for row in cut]
        device = torch.device("cpu")
        return {"input_ids": padded_ids(cut, device, 0),
                "attention_mask": padded_ids(there, device, 0)}  # fmt: skip


COLUMNS = {"model": "", "at equal": "", "input weights": "d", "weights": "d", "steps": "d",
           "FLOPs": ".3g", "masked, clean": ".1%", "masked, noise .1": ".1%",
           "bits a byte": ".2f", "author, clean": ".1%", "noise .1": ".1%",
           "noise .3": ".1%"}  # fmt: skip


@check(COLUMNS)
def byte2word(
    steps: int = 300, tune: int = 300, batch: int = 16, train: int = 700, test: int = 80
) -> Iterator[Found]:
    """Masked words and authors, with and without noise, at equal bytes and equal FLOPs."""
    own, held = passages(train, test)
    rows = [row for row, _ in own]
    tokenizer = wordpiece(rows)
    budget = 0.0
    for name, kind, at in (("WordPiece", Pieces, "bytes"), ("Byte2Word", Bytes, "bytes"),
                           ("Byte2Word", Bytes, "FLOPs")):  # fmt: skip
        made: Any = kind(tokenizer)
        hidden = masks(rows[:batch], SHARE, Random(0))
        a_step = float(equal.flops(made.masked, lambda: made.masked_loss(rows[:batch], hidden)[0]))  # noqa: B023
        budget = budget or a_step * steps
        count = steps if at == "bytes" else round(budget / a_step)
        made.pre_train(rows, Fit(count, batch, RATE))
        _tune(made, own, Fit(tune, batch, RATE))
        yield {
            "model": name, "at equal": at, "input weights": made.input_side(),
            "weights": equal.parameters(made.masked), "steps": count, "FLOPs": a_step * count,
            **_measured(made, held),
        }  # fmt: skip
    large = Byte2WordConfig()
    yield Note({
        "input weights at BERT's size": input_weights(large),
        "of BERT's table": input_weights(large) / (30522 * 768),
    })  # fmt: skip


@check({**COLUMNS, "CPU seconds": ".0f"})
def seconds(
    seconds: float = 300.0, lr: float = RATE, tune: int = 300, batch: int = 16, train: int = 700,
    test: int = 80,
) -> Iterator[Found]:  # fmt: skip
    """The same at equal seconds of training on masked words on one core, for a machine that does
    nothing else. The rate rises over a tenth of the steps: without that it is too high for both."""
    own, held = passages(train, test)
    rows = [row for row, _ in own]
    tokenizer = wordpiece(rows)
    for name, kind in (("WordPiece", Pieces), ("Byte2Word", Bytes)):
        made: Any = kind(tokenizer)
        hidden = masks(rows[:batch], SHARE, Random(0))
        a_step = float(equal.flops(made.masked, lambda: made.masked_loss(rows[:batch], hidden)[0]))  # noqa: B023

        def fit(steps: int) -> None:
            nonlocal made
            made = kind(tokenizer)  # noqa: B023
            made.pre_train(rows, Fit(steps, batch, lr, warmup=steps // 10))

        count, spent = equal.in_seconds(seconds, fit)
        _tune(made, own, Fit(tune, batch, RATE))
        yield {
            "model": name, "at equal": "seconds", "input weights": made.input_side(),
            "weights": equal.parameters(made.masked), "steps": count, "FLOPs": a_step * count,
            **_measured(made, held), "CPU seconds": spent,
        }  # fmt: skip


def _tune(made: Any, own: Sequence[Passage], how: Fit) -> None:
    def loss_of(some: Sequence[Passage]) -> Tensor:
        labels = torch.tensor([label for _, label in some])
        return torch.nn.functional.cross_entropy(made.logits([row for row, _ in some]), labels)

    fit_batches(made.classes, loss_of, own, how)


@torch.inference_mode()
def _measured(made: Any, held: Sequence[Passage]) -> dict[str, float]:
    rows, labels = [row for row, _ in held], torch.tensor([label for _, label in held])
    found: dict[str, float] = {}
    for share, column in ((0.0, "author, clean"), (0.1, "noise .1"), (0.3, "noise .3")):
        change = noisy(share, Random(1))
        shown = [[change(word) for word in row] for row in rows]
        parts = [made.logits(shown[at : at + 32]) for at in range(0, len(shown), 32)]
        found[column] = float((torch.cat(parts).argmax(-1) == labels).float().mean())
    for share, column in ((0.0, "masked, clean"), (0.1, "masked, noise .1")):
        change = noisy(share, Random(2))
        chance, right, nats, size = Random(3), [], 0.0, 0
        for at in range(0, len(rows), 32):
            some = rows[at : at + 32]
            hidden = masks(some, SHARE, chance)
            shown = [[change(word) for word in row] for row in some]
            loss, good = made.masked_loss(some, hidden, shown)
            right += good.tolist()
            nats += float(loss) * len(good)
            size += sum(len(some[r][w].encode()) for r, w in hidden.nonzero().tolist())
        found[column] = sum(right) / len(right)
        if not share:
            found["bits a byte"] = nats / math.log(2) / size
    return found


__all__ = ["byte2word", "seconds"]
