"""A tiny model with a chat template, saved as any model is, and prompts of one's own."""

from __future__ import annotations

import difflib
import inspect
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lengthwise.documents.files import read_document

VOCAB = 2048
STOP = 3
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def saved_model(place: Path) -> Path:
    """A tiny random model with a tokenizer of its own, saved as any model is."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [read_document().text[:100_000], inspect.getsource(difflib)],
        trainers.BpeTrainer(
            vocab_size=VOCAB, special_tokens=["<pad>", "<s>", "</s>", "<stop>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        ),
    )  # fmt: skip
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(place)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, vocab_size=VOCAB, max_position_embeddings=8192,
        initializer_range=0.15, pad_token_id=0, bos_token_id=1, eos_token_id=STOP,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(place)
    return place


def written(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


TURNS = {"question_id": 81, "category": "writing", "turns": ["Write a line.", "And another one."]}
CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}
