"""The families table: what adapts equals the stock model everywhere, what does not says why."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from lengthwise.api.support import check
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend
from lengthwise.errors import UnsupportedModel
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import EXPERTS, FAMILIES, LATENT, tiny, tiny_model, tokens

COUNT = 40
CHUNK = 13
STEPS = 6
# Of the spread of the logits where it is above 1: float32 itself gives no more.
TOLERANCE = 1e-5

INTERFACE = "does not use the attention interface"
STATE = "keep a state that is not keys and values"
AFTER = "changed after rotation"
# What each configuration needs to be built at all (`...` leaves a setting to the family), and why
# the family is refused.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bamba": ({}, STATE),
    "bloom": ({}, INTERFACE),
    "codegen": ({"rotary_dim": 16}, INTERFACE),
    "deepseek_v2": ({**LATENT, **EXPERTS}, "does not give cos and sin"),
    "deepseek_v4": ({}, "several rotary modules"),
    "diffllama": ({}, "4 of its 2 layers"),
    "falcon": ({"head_dim": ...}, INTERFACE),
    "falcon_h1": ({}, STATE),
    "gemma3n_text": (
        {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "intermediate_size": [96] * 4,
         "layer_types": ["sliding_attention", "full_attention"] * 2,
         "activation_sparsity_pattern": [0.0] * 4, "vocab_size_per_layer_input": 128},
        "read the keys of earlier ones",
    ),
    "glm_moe_dsa": ({}, "fails under the attention hook"),
    "gpt_neo": ({"num_layers": 2, "attention_types": [[["global", "local"], 1]]}, INTERFACE),
    "gptj": ({"head_dim": ..., "rotary_dim": 16}, INTERFACE),
    "granitemoehybrid": ({}, STATE),
    "hunyuan_v1_dense": ({}, AFTER),
    "hunyuan_v1_moe": ({}, AFTER),
    "jamba": ({}, STATE),
    "kimi_linear": ({}, STATE),
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, STATE),
    "llama4_text": ({}, "attend in chunks"),
    "mamba": ({}, STATE),
    "minimax": ({}, STATE),
    "mpt": ({}, INTERFACE),
    "nanochat": ({}, "differ from the stock model"),
    "openai-gpt": ({}, INTERFACE),
    "qwen3_5_text": ({}, STATE),
    "qwen3_next": ({}, STATE),
    "recurrent_gemma": ({}, STATE),
    "roberta": ({"is_decoder": True}, "differ from the stock model"),
    "rwkv": ({}, INTERFACE),
    "xglm": ({}, INTERFACE),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> AdaptedModel:
    return tiny(request.param)


@torch.no_grad()
def stock(model: AdaptedModel, rows: list[list[int]]) -> list[torch.Tensor]:
    """Logits `[len(row), vocab]` of rows, left-padded into one batch of the stock model."""
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if "position_ids" in inspect.signature(model.model.forward).parameters:
        arguments["position_ids"] = (mask.cumsum(-1) - 1).clamp_min(0)
    logits = model.model(**arguments).logits
    return [logits[i, longest - len(row) :] for i, row in enumerate(rows)]


def read(sequence: Sequence, part: list[int]) -> torch.Tensor:
    (logits,), (block,) = extend([(sequence, part, None)], "all")
    sequence.commit(block, part)
    return logits


def check_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    error = float((ours - theirs).abs().max())
    assert error <= TOLERANCE * max(1.0, float(theirs.std())), error


def test_full_pass_equals_stock(model: AdaptedModel) -> None:
    text = tokens(COUNT)
    check_same(read(Sequence(model), text), stock(model, [text])[0])


def test_chunks_and_cached_steps_equal_stock(model: AdaptedModel) -> None:
    text = tokens(COUNT)
    sequence = Sequence(model)
    read_until = COUNT - STEPS
    found = [
        read(sequence, text[i : min(i + CHUNK, read_until)]) for i in range(0, read_until, CHUNK)
    ]
    sequence.end_prefill()
    found += [read(sequence, [token]) for token in text[read_until:]]
    check_same(torch.cat(found), stock(model, [text])[0])


def test_rows_of_a_batch_equal_left_padded_stock(model: AdaptedModel) -> None:
    rows = [tokens(COUNT, 1), tokens(COUNT - 17, 2), tokens(COUNT - 29, 3)]
    found, _ = extend([(Sequence(model), row, None) for row in rows], "all")
    for ours, theirs in zip(found, stock(model, rows), strict=True):
        check_same(ours, theirs)


def test_at_least_36_families_adapt() -> None:
    assert len(FAMILIES) >= 36


@pytest.mark.parametrize("family", REFUSED)
def test_family_is_refused_by_name_with_the_reason(family: str) -> None:
    changes, reason = REFUSED[family]
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        adapt(tiny_model(family, **changes))
    assert repr(family) in str(caught.value)
    support = check(tiny_model(family, **changes))
    assert not support.supported
    assert reason in str(support)


def test_check_answers_every_question_with_reasons() -> None:
    support = check(tiny("gpt2"))
    assert not support["positions"].supported
    assert "model has none" in str(support["positions"])
    assert "snapkv" in support["retention"].runs
    assert "left as it is" in str(check(tiny("gemma3_text"))["selection"])
    refused = check(tiny_model("llama"))["positions"].refused
    # It has a network to be trained first.
    assert [name for name, _ in refused] == ["clex"]
