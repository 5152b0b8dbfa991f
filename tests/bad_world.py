"""The files and folders that wrong commands are run among."""

from __future__ import annotations

import json
import random
import re
import zipfile
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import lengthwise
from lengthwise.api.cartridge import initial_session
from lengthwise.api.text_model import LocalText
from lengthwise.evaluation.pac.calibration import calibrate_pac
from lengthwise.evaluation.pac.examples import Example
from lengthwise.sequences.answers.compress import ASKED
from lengthwise.sequences.encoder import byte_tokenizer
from lengthwise.soft_contexts.dolphin import Dolphin
from lengthwise.soft_contexts.files import save_encoder
from tests.training_runs import LLAMA, build_set, texts


def make_world(place: Path) -> None:
    """Files of every kind that a verb reads, right and wrong ones, in the folder `place`."""
    rng = random.Random(0)
    words = [rng.choice(("long", "text", "about", "nothing", "at", "all.\n")) for _ in range(260)]
    (place / "doc.txt").write_text(" ".join(words))
    (place / "link.txt").symlink_to("doc.txt")
    (place / "hard.txt").hardlink_to(place / "doc.txt")
    for name in ("hollow", "texts", "run", "cut", "talker"):
        (place / name).mkdir()
    (place / "texts" / "a.txt").write_text("some text\n")
    for name, data in (
        ("empty.txt", b""), ("blank.txt", b" \n\t\n"), ("zeros.bin", bytes(64)),
        ("zeros.pdf", bytes(4096)), ("cut.pdf", b"%PDF-1.4\n1 0 obj\n<<"), ("no.parquet", b"PAR1"),
        ("latin.txt", b"\x81\x8d\x8f\xff\xfe\x00"),
        ("foreign.png", b"\x89PNG\r\n\x1a\n" + bytes(40)), ("bad.jsonl", b'{"x": 1}\n{\n'),
        ("huge.txt", b"99999999999999999999 5\n"), ("lengths.txt", b"512 1024 4096 300\n"),
        ("requests.jsonl", b'{"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "hi", '
                           b'"max_tokens": 2, "temperature": 0}}\n'),
        ("twice.jsonl", b'{"custom_id": "a"}\n' * 2),
        ("items.jsonl", b'{"text": "a ship", "id": "x"}\n{"text": "rain"}\n'),
        ("of_other.parts.jsonl", b"notes of somebody\n"),
        ("examples.jsonl", b'{"prompt": "write x", "program": "x"}\n' * 3),
        ("broken.jsonl", b'{"prompt": "write x", "program": "def ("}\n' * 3),
        ("pairs.jsonl", b'{"question": "why?", "answer": "so"}\n'),
        ("parallel.json", b'{"en": ["a ship", "rain"], "tr": ["bir gemi", "ya\xc4\x9fmur"]}'),
        ("uneven.json", b'{"en": ["a ship", "rain"], "tr": ["bir gemi"]}'),
        ("prompts.jsonl", b'{"prompt": "hi"}\n'), ("costs.json", b'{"quadratic_ms": 1}'),
        ("bad.toml", b"out = "), ("model.toml", b'out = "x"\nnope = 3\n'),
        ("some.run", b'{"lengthwise run": 1, "job": {}, "origin": {}}\n'),
        ("replies.run", _replies()),
        ("deep.json", b"[" * 100_000), ("deep.jsonl", b"[" * 100_000),
        ("nodata.toml", _toml("nodata", "nope")), ("run.toml", _toml("new", "data")),
        ("runs.csv", b"N,L\n" + b"".join(b"%d,%f\n" % (n, (8.8e13 / n) ** 0.076) for n in
                                         (10**5, 10**6, 10**7, 10**8, 10**9))),
    ):  # fmt: skip
        (place / name).write_bytes(data)
    for name, data in (("toy", "toy.jsonl"), ("absent", "nope.jsonl"), ("other", "items.jsonl")):
        (place / f"{name}.yaml").write_text(json.dumps({
            "task": name, "dataset_path": "json", "test_split": "test", "fewshot_split": "test",
            "dataset_kwargs": {"data_files": {"test": data}}, "output_type": "generate_until",
            "doc_to_text": "{{asked}}", "doc_to_target": "b", "metric_list": [
                {"metric": "exact_match"}], "generation_kwargs": {"max_gen_toks": 2},
        }))  # fmt: skip
    (place / "toy.jsonl").write_text('{"asked": "a ship"}\n{"asked": "rain"}\n')
    (place / "doc.yaml").write_text("some words: that are [no task\n")
    (place / "hollow.yaml").write_text("")
    with zipfile.ZipFile(place / "zip.pdf", "w") as file:
        file.writestr("a.txt", "text")
    (place / "run" / "log.jsonl").write_text(
        "".join(json.dumps({"kind": "evaluation", "elapsed": n, "D": n, "L": 2 / n}) + "\n"
                for n in (1, 2))
    )  # fmt: skip
    build_set(place, "data", texts(40, 200), "concat")
    _models(place)


def _replies() -> bytes:
    """A run of two recipes that say the same."""
    head: dict[str, object] = {"lengthwise run": 1, "job": {"model": "m"}, "origin": {}}
    rows = [
        {"task": "needle", "recipe": recipe, "length": 9, "number": 0, "question": "what?",
         "said": "that", "score": 1.0}
        for recipe in ("full", "streaming")
    ]  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in (head, *rows)).encode()


def _toml(out: str, data: str) -> bytes:
    model = "".join(f"{key} = {json.dumps(value)}\n" for key, value in LLAMA.items())
    head = f'out = "{out}"\ntokens_per_step = 128\nsteps = 1\n'
    return f'{head}[model]\n{model}[data]\ntrain = "{data}"\n'.encode()


def _models(place: Path) -> None:
    """A whole tiny model; one without a tokenizer; one whose weights are cut off."""
    torch.manual_seed(0)
    tokenizer: Tokenizer = byte_tokenizer()
    size = tokenizer.get_vocab_size()
    config = LlamaConfig(vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
                         bos_token_id=None, eos_token_id=size - 1)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(place / "model")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(
        place / "model"
    )
    for file in (place / "model").iterdir():
        (place / "talker" / file.name).write_bytes(file.read_bytes())
    talking = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    talking.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    talking.save_pretrained(place / "talker")
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2)).save_pretrained(
        place / "notok"
    )
    model = lengthwise.load(place / "talker")
    initial_session(model, "some text about nothing", 8).save(place / "some.cartridge")
    # A derivation that the talker shortens: what it says is the answer.
    pair = {"question": "why?", "long": "it is so, for it was so. " * 8}
    said = _word(LocalText(model).write(pair["long"], ASKED, 8))
    (place / "long.jsonl").write_text(json.dumps({**pair, "answer": said}) + "\n")
    examples = [Example("write x", "x")] * 3
    calibrate_pac(model, examples, epsilon=0.9, max_new_tokens=2).save(place / "some.pac")
    how = Dolphin(tokens=2, layers=1)
    save_encoder(place / "some.encoder", how.start(model.adapted), how, {"steps": 0})
    for file in (place / "model").iterdir():
        (place / "cut" / file.name).write_bytes(file.read_bytes())
    weights = place / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])


def _word(text: str) -> str:
    return next(iter(re.findall(r"[^\W\d]+", text)), "so")
