"""Words pooled from bytes against bytes and BPE: whole words spelled right, and bits a byte.

`equal.py` says what rows are; every model reads the same ones. A word is right where the likeliest
units spell it and end it, given the true text before: bytes with the space behind, BPE tokens with
a token behind that begins with a space, units with their end. The last word of a row counts for
none. `rare` are words seen fewer than FEW times in training, `new` those never seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.tokenization import equal
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from lengthwise.architectures.learn_your_tokens import LearnYourTokens, LearnYourTokensConfig
from lengthwise.architectures.word_units import SPACE, joined, units_of
from lengthwise.training.byte_models import Fit, bits_of_rows, bits_of_words, fit_rows, fit_words

WIDTH, BPE, FEW = 64, 1024, 10
Rows = Sequence[Any]


@dataclass(frozen=True)
class Way:
    """A kind of model: how one is made, what it reads, trains by, costs and spells."""

    make: Callable[[], PreTrainedModel]
    read: Callable[[Sequence[bytes]], Rows]
    fit: Callable[[Any, Rows, Fit], None]
    bits: Callable[[Any, Rows], float]
    flops: Callable[[Any, Rows], float]
    right: Callable[[Any, Rows], list[list[bool]]]


def pooled(vectors: int, longest: int = 16) -> Way:
    """Learn Your Tokens, with 2 + 2 + 2 layers."""

    def make() -> PreTrainedModel:
        torch.manual_seed(0)
        return LearnYourTokens(LearnYourTokensConfig(
            longest=longest, vectors=vectors, word_layers=2, hidden_size=WIDTH,
            intermediate_size=4 * WIDTH, num_hidden_layers=2, num_attention_heads=2,
        ))  # fmt: skip

    def read(texts: Sequence[bytes]) -> list[Tensor]:
        return [units_of(text, longest, stops=False).units for text in texts]

    def flops(model: Any, rows: Rows) -> float:
        return equal.flops(model, lambda: model.spelled(joined(rows))[0].sum()) / len(rows)

    return Way(make, read, fit_words, bits_of_words, flops, _right_units)


def tokens(make: Callable[[], PreTrainedModel], read: Callable[[Sequence[bytes]], Rows],
           right: Callable[[Any, Rows], list[list[bool]]]) -> Way:  # fmt: skip
    """A Llama over rows of tokens."""
    return Way(make, read, fit_rows, bits_of_rows, equal.row_flops, right)


def ways(train: Sequence[bytes]) -> dict[str, Way]:
    """All that are compared, that over bytes first."""
    tokenizer = equal.bpe(train, BPE)
    return {
        "bytes": tokens(lambda: equal.llama(257, WIDTH, 6), equal.byte_rows, _right_bytes),
        "BPE": tokens(
            lambda: equal.llama(BPE + 1, WIDTH, 5), lambda texts: equal.bpe_rows(tokenizer, texts),
            lambda model, rows: _right_bpe(model, rows, tokenizer),
        ),
        "words, K=1": pooled(1),
        "words, K=4": pooled(4),
    }  # fmt: skip


COLUMNS = {"model": "", "at equal": "", "weights": "d", "steps": "d", "FLOPs": ".3g",
           "bits a byte": ".3f", "words right": ".1%", "rare": ".2%", "new": ".2%"}  # fmt: skip


@check(COLUMNS)
def learn_your_tokens(
    steps: int = 200, batch: int = 4, train_on: int = 3000, held: int = 150
) -> Iterator[Found]:
    """Bits a byte and whole words at equal bytes, and at the FLOPs of the model over bytes."""
    train, test = equal.some(train_on, held)
    budget, how = 0.0, Fit(steps=steps, batch=batch)
    for name, way in ways(train).items():
        rows = way.read(train)
        a_step = way.flops(way.make(), rows[:32]) * batch
        budget = budget or a_step * steps
        for at in ("bytes", "FLOPs") if name != "bytes" else ("bytes",):
            count = steps if at == "bytes" else round(budget / a_step)
            model = way.make()
            way.fit(model, rows, Fit(steps=count, batch=batch, lr=how.lr))
            yield {"model": name, "at equal": at, "steps": count, "FLOPs": a_step * count,
                   **_measured(way, model, train, test)}  # fmt: skip


@check({**COLUMNS, "CPU seconds": ".0f"})
def seconds(
    seconds: int = 60, batch: int = 4, train_on: int = 3000, held: int = 150
) -> Iterator[Found]:
    """The same at equal seconds of one core; for a machine that does nothing else."""
    train, test = equal.some(train_on, held)
    for name, way in ways(train).items():
        rows = way.read(train)
        model = way.make()
        a_step = way.flops(model, rows[:32]) * batch

        def fit(steps: int) -> None:
            nonlocal model
            model = way.make()  # noqa: B023
            way.fit(model, rows, Fit(steps=steps, batch=batch))  # noqa: B023

        count, spent = equal.in_seconds(seconds, fit)
        yield {"model": name, "at equal": "seconds", "steps": count, "FLOPs": a_step * count,
               "CPU seconds": spent, **_measured(way, model, train, test)}  # fmt: skip


def _measured(
    way: Way, model: PreTrainedModel, train: Sequence[bytes], test: Sequence[bytes]
) -> dict[str, Any]:
    seen = Counter(word for text in train for word in text.split())
    rows = way.read(test)
    words = [word for text in test for word in text.split()[:-1]]
    right = [each for row in way.right(model, rows) for each in row[:-1]]
    pairs = list(zip(words, right, strict=True))
    rare = [hit for word, hit in pairs if seen[word] < FEW]
    new = [hit for word, hit in pairs if not seen[word]]
    return {
        "weights": equal.parameters(model), "bits a byte": way.bits(model, rows)
        / sum(map(len, test)), "words right": sum(right) / len(right),
        "rare": sum(rare) / len(rare), "new": sum(new) / len(new),
    }  # fmt: skip


@torch.inference_mode()
def _likeliest(model: PreTrainedModel, row: list[int]) -> list[int]:
    """What the model would write in the place of each token but the first."""
    found: list[int] = model(input_ids=torch.tensor([row])).logits[0, :-1].argmax(-1).tolist()
    return found


def _right_bytes(model: PreTrainedModel, rows: Rows) -> list[list[bool]]:
    found = []
    for row in rows:
        words, good = [], True
        for wanted, said in zip(row[1:], _likeliest(model, row), strict=True):
            good &= wanted == said
            if wanted == 32:
                words.append(good)
                good = True
        found.append(words)
    return found


def _right_bpe(model: PreTrainedModel, rows: Rows, tokenizer: Tokenizer) -> list[list[bool]]:
    begins = {i for token, i in tokenizer.get_vocab().items() if token.startswith("\u0120")}
    found = []
    for row in rows:
        words: list[bool] = []
        for wanted, said in zip(row[1:], _likeliest(model, row), strict=True):
            if wanted in begins:
                if words:
                    words[-1] &= said in begins
                words.append(True)
            words[-1] &= wanted == said
        found.append(words)
    return found


@torch.inference_mode()
def _right_units(model: Any, rows: Rows) -> list[list[bool]]:
    found = []
    for row in rows:
        words, good = [], True
        for units, hit in zip(row.tolist(), model.spelled(row[None])[1][0].tolist(), strict=True):
            good &= hit
            if SPACE in units:
                words.append(good)
                good = True
        found.append(words)
    return found


__all__ = ["learn_your_tokens", "seconds"]
