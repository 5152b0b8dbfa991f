"""What kvpress loses of a list that is to be copied, in an environment of its own.

Reads {"model": folder, "share": kept of a prompt, "cases": [{"prompt": ids, "target": ids, "skip":
n}, ...]} from stdin and writes the losses by method to stdout. `benchmarks.reproduction
retention/beside_kvpress` runs it; nothing here may import lengthwise.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.nn.functional as F
from kvpress import AdaKVPress, ExpectedAttentionPress, SnapKVPress, TOVAPress
from transformers import AutoModelForCausalLM, DynamicCache


def presses(ratio: float) -> dict[str, Any]:
    """Presses by the name of our method; ratio is what they drop."""
    snap = {"compression_ratio": ratio, "window_size": 32, "kernel_size": 7}
    return {
        "tova": TOVAPress(ratio),
        "snapkv": SnapKVPress(**snap),
        "adakv": AdaKVPress(SnapKVPress(**snap)),
        "expected_attention": ExpectedAttentionPress(ratio, epsilon=0.02),
        "expected_attention(adaptive)": AdaKVPress(ExpectedAttentionPress(ratio, epsilon=0.02)),
    }


@torch.no_grad()
def loss(model: Any, press: Any, case: dict[str, Any]) -> float:
    """Nats per token of a target from `skip` on, token by token behind a pressed prompt."""
    prompt, target, cache = case["prompt"], case["target"], DynamicCache()
    with press(model):
        where = torch.arange(len(prompt))
        out = model(torch.tensor([prompt]), past_key_values=cache, cache_position=where,
                    logits_to_keep=1)  # fmt: skip
    logits = [out.logits[0, -1]]
    for at, token in enumerate(target[:-1]):
        position = torch.tensor([[len(prompt) + at]])
        out = model(torch.tensor([[token]]), past_key_values=cache, position_ids=position)
        logits.append(out.logits[0, -1])
    skip = case["skip"]
    return float(F.cross_entropy(torch.stack(logits)[skip:].float(), torch.tensor(target[skip:])))


def main() -> None:
    given = json.load(sys.stdin)
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.bfloat16).eval()
    found = {
        name: [round(loss(model, press, case), 3) for case in given["cases"]]
        for name, press in presses(1 - given["share"]).items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
