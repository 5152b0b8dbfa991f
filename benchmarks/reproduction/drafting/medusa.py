"""Medusa: three heads trained here, how often each is right, and tokens a round."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from benchmarks.reproduction.drafting.asking import adapted
from benchmarks.reproduction.drafting.trained_heads import (
    HELD,
    PLACES,
    ROW,
    STEPS,
    Texts,
    rounds,
    texts,
    trained,
    write,
)
from benchmarks.reproduction.harness import Found, Note, check
from torch import Tensor, nn

from lengthwise.methods.drafting.medusa import Heads, Medusa
from lengthwise.models.adapted_model import AdaptedModel

HEADS = 3


def train(model: AdaptedModel, rows: Texts, folder: Path) -> list[float]:
    """Medusa-1: the heads alone, with the model's own output weights, loss weighted by 0.8^k."""
    out = model.model.lm_head.weight.detach()
    size = out.shape[1]
    blocks = [nn.Linear(size, size) for _ in range(HEADS)]
    for block in blocks:
        nn.init.zeros_(block.weight)
        nn.init.zeros_(block.bias)
    optimizer = torch.optim.AdamW([p for b in blocks for p in b.parameters()], lr=1e-3)
    losses = []
    for step in range(STEPS):
        ids, states = rows[step % len(rows)]
        start = 128 * (step // len(rows) % 2)
        x, found = states[start : start + 120], torch.zeros(())
        for k, block in enumerate(blocks, 1):
            wanted = ids[start + k + 1 : start + k + 121]
            kept = x[: len(wanted)]
            loss = F.cross_entropy(F.linear(kept + F.silu(block(kept)), out), wanted)
            found = found + 0.8**k * loss
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        losses.append(float(found.detach()))
    weights: dict[str, Tensor] = {}
    for k, block in enumerate(blocks):
        weights |= {
            f"{k}.0.linear.weight": block.weight.detach(),
            f"{k}.0.linear.bias": block.bias.detach(), f"{k}.1.weight": out.clone(),
        }  # fmt: skip
    write(folder, {"medusa_num_heads": HEADS, "medusa_num_layers": 1}, weights,
           "medusa_lm_head.safetensors")  # fmt: skip
    return losses


def accuracy(model: AdaptedModel, folder: Path, held: Texts) -> list[float]:
    """Of each head, the share of its likeliest tokens that the text has there."""
    heads: Heads = Medusa(path=str(folder)).heads(model)
    right, total = [0] * HEADS, [0] * HEADS
    for ids, states in held:
        for place in range(0, ROW - HEADS - 2, 4):
            for k, token in enumerate(heads(states[place]).argmax(-1).tolist()):
                right[k] += token == int(ids[place + k + 2])
                total[k] += 1
    return [round(r / t, 3) for r, t in zip(right, total, strict=True)]


@check({"": "", **{f"head {n}": ".3f" for n in range(1, HEADS + 1)}},
       rounds={"": "", **dict.fromkeys(PLACES, ".2f")})  # fmt: skip
def medusa(folder: Path) -> Iterator[Found]:
    """Accuracy by head on text that was not trained on, and tokens a round."""
    losses = trained(train, folder)
    yield Note(loss_first_and_last=losses)
    held = texts()[-HELD:]
    right = accuracy(adapted(), folder, held)
    yield {"": "right, of the tokens 2, 3 and 4 places on",
           **{f"head {n}": share for n, share in enumerate(right, 1)}}  # fmt: skip
    for row in rounds(Medusa(path=str(folder)), held):
        yield "rounds", row
