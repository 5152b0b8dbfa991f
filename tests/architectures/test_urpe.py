"""URPE in the layers of a real model: factors of one change nothing, others do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lengthwise.architectures.urpe import URPEAttention, URPEConfig
from lengthwise.models.embedded import load_embedded


@torch.no_grad()
def test_factors_of_one_leave_a_real_model_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = load_embedded(torch.float32)
    config: Any = model.config
    row = tokenizer("It was the year when they finally", return_tensors="pt")["input_ids"]
    stock = model(input_ids=row, use_cache=False).logits
    config_here = URPEConfig(
        hidden_size=config.hidden_size, num_attention_heads=config.num_attention_heads,
        bias="none", distances=5,
    )  # fmt: skip
    urpe = [URPEAttention(config_here, n) for n in range(config.num_hidden_layers)]
    order = torch.arange(row.shape[1])
    distance = (order[:, None] - order)[None, None]

    def attended(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
        key, value = (x.repeat_interleave(module.num_key_value_groups, 1) for x in (key, value))
        mix = urpe[module.layer_idx].mix
        found = mix(query, key, value, distance, distance >= 0, order[None])
        return found.transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "urpe", attended)
    monkeypatch.setattr(config, "_attn_implementation", "urpe")
    again = model(input_ids=row, use_cache=False).logits
    torch.testing.assert_close(again, stock, rtol=0, atol=2e-3)
    assert torch.equal(again.argmax(-1), stock.argmax(-1))
    urpe[0].factors[:, 1:] = 0.5
    assert (model(input_ids=row, use_cache=False).logits - stock).abs().max() > 0.1
