"""Small models in GGUF files."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROPE_BASE = {"rope_theta": 10000.0}


def small_llama(rope: dict[str, object], length: int = 64) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=32, hidden_size=64, intermediate_size=32, num_hidden_layers=2, head_dim=32,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=length,
        initializer_range=0.3, rope_parameters=rope,
    )).eval()  # fmt: skip


def write_gguf(
    path: Path, model: LlamaForCausalLM, said: dict[str, object], tensors: dict[str, list[float]],
    kind: str = "F32",
) -> None:  # fmt: skip
    """A model as llama.cpp's converter would write it, with what it says of rotary scaling.

    kind: of the blocks that its matrices are in.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    for key, value in said.items():
        add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}
        add[type(value)](f"llama.rope.{key}", value)

    def paired(weight: torch.Tensor) -> torch.Tensor:
        """Rows of halves -> rows of pairs, the layout of llama.cpp's rotation."""
        rows, width = weight.shape
        heads = rows // config.head_dim
        return weight.view(heads, 2, config.head_dim // 2, width).transpose(1, 2).reshape(rows, -1)

    weights = {"token_embd": model.model.embed_tokens, "output_norm": model.model.norm,
               "output": model.lm_head}  # fmt: skip
    for index, layer in enumerate(model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        weights |= {
            f"blk.{index}.attn_norm": layer.input_layernorm,
            f"blk.{index}.ffn_norm": layer.post_attention_layernorm,
            f"blk.{index}.attn_q": attention.q_proj, f"blk.{index}.attn_k": attention.k_proj,
            f"blk.{index}.attn_v": attention.v_proj, f"blk.{index}.attn_output": attention.o_proj,
            f"blk.{index}.ffn_gate": mlp.gate_proj, f"blk.{index}.ffn_up": mlp.up_proj,
            f"blk.{index}.ffn_down": mlp.down_proj,
        }  # fmt: skip
    for name, module in weights.items():
        weight = module.weight.detach()
        if name.endswith(("attn_q", "attn_k")):
            weight = paired(weight)
        blocks = gguf.GGMLQuantizationType[kind if weight.dim() > 1 else "F32"]
        data = gguf.quants.quantize(weight.contiguous().numpy(), blocks)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=blocks)
    for name, values in tensors.items():
        writer.add_tensor(name, np.array(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
