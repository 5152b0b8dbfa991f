"""EAGLE: a layer trained here, how often it chooses as the model does, and tokens a round."""

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
from torch import nn
from transformers import DynamicCache

from lengthwise.methods.drafting.eagle import Checkpoint, DraftLayer, Eagle
from lengthwise.models.adapted_model import AdaptedModel


def train(model: AdaptedModel, rows: Texts, folder: Path) -> list[float]:
    """EAGLE: the state that follows (SmoothL1) and the cross entropy of its token.

    It begins as a layer that gives back the state it reads: attention and MLP of the model's last
    layer, whose outputs add nothing yet.
    """
    config = model.model.config
    size, head_dim, key_heads = config.hidden_size, config.head_dim, config.num_key_value_heads
    own = {
        key.removeprefix("model."): value.detach().clone()
        for key, value in model.model.state_dict().items()
        if key.startswith("model.layers.29.") and "input_layernorm" not in key
    }
    weights = {key.replace("layers.29", "layers.0"): value for key, value in own.items()}
    for key in ("self_attn.o_proj", "mlp.down_proj"):
        weights[f"layers.0.{key}.weight"].zero_()
    weights["fc.weight"] = torch.cat([torch.zeros(size, size), torch.eye(size)], 1)
    settings = {
        "hidden_size": size, "intermediate_size": config.intermediate_size, "head_dim": head_dim,
        "num_attention_heads": config.num_attention_heads, "num_key_value_heads": key_heads,
        "hidden_act": config.hidden_act, "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_parameters["rope_theta"],
        "max_position_embeddings": config.max_position_embeddings,
    }  # fmt: skip
    layer = DraftLayer(Checkpoint("here", settings, weights), model)
    layer.fc = nn.Parameter(layer.fc)
    learned = [layer.fc, *layer.net.parameters()]
    for each in learned:
        each.requires_grad_(True)
    optimizer = torch.optim.AdamW(learned, lr=1e-3, weight_decay=0)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    forward, logits = DraftLayer.forward.__wrapped__, DraftLayer.logits.__wrapped__  # type: ignore[attr-defined]
    losses = []
    for step in range(STEPS):
        ids, states = rows[step % len(rows)]
        noisy = states + (torch.rand_like(states) - 0.5) * 0.2
        out = forward(layer, ids[1:], noisy[:-1], torch.arange(ROW - 1),
                      DynamicCache(config=layer.net.config))  # fmt: skip
        loss = F.smooth_l1_loss(out, states[1:])
        picked = torch.randperm(ROW - 2)[:96]
        with torch.no_grad():
            wanted = logits(layer, states[1:][picked]).softmax(-1)
        loss = loss + F.cross_entropy(logits(layer, out[picked]), wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        slower.step()
        losses.append(float(loss.detach()))
    rest = {key: value.detach() for key, value in layer.net.state_dict().items()}
    write(folder, settings, {**rest, "fc.weight": layer.fc.detach()}, "model.safetensors")
    return losses


def accuracy(model: AdaptedModel, folder: Path, held: Texts) -> float:
    """The share of tokens that the layer and the model's own head choose alike."""
    layer = Eagle(path=str(folder)).layer(model)
    shares = []
    for ids, states in held:
        cache = DynamicCache(config=layer.net.config)
        out = layer(ids[1:], states[:-1], torch.arange(ROW - 1), cache)
        alike = layer.logits(out).argmax(-1) == layer.logits(states[1:]).argmax(-1)
        shares.append(float(alike.float().mean()))
    return round(sum(shares) / len(shares), 3)


@check({"": "", **dict.fromkeys(PLACES, ".2f")})
def eagle(folder: Path) -> Iterator[Found]:
    """Tokens a round, and the share of tokens that layer and model choose alike."""
    losses = trained(train, folder)
    held = texts()[-HELD:]
    alike = accuracy(adapted(), folder, held)
    yield Note(loss_first_and_last=losses, chosen_alike=alike)
    yield from rounds(Eagle(path=str(folder)), held)
