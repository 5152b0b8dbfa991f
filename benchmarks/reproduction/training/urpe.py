"""URPE and rows of equal tokens, which a bias inside the softmax cannot tell apart.

A decoder of `lengthwise.architectures` reads rows of one token, again and again, and says at each
the parity of its index, or the index itself. Nothing begins a row. Each model is trained on all
WORDS such rows at once by Adam, in a plain loop: a run of the trainer predicts next tokens, and
here these are all equal. float32, CPU; seconds a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean
from typing import Any

import torch
from benchmarks.reproduction.harness import Found, check
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from lengthwise import architectures

LENGTH, WORDS, RATE = 128, 8, 3e-3
SIZES = {"vocab_size": LENGTH, "hidden_size": 64, "intermediate_size": 256,
         "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.1,
         "tie_word_embeddings": False}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "none": {"family": "position_schemes", "scheme": "none"},
    "ALiBi": {"family": "urpe", "bias": "alibi", "scaled": False},
    "T5's bias": {"family": "position_schemes", "scheme": "t5"},
    "rotary": {"family": "position_schemes", "scheme": "rotary"},
    "none, URPE": {"family": "urpe", "bias": "none", "distances": LENGTH},
    "ALiBi, URPE": {"family": "urpe", "bias": "alibi", "distances": LENGTH},
}
CHANCE = {"parity": 1 / 2, "index": 1 - 1 / LENGTH}
"""The error of one answer at all positions."""


def wanted(task: str, length: int) -> Tensor:
    """What is said at each position, int64 `[WORDS, length]`."""
    index = torch.arange(length)
    return (index % 2 if task == "parity" else index).expand(WORDS, -1)


def logits(model: Any, length: int) -> Tensor:
    """Of the rows of equal tokens, `[WORDS, length, vocab]`."""
    found: Tensor = model(input_ids=torch.arange(WORDS)[:, None].expand(-1, length)).logits
    return found


def trained(sizes: dict[str, Any], task: str, steps: int, seed: int) -> Any:
    """A model that has learned a task, as far as it can."""
    torch.manual_seed(seed)
    settings = {**SIZES, **sizes}
    config = AutoConfig.for_model(settings.pop("family"), **settings)
    model = AutoModelForCausalLM.from_config(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    target = wanted(task, LENGTH).flatten()
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(model, LENGTH).flatten(0, 1), target).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def measured(model: Any, task: str) -> tuple[float, float, float]:
    """The share of wrong answers at trained positions and at as many beyond them, and the largest
    deviation of a logit over trained positions."""
    found = logits(model, 2 * LENGTH)
    wrong = (found.argmax(-1) != wanted(task, 2 * LENGTH)).float()
    near, far = wrong[:, :LENGTH], wrong[:, LENGTH:]
    return float(near.mean()), float(far.mean()), float(found[:, :LENGTH].std(1).max())


@check({"bias": "", "task": "", "seeds": "d", "error": ".1%", "lowest": ".1%", "highest": ".1%",
        "chance": ".1%", "error, 129 to 256": ".1%", "deviation": ".1e"})  # fmt: skip
def urpe(steps: int = 500, seeds: int = 3) -> Iterator[Found]:
    """The share of positions of 128 that are answered wrongly, a mean over seeds."""
    architectures.register()
    for task, chance in CHANCE.items():
        for name, sizes in MODELS.items():
            found = [measured(trained(sizes, task, steps, n), task) for n in range(seeds)]
            near, far, deviations = zip(*found, strict=True)
            row = {
                "bias": name, "task": task, "seeds": seeds, "error": mean(near),
                "lowest": min(near), "highest": max(near), "chance": chance,
                "deviation": max(deviations),
            }  # fmt: skip
            # There are as many answers as trained positions: none beyond is among them.
            yield row | ({"error, 129 to 256": mean(far)} if task == "parity" else {})
