"""What checks of models over words and bytes share: the same rows of bytes for all of them.

The text is that of eighteen books (`books.py`), with one space for every run of white space. A row
is whole words of about ROW bytes, each behind it a space; every twentieth block of 32 rows is held
out. Models are small Llamas of transformers unless said otherwise, trained by `byte_models.py`.
FLOPs are those of one forward and backward pass as torch counts them, with attention as products.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from benchmarks.reproduction.books import gutenberg
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from lengthwise.training.byte_models import Fit, bits_of_rows, fit_rows
from lengthwise.training.fitting import written_loss

ROW = 384
_BLOCK, _HELD = 32, 20
Rows = list[list[int]]


@cache
def rows(size: int = 4_000_000) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Rows to train on and rows held out, of so many bytes spread over the books."""
    text = gutenberg()
    parts = 18
    share = len(text) // parts
    made: list[bytes] = []
    for part in range(parts):
        row: list[str] = []
        length = 0
        for word in text[part * share : part * share + size // parts].split():
            row.append(word)
            length += len(word.encode()) + 1
            if length >= ROW:
                made.append((" ".join(row) + " ").encode())
                row, length = [], 0
    held = [row for n, row in enumerate(made) if (n // _BLOCK) % _HELD == 0]
    return tuple(r for n, r in enumerate(made) if (n // _BLOCK) % _HELD), tuple(held)


def some(train: int, held: int) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """So many rows to train on and held out, from all over the books."""
    found = rows()
    return tuple(
        each[:: max(1, len(each) // count)][:count]
        for each, count in zip(found, (train, held), strict=True)
    )  # type: ignore[return-value]


def llama(vocabulary: int, width: int, layers: int, seed: int = 0) -> LlamaForCausalLM:
    """A small one; heads of 32, tied embeddings."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=width * 8 // 3,
        num_hidden_layers=layers, num_attention_heads=width // 32, num_key_value_heads=width // 32,
        tie_word_embeddings=True, max_position_embeddings=1024, use_cache=False,
        bos_token_id=None, eos_token_id=None,
    ))  # fmt: skip


def bpe(texts: Sequence[bytes], size: int) -> Tokenizer:
    """Byte-level BPE whose tokens begin with a space or stand within a word."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(
        (spaced(text) for text in texts),
        trainers.BpeTrainer(
            vocab_size=size, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )  # fmt: skip
    return made


def spaced(row: bytes) -> str:
    """A row with its last space in front, as BPE has spaces: as many bytes."""
    return " " + row.decode()[:-1]


def byte_rows(texts: Sequence[bytes]) -> Rows:
    """Bytes behind id 256, which begins a row."""
    return [[256, *text] for text in texts]


def bpe_rows(tokenizer: Tokenizer, texts: Sequence[bytes]) -> Rows:
    """Tokens behind the id that follows the vocabulary."""
    first = tokenizer.get_vocab_size()
    return [[first, *each.ids] for each in tokenizer.encode_batch([spaced(t) for t in texts])]


def parameters(model: PreTrainedModel) -> int:
    """Weights of a model."""
    return sum(each.numel() for each in model.parameters())


def flops(model: PreTrainedModel, loss: Callable[[], torch.Tensor]) -> int:
    """FLOPs of a forward and backward pass of a loss; gradients are dropped again."""
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    model.zero_grad()
    return int(counter.get_total_flops())


def row_flops(model: PreTrainedModel, batch: Rows) -> float:
    """FLOPs a row of a Llama, mean of a batch, with attention as products."""
    model.set_attn_implementation("eager")
    found = flops(model, lambda: written_loss(model, batch, [1] * len(batch))) / len(batch)
    model.set_attn_implementation("sdpa")
    return found


@dataclass(frozen=True)
class Trial:
    """What a model over rows of tokens came to."""

    bits: float
    steps: int
    flops: float
    parameters: int
    model: PreTrainedModel


def trial(
    make: Callable[[], PreTrainedModel], train: Rows, held: Rows, held_bytes: int, how: Fit,
    budget: float = 0.0,
) -> Trial:  # fmt: skip
    """Trains a model on rows and measures it. budget: FLOPs of the whole training, from which the
    steps follow; 0 takes those of `how`."""
    model = make()
    a_row = row_flops(model, train[: how.batch])
    steps = round(budget / (a_row * how.batch)) if budget else how.steps
    fit_rows(model, train, Fit(steps, how.batch, how.lr, how.clip, how.seed))
    bits = bits_of_rows(model, held) / held_bytes
    return Trial(bits, steps, a_row * how.batch * steps, parameters(model), model)


def in_seconds(seconds: float, fit: Callable[[int], object]) -> tuple[int, float]:
    """Trains for so many CPU seconds of one thread: steps, and the seconds that they took.

    Args:
        seconds: to take. How many steps that is, ten steps say.
        fit: trains a new model for so many steps.
    """
    torch.set_num_threads(1)
    start = time.process_time()
    fit(10)
    count = max(1, round(seconds * 10 / (time.process_time() - start)))
    start = time.process_time()
    fit(count)
    return count, time.process_time() - start


def bits_of_uniform(tokens: int, vocabulary: int, size: int) -> float:
    """Bits a byte of a law under which all ids are equally likely."""
    return tokens * math.log2(vocabulary) / size


__all__ = [
    "ROW",
    "Trial",
    "bits_of_uniform",
    "bpe",
    "bpe_rows",
    "byte_rows",
    "flops",
    "in_seconds",
    "llama",
    "parameters",
    "row_flops",
    "rows",
    "some",
    "spaced",
    "trial",
]
