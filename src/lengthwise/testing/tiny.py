"""Tiny random models of many families: large enough to show every quirk, small enough for a test.

Windows are shorter than the test sequences and norms and sinks are random, so that a layout read
wrongly shows in the logits.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, logging

from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel

BASE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "head_dim": 16, "max_position_embeddings": 256,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0,
    "initializer_range": 0.1,
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    "n_routed_experts": 4, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
    "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}  # fmt: skip
LATENT: dict[str, Any] = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 16, "head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip
WINDOW: dict[str, Any] = {"sliding_window": 8}
MIXED: dict[str, Any] = {
    **WINDOW, "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip

# Every family that adapts, with what its configuration needs beyond BASE.
FAMILIES: dict[str, dict[str, Any]] = {
    "afmoe": {**MIXED, **EXPERTS},
    "apertus": {},
    "arcee": {},
    "biogpt": {},
    "bitnet": {},
    "cohere": {},
    "cohere2": MIXED,
    "cwm": MIXED,
    "deepseek_v3": {**EXPERTS, **LATENT},
    "doge": {},
    "dots1": EXPERTS,
    "ernie4_5": {},
    "ernie4_5_moe": EXPERTS,
    "exaone4": MIXED,
    "exaone_moe": {**MIXED, **EXPERTS},
    "flex_olmo": EXPERTS,
    "gemma": {},
    "gemma2": MIXED,
    "gemma3_text": {**MIXED, "num_hidden_layers": 3,
                    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
    "glm": {},
    "glm4": {},
    "glm4_moe": EXPERTS,
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neox": {},
    "gpt_oss": {**MIXED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granite": {},
    "granite_swa": WINDOW,
    "granitemoe": {},
    "granitemoeshared": {},
    "helium": {},
    "hy_v3": EXPERTS,
    "hyperclovax": {},
    "jais2": {},
    "jetmoe": {},
    "laguna": {**WINDOW, **EXPERTS, "shared_expert_intermediate_size": 32},
    "llama": {},
    "longcat_flash": {**LATENT, **EXPERTS, "zero_expert_num": 2, "moe_topk": 2,
                      "expert_ffn_hidden_size": 32},
    "mellum": {**WINDOW, **EXPERTS},
    "mimo_v2_flash": {**WINDOW, **EXPERTS},
    "minicpm3": LATENT,
    "minimax_m2": EXPERTS,
    "ministral": MIXED,
    "ministral3": {},
    "mistral": WINDOW,
    "mixtral": EXPERTS,
    "modernbert-decoder": {},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": MIXED,
    "olmoe": EXPERTS,
    "opt": {"word_embed_proj_dim": 64, "ffn_dim": 96},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": EXPERTS,
    "qwen2": {},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3": {},
    "qwen3_moe": EXPERTS,
    "seed_oss": {},
    "smollm3": {"num_hidden_layers": 4},
    "solar_open": EXPERTS,
    "stablelm": {},
    "starcoder2": {},
    "vaultgemma": MIXED,
    "youtu": LATENT,
}  # fmt: skip


def tiny_model(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random float32 model of a family, in evaluation mode.

    changes go to its configuration; a value of `...` leaves that setting to the family.
    """
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            settings = {**BASE, **FAMILIES.get(family, {}), **changes}
            settings = {name: value for name, value in settings.items() if value is not ...}
            config = AutoConfig.for_model(family, **settings)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config).float().eval()
        finally:
            logging.set_verbosity(before)
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif "sinks" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@lru_cache(maxsize=8)
def tiny(family: str) -> AdaptedModel:
    """`tiny_model` adapted; shared between callers, who must not change it."""
    return adapt(tiny_model(family))


def tokens(count: int, seed: int = 0) -> list[int]:
    """Token ids that no tiny configuration gives a meaning to."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, BASE["vocab_size"], (count,), generator=generator).tolist()
