"""The small checks of Medusa's heads and EAGLE's layer, on the real 135M model.

    python -m benchmarks.checks.published_heads medusa FOLDER
    python -m benchmarks.checks.published_heads eagle FOLDER

Nobody has published either for this model, so they are trained here for some minutes, on the Python
reference, and written to FOLDER as their authors publish theirs; then they are read back as a user
reads them. Prints one JSON line: losses of training, how often a guess is the token that the model
itself says on a part of the text that was not trained on (Medusa: head by head), and tokens a round
of greedy decoding with everything verified: behind more of that text, and behind prompts of other
kinds. Float32; guesses are counted, no time is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.reproduction.drafting.layers import KINDS, encode, load
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DynamicCache

from lengthwise import recipes
from lengthwise.engine import loop
from lengthwise.engine.policy import Fixed
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.methods.base import Method
from lengthwise.methods.drafting.eagle import DraftLayer, Eagle
from lengthwise.methods.drafting.medusa import Heads, Medusa
from lengthwise.methods.drafting.published import Checkpoint
from lengthwise.models.adapt import Adapted
from lengthwise.tasks.documents import read_document

ROW, ROWS, HELD = 256, 208, 8
STEPS, HEADS, NEW = 400, 3, 64
Texts = list[tuple[Tensor, Tensor]]


def texts(model: Adapted) -> Texts:
    """Rows of the reference with the states that the head reads of them, and what it says last."""
    ids = torch.tensor(encode(model, read_document().text)[: ROW * ROWS]).view(ROWS, ROW)
    with torch.no_grad():
        states = [model.model.model(row[None]).last_hidden_state[0] for row in ids]
    return list(zip(ids, states, strict=True))


def train_medusa(model: Adapted, rows: Texts, folder: Path) -> list[float]:
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
    weights = {}
    for k, block in enumerate(blocks):
        weights |= {
            f"{k}.0.linear.weight": block.weight.detach(),
            f"{k}.0.linear.bias": block.bias.detach(), f"{k}.1.weight": out.clone(),
        }  # fmt: skip
    _write(folder, {"medusa_num_heads": HEADS, "medusa_num_layers": 1}, weights,
           "medusa_lm_head.safetensors")  # fmt: skip
    return losses


def train_eagle(model: Adapted, rows: Texts, folder: Path) -> list[float]:
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
    _write(folder, settings, {**rest, "fc.weight": layer.fc.detach()}, "model.safetensors")
    return losses


def _write(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / name)


def medusa_accuracy(model: Adapted, folder: Path, held: Texts) -> list[float]:
    """Of each head, the share of its likeliest tokens that the text has there."""
    heads: Heads = Medusa(path=str(folder)).heads(model)
    right, total = [0] * HEADS, [0] * HEADS
    for ids, states in held:
        for place in range(0, ROW - HEADS - 2, 4):
            for k, token in enumerate(heads(states[place]).argmax(-1).tolist()):
                right[k] += token == int(ids[place + k + 2])
                total[k] += 1
    return [round(r / t, 3) for r, t in zip(right, total, strict=True)]


def eagle_accuracy(model: Adapted, folder: Path, held: Texts) -> list[float]:
    """The share of tokens that the layer and the model's own head choose alike."""
    layer = Eagle(path=str(folder)).layer(model)
    shares = []
    for ids, states in held:
        cache = DynamicCache(config=layer.net.config)
        out = layer(ids[1:], states[:-1], torch.arange(ROW - 1), cache)
        alike = layer.logits(out).argmax(-1) == layer.logits(states[1:]).argmax(-1)
        shares.append(float(alike.float().mean()))
    return [round(sum(shares) / len(shares), 3)]


def rounds(model: Adapted, method: Method, held: Texts) -> dict[str, Any]:
    """Tokens a round, guesses verified, of those right, and whether the text is the plain one."""
    assert model.tokenizer is not None
    prompts = {"reference": held[0][0].tolist()}
    for name, text in KINDS.items():
        message = [{"role": "user", "content": text}]
        rendered = model.tokenizer.apply_chat_template(
            message, add_generation_prompt=True, tokenize=False
        )
        prompts[name] = encode(model, str(rendered))
    found = {}
    for name, ids in prompts.items():
        plain, _ = _decoded(model, ids)
        output, ledger = _decoded(model, ids, method)
        found[name] = (round(ledger.accepted_per_step, 2), ledger.drafted,
                       sum(ledger.accepted.values()), output == plain)  # fmt: skip
    return found


def _decoded(model: Adapted, ids: list[int], *methods: Method) -> tuple[list[int], Any]:
    makers = tuple(lambda method=method: method.start_drafter(model) for method in methods)
    sequence = Sequence(model, replace(recipes.resolve("full", model), drafters=makers))
    request = loop.begin(sequence, Sampling(), NEW, ())
    loop.start(request, loop.prefill(sequence, ids))
    for _ in loop.run(request, Fixed()):
        pass
    return request.output, loop.finish(request)


def check(kind: str, folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    model = load()
    rows = texts(model)
    train: Callable[..., list[float]] = {"medusa": train_medusa, "eagle": train_eagle}[kind]
    losses = train(model, rows[:-HELD], folder)
    accuracy = {"medusa": medusa_accuracy, "eagle": eagle_accuracy}[kind]
    method: Method = {"medusa": Medusa, "eagle": Eagle}[kind](path=str(folder))
    return {
        "check": kind, "steps": STEPS,
        "loss": [round(losses[0], 2), round(sum(losses[-20:]) / 20, 2)],
        "accuracy": accuracy(model, folder, rows[-HELD:]),
        "rounds": rounds(model, method, rows[-HELD:]),
    }  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("medusa", "eagle"):
        sys.exit(__doc__)
    print(json.dumps(check(sys.argv[1], Path(sys.argv[2]))))
