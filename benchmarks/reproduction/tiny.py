"""Tiny models trained from scratch on code that is on every machine: what small checks share.

The corpus is the functions of Python's own library and, for domains and pairs, of networkx and
sympy, which torch installs. Tokens are 1,024 byte-level pieces learned from it. One file in 20 is
for validation. What is built or trained is kept in FOLDER and not done again.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sysconfig
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedModel

from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import Encoder, load_encoder
from lengthwise.sequences.files import written_aside
from lengthwise.sequences.records import Fields
from lengthwise.training.config import read_config
from lengthwise.training.trainer import train

END = "<|endoftext|>"
VOCABULARY = 1024
LENGTH = 1024
TOKENS_PER_STEP = 2048
STEPS = 400
MODEL = {
    "family": "llama", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 4,
    "num_attention_heads": 3, "num_key_value_heads": 3, "tie_word_embeddings": True,
}  # fmt: skip
_PASSED_BY = {"site-packages", "dist-packages", "test", "tests", "idlelib"}


def files(package: str | None = None) -> list[Path]:
    """Source files of a package, without its tests; of Python's own library for None."""
    if package is None:
        root = Path(sysconfig.get_paths()["stdlib"])
    else:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise SystemExit(f"this check reads the sources of {package}: pip install {package}")
        root = Path(found.submodule_search_locations[0])
    passed_by = _PASSED_BY - set(root.parts)
    return sorted(p for p in root.rglob("*.py") if not passed_by & set(p.parts[len(root.parts) :]))


def functions(path: Path) -> Iterator[str]:
    """Top-level functions and methods of a source file, each moved to the left margin."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (UnicodeDecodeError, SyntaxError):
        return
    lines = text.splitlines(keepends=True)
    for node in tree.body:
        for each in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                yield textwrap.dedent("".join(lines[each.lineno - 1 : each.end_lineno]))


def documents(folder: Path, name: str, paths: Sequence[Path], longest: int = 1 << 30) -> Path:
    """FOLDER/NAME.jsonl: the functions of some files, `longest` characters of each file at most."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{name}.jsonl"
    if not place.exists():
        with written_aside(place) as aside, aside.open("w", encoding="utf-8") as out:
            for number, path in enumerate(paths):
                read = 0
                for text in functions(path):
                    read += len(text)
                    if read > longest:
                        break
                    out.write(json.dumps({"text": text, "file": number}) + "\n")
    return place


def library(folder: Path) -> tuple[Path, Path]:
    """train.jsonl and validation.jsonl of Python's own library."""
    found = files()
    train_on = documents(folder, "train", [p for i, p in enumerate(found) if i % 20])
    return train_on, documents(folder, "validation", found[::20])


def encoder(folder: Path) -> Encoder:
    """The tokenizer of FOLDER, learned from the library where it is not there yet."""
    place = folder / "tokenizer.json"
    if not place.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=[END], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        tokenizer.train_from_iterator(texts(library(folder)[0]), trainer)
        with written_aside(place) as aside:
            tokenizer.save(str(aside))
    return load_encoder(str(place), END)


def texts(place: Path) -> list[str]:
    """The texts of a JSONL file."""
    return [json.loads(line)["text"] for line in place.read_text(encoding="utf-8").splitlines()]


def data(
    folder: Path, source: Path, method: str, order: str = "shuffle", length: int = LENGTH,
    words: Encoder | None = None,
) -> str:  # fmt: skip
    """The data set of a source, made by a method; its name in FOLDER."""
    name = f"{source.stem}-{method}-{order}-{length}"
    build(Build(
        Sources((str(source),), Fields()), words or encoder(folder),
        make_builder(method, {}, length), Settings(order=order), folder / name,
        folder / name / "tokens",
    ))  # fmt: skip
    return name


def run(folder: Path, name: str, rows: str, **other: Any) -> Path:
    """FOLDER/runs/NAME, trained on the data set `rows` unless it was; `other` overrules."""
    place = folder / "runs" / name
    if not (place / "model").exists():
        table: dict[str, Any] = {
            "out": f"runs/{name}", "tokens_per_step": TOKENS_PER_STEP, "steps": STEPS,
            "model": MODEL, "data": {"train": rows}, "optimizer": {"lr": 3e-3},
            "schedule": {"warmup_steps": 20, "floor": 3e-5}, "log": {"plot_every": 0},
            "checkpoint": {"every": 0},
        } | other  # fmt: skip
        if other.get("epochs"):
            del table["steps"]
        train(read_config(table, folder))
    return place


def trained(place: Path) -> PreTrainedModel:
    """The model of a run, for measuring."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(place / "model")
    model.eval()
    return model


@torch.inference_mode()
def losses(model: PreTrainedModel, before: Sequence[int], ids: Sequence[int]) -> torch.Tensor:
    """Nats of each of `ids` after `before`, which has a token at least: float32 `[len(ids)]`."""
    row = torch.tensor([[*before, *ids]])
    logits = model(input_ids=row).logits[0, len(before) - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits, row[0, len(before) :], reduction="none")


def fingerprint(path: Path) -> str:
    """Of the bytes of a file: figures of two machines compare only where it is the same."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
