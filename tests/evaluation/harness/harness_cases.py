"""A tiny model saved for transformers, and five small tasks over local files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lengthwise.testing.tiny import tiny_model
from tests.chat_models import tokenizer

LENGTH = 256
CHOICES = [
    {"asked": f"A bird that {verb} is seen", "ways": ways, "right": n % 3}
    for n, (verb, ways) in enumerate([
        ("swims", ["on a lake", "in a cup", "under a chair in the hall"]),
        ("sings", ["in a tin", "at dawn", "never"]),
        ("sleeps", ["on one leg", "in ink", "by post"]),
        ("dives", ["for a coat", "for a fish of some size", "for rent"]),
    ])
]  # fmt: skip
TEXTS = [
    {"page": "Rain fell on the roof all night, and in the morning the road was a river. " * 5},
    {"page": "A short one."},
    {"page": "The clock in the hall had stopped, so nobody knew when to leave. " * 2},
]
SUMS = [f"{a} plus {b}" for a, b in ((1, 2), (3, 4), (5, 1), (2, 2))]
TASKS: dict[str, dict[str, Any]] = {
    "toy_choice": {
        "output_type": "multiple_choice", "doc_to_text": "{{asked}}", "doc_to_choice": "{{ways}}",
        "doc_to_target": "{{right}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "toy_word": {
        "output_type": "loglikelihood", "doc_to_text": "{{sum}}", "doc_to_target": "{{written}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "toy_page": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{page}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "toy_sum": {
        "output_type": "generate_until", "doc_to_text": "{{sum}}", "doc_to_target": "{{written}}",
        "generation_kwargs": {"until": ["."], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
    "toy_shots": {
        "output_type": "generate_until", "doc_to_text": "{{sum}}", "doc_to_target": "{{written}}",
        "num_fewshot": 2, "fewshot_split": "test",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12},
        "metric_list": [{"metric": "exact_match"}],
    },
}  # fmt: skip


@torch.no_grad()
def save_model(place: Path, **changes: Any) -> Path:
    """A random model with a tokenizer of bytes and a chat template, in the folder `place`."""
    made = tokenizer()
    stock = tiny_model(
        "llama", initializer_range=0.15, vocab_size=len(made), max_position_embeddings=LENGTH,
        eos_token_id=made.eos_token_id, bos_token_id=None, pad_token_id=None, **changes,
    )  # fmt: skip
    # What it writes is letters, which are the same tokens when they are encoded again.
    texts = [made.decode([token]) for token in range(len(made))]
    odd = [n for n, text in enumerate(texts) if not (text.isascii() and text.isalpha())]
    stock.lm_head.weight[odd] = 0
    stock.save_pretrained(place)
    made.save_pretrained(place)
    return place


def save_tasks(place: Path, model: Path) -> Path:
    """A folder of the tasks' YAML files; JSON is YAML too. Half of what is to be written is what
    the model does write, so that scores are neither 0 nor 1."""
    place.mkdir(exist_ok=True)
    rows = {"toy_choice": CHOICES, "toy_page": TEXTS}
    for name, task in TASKS.items():
        data = place / f"{name}.jsonl"
        found = rows.get(name) or written(model)
        data.write_text("".join(json.dumps(row) + "\n" for row in found))
        made = {
            "task": name, "dataset_path": "json", "test_split": "test",
            "dataset_kwargs": {"data_files": {"test": str(data)}}, **task,
        }  # fmt: skip
        (place / f"{name}.yaml").write_text(json.dumps(made))
    return place


def written(place: Path) -> list[dict[str, str]]:
    """The sums, and behind every second one of them what a saved model writes."""
    model = AutoModelForCausalLM.from_pretrained(place)
    coder = AutoTokenizer.from_pretrained(place)
    rows = []
    for number, text in enumerate(SUMS):
        ids = coder(text, return_tensors="pt").input_ids
        new = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        rows.append({"sum": text, "written": "none" if number % 2 else coder.decode(new)})
    return rows
