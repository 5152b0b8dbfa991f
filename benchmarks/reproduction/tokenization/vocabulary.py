"""How large a vocabulary little models deserve: sizes and vocabularies at equal operations, on the
books of Project Gutenberg."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.reproduction.books import gutenberg
from benchmarks.reproduction.harness import Found, Note, check
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from lengthwise.scaling.fit import fit_law
from lengthwise.scaling.law import ScalingError, find_law
from lengthwise.scaling.vocabulary import tokens_per_character
from lengthwise.training.fitting import fit_batches, padded_ids, written_loss

SIZES = ((48, 2), (96, 3), (160, 4))
LENGTH = 128


@dataclass(frozen=True)
class Rates:
    """How a model is trained; see `training/fitting.py`."""

    steps: int
    batch: int = 8
    lr: float = 3e-3
    clip: float = 1.0
    seed: int = 0


@cache
def _texts() -> tuple[str, str]:
    """Four million characters to train on, spread over the books, and 200,000 held out."""
    text, size = gutenberg(), 10_000
    blocks = [text[at : at + size] for at in range(0, len(text), size)]
    held = [block for number, block in enumerate(blocks) if number % 20 == 7]
    rest = [block for number, block in enumerate(blocks) if number % 20 != 7]
    return "".join(rest[:: max(1, len(rest) // 400)][:400]), "".join(held[:20])


@cache
def tokenizer(size: int) -> Tokenizer:
    """BPE over bytes of the text that is trained on."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator([_texts()[0]], trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    ))  # fmt: skip
    return made


@cache
def _ids(size: int, held: bool) -> list[int]:
    return list(tokenizer(size).encode(_texts()[held]).ids)


@check(
    {"Nnv": "d", "V": "d", "operations": ".1e", "tokens": "d", "L_u": ".4f", "bits a byte": ".4f"},
    best={"Nnv": "d", "operations": ".1e", "V by L_u": "d", "V by bits": "d"},
    tokens={"V": "d", "tokens a character": ".4f", "the paper's f(V)": ".4f", "fitted": ".4f"},
)
def vocabulary(
    budgets: tuple[float, ...] = (1e11, 3e11),
    vocabularies: tuple[int, ...] = (384, 1024, 2048, 4096, 8192),
) -> Iterator[Found]:
    """Unigram-normalised loss and bits a byte of every size, vocabulary and budget of operations;
    the vocabulary of the least; tokens a character against the paper's curve, and one fitted."""
    rows: list[dict[str, float]] = []
    for width, layers in SIZES:
        for budget in budgets:
            alike = [_trained(width, layers, size, budget) for size in vocabularies]
            rows += alike
            for row in alike:
                shown = ("Nnv", "V", "operations", "tokens", "L_u", "bits a byte")
                yield {name: row[name] for name in shown}
            yield "best", {
                "Nnv": alike[0]["Nnv"], "operations": budget,
                "V by L_u": min(alike, key=lambda row: row["L_u"])["V"],
                "V by bits": min(alike, key=lambda row: row["bits a byte"])["V"],
            }  # fmt: skip
    logs = np.log(vocabularies)
    found = [len(_ids(size, True)) / len(_texts()[1]) for size in vocabularies]
    curve = np.polyfit(logs, found, 2)
    for size, share, fitted in zip(vocabularies, found, np.polyval(curve, logs), strict=True):
        yield "tokens", {
            "V": size, "tokens a character": share,
            "the paper's f(V)": float(tokens_per_character(size)), "fitted": float(fitted),
        }  # fmt: skip
    columns = {
        name: np.array([row[key] for row in rows])
        for name, key in (("Nnv", "Nnv"), ("V", "V"), ("d", "d"), ("D", "tokens"), ("L_u", "L_u"))
    }
    yield Note({"f(V) fitted": [round(float(each), 6) for each in curve]})
    try:
        law = fit_law(find_law("vocabulary"), columns, bootstrap=0)
    except ScalingError as error:
        yield Note({"law": str(error)})
        return
    yield Note({"law": {name: round(each, 4) for name, each in law.values.items()}})
    yield Note({"rms of the law": round(law.rms, 4), "R2": round(law.r2, 4)})


def _trained(width: int, layers: int, size: int, budget: float) -> dict[str, float]:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=size, hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=layers, num_attention_heads=width // 16,
        num_key_value_heads=width // 16, tie_word_embeddings=True, max_position_embeddings=LENGTH,
        bos_token_id=None, eos_token_id=None,
    ))  # fmt: skip
    embedding = size * width
    rest = sum(each.numel() for each in model.parameters()) - embedding
    rates = Rates(max(1, round(budget / (6 * (rest + embedding)) / (Rates(1).batch * LENGTH))))
    train, held = _ids(size, False), _ids(size, True)
    cut = [train[at : at + LENGTH] for at in range(0, len(train) - LENGTH, LENGTH)]
    fit_batches(model, lambda batch: written_loss(model, batch, [1] * len(batch)), cut, rates)
    counts = Counter(train)
    law = torch.tensor([math.log((counts[n] + 1) / (len(train) + size)) for n in range(size)])
    nats, unigram, seen = _losses(model, held, law)
    return {
        "Nnv": rest, "V": size, "d": width, "operations": budget,
        "tokens": rates.steps * rates.batch * LENGTH, "L_u": nats + unigram,
        "bits a byte": nats * seen / math.log(2) / _bytes(size, held),
    }  # fmt: skip


@torch.inference_mode()
def _losses(
    model: LlamaForCausalLM, held: Sequence[int], law: torch.Tensor
) -> tuple[float, float, int]:
    """Mean loss of a model, mean log-probability under a law of single tokens, and tokens: all but
    the first of each row."""
    rows = [held[at : at + LENGTH] for at in range(0, len(held) - LENGTH, LENGTH)]
    nats, logs, seen = [], [], 0
    for at in range(0, len(rows), 32):
        ids = padded_ids(rows[at : at + 32], torch.device("cpu"), 0)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        nats.append(float(F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())) * len(ids))
        logs.append(float(law[ids[:, 1:]].mean()) * len(ids))
        seen += ids[:, 1:].numel()
    return sum(nats) / len(rows), sum(logs) / len(rows), seen


def _bytes(size: int, held: Sequence[int]) -> int:
    """Bytes of what is scored: rows without their first token."""
    spelled = tokenizer(size)
    # Of a byte-level tokenizer each character of a token stands for one byte.
    lengths = [len(spelled.id_to_token(n) or "") for n in range(size)]
    rows = [held[at : at + LENGTH] for at in range(0, len(held) - LENGTH, LENGTH)]
    return sum(lengths[token] for row in rows for token in row[1:])
