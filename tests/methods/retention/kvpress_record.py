"""What kvpress 0.5.5 gives on a tiny model, which our methods are held against.

Run once, in an environment that has kvpress (it wants an older transformers):

    python tests/methods/retention/kvpress_record.py

writes kvpress_record.json beside it. The weights follow from the names of the parameters alone, so
that any version of transformers makes the same model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

RECORD = Path(__file__).with_suffix(".json")
LENGTH, RATIO, WINDOW, KERNEL, EPSILON = 48, 0.5, 8, 5, 0.02


def model() -> LlamaForCausalLM:
    """A Llama of two layers with two key heads, and sharp attention."""
    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, vocab_size=128, max_position_embeddings=1024,
        tie_word_embeddings=False,
    )  # fmt: skip
    found = LlamaForCausalLM(config).float().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(found.named_parameters()):
            drawn = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.copy_(drawn + 1 if "norm" in name else drawn)
    return found


def prompt() -> list[int]:
    """Token ids."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, 128, (LENGTH,), generator=generator).tolist()


def record() -> dict[str, Any]:
    """By method: scores of every layer and head, and what stays of the prompt."""
    import kvpress

    found: dict[str, Any] = {"versions": {"kvpress": "0.5.5", "torch": torch.__version__}}
    snap = {"compression_ratio": RATIO, "window_size": WINDOW, "kernel_size": KERNEL}
    presses = {
        "tova": kvpress.TOVAPress(RATIO),
        "snapkv": kvpress.SnapKVPress(**snap),
        "expected_attention": kvpress.ExpectedAttentionPress(RATIO, epsilon=EPSILON),
        "mean_alone": kvpress.ExpectedAttentionPress(
            RATIO, use_covariance=False, use_vnorm=False, n_future_positions=16
        ),
    }
    for name, press in presses.items():
        scores = scores_of(press)
        found[name] = {
            "scores": [rounded(layer) for layer in scores],
            "kept": [layer.topk(LENGTH // 2).indices.sort().values.tolist() for layer in scores],
        }
    for name in ("snapkv", "expected_attention"):
        found[f"adakv_{name}"] = {"kept": adaptive(kvpress.AdaKVPress(presses[name]))}
    return found


def scores_of(press: Any) -> list[Tensor]:
    """A press's scores `[kv_heads, entries]` of the prompt, by layer."""
    found, score = [], press.score

    def watch(*given: Any, **named: Any) -> Tensor:
        found.append(score(*given, **named)[0])
        return score(*given, **named)

    press.score = watch
    read(press)
    del press.score
    return found


def adaptive(press: Any) -> list[list[list[int]]]:
    """Positions that stay, by layer and head."""
    network, found = read(press), []
    for layer in network.model.layers:
        _, heads, places = layer.self_attn.masked_key_indices
        gone = set(zip(heads.tolist(), places.tolist(), strict=True))
        found.append([[i for i in range(LENGTH) if (h, i) not in gone] for h in range(2)])
    return found


def read(press: Any) -> LlamaForCausalLM:
    """The model after it read the prompt under a press."""
    network = model()
    with torch.no_grad(), press(network):
        ids = torch.tensor([prompt()])
        network.model(ids, use_cache=True, cache_position=torch.arange(LENGTH))
    return network


def rounded(scores: Tensor) -> list[list[float]]:
    """Seven digits of each number."""
    return [[float(f"{x:.7g}") for x in head] for head in scores.tolist()]


if __name__ == "__main__":
    RECORD.write_text(json.dumps(record()) + "\n", encoding="utf-8")
