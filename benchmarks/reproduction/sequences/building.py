"""How fast sequences are built, and how little is wasted.

    python -m benchmarks.checks.sequences NAME

prints one JSON line; NAME is `build`, tokens a second of every builder from tokens to finished
files, on documents of 500 tokens; `packing`, the padding and cuts of best-fit by row length;
`rows`, bytes that a random row costs, at its place and where groups of 262,144 tokens are decoded,
as in data sets of format 1 that are larger than what is held of them; or `tokenise`, the time of
the whole tokenising stage (reading, encoding, storing) as a multiple of what the tokenizers library
takes for the same texts in memory. Times are processor time on one thread, the best of several
turns.
"""

from __future__ import annotations

import os

# Read when tokenizers first encodes and when numpy is first imported.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"

import json
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lengthwise.sequences import row_files
from lengthwise.sequences.build import Build, Settings, build_part, open_order
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.builders.best_fit import BestFit
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import Encoder, load_encoder
from lengthwise.sequences.files import write_json
from lengthwise.sequences.plan import parts
from lengthwise.sequences.records import Fields
from lengthwise.sequences.rows import Documents
from lengthwise.sequences.store import ABOUT, MANIFEST, SequenceSet
from lengthwise.sequences.token_store import TokenStore
from lengthwise.sequences.tokenise import tokenise as run_tokenise
from lengthwise.sequences.watch import Watcher

TOKENS = 32 << 20
MEAN = 500
REPEATS = 5
METHODS = ("concat", "concat-masked", "best-fit", "decompose")


def lengths_of(tokens: int, seed: int = 0) -> np.ndarray:
    """Log-normal lengths with a mean of 500 tokens, about as long as web pages vary."""
    chance = np.random.default_rng(seed)
    drawn = chance.lognormal(np.log(MEAN) - 0.5, 1, tokens // MEAN)
    return np.maximum(2, drawn).astype(np.int64)


def made_store(folder: Path) -> TokenStore:
    """A token store of random tokens, common ones first, as a text's are."""
    chance = np.random.default_rng(0)
    lengths = lengths_of(TOKENS)
    ids = np.minimum(chance.zipf(1.2, int(lengths.sum())), 49_151).astype(np.uint16)
    folder.mkdir()
    ids.tofile(folder / "tokens.bin")
    np.cumsum(lengths).tofile(folder / "ends.bin")
    np.zeros(len(lengths), np.int32).tofile(folder / "repository.bin")
    facts = {"documents": len(lengths), "tokens": len(ids), "dtype": "uint16", "skipped": {}}
    (folder / "store.json").write_text(json.dumps(facts))
    return TokenStore(folder)


def build() -> dict[str, Any]:
    """Tokens a second of processor time, from the token store to Parquet files with checksums."""
    pa.set_cpu_count(1)
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        store = made_store(Path(scratch) / "tokens")
        for method in METHODS:
            seconds = min(_build_seconds(method, store, Path(scratch)) for _ in range(REPEATS))
            found[method] = round(store.tokens / seconds)
    return {"documents": store.documents, "tokens": store.tokens, "tokens_per_cpu_s": found}


def _build_seconds(method: str, store: TokenStore, scratch: Path) -> float:
    builder, settings = make_builder(method, {}, 8192), Settings()
    task = Build(None, None, builder, settings, scratch / method, store.folder)  # type: ignore[arg-type]
    began = time.process_time()
    order = open_order(settings, store, scratch)
    for part in parts(store, order, builder):
        build_part(task, part, store, order)
    return time.process_time() - began


def rows() -> dict[str, Any]:
    """Bytes needed, copied from their places, and decoded, for each of 300 random rows."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        store = made_store(Path(scratch) / "tokens")
        for method in METHODS:
            builder, settings = make_builder(method, {}, 8192), Settings()
            place = Path(scratch) / method
            task = Build(None, None, builder, settings, place, store.folder)  # type: ignore[arg-type]
            order = open_order(settings, store, Path(scratch))
            shards = [shard for part in parts(store, order, builder)
                      for shard in build_part(task, part, store, order)["shards"]]  # fmt: skip
            write_json(place / ABOUT / MANIFEST, {"format": 2, "shards": shards})
            placed = _bytes_a_row(place)
            for shard in shards:
                whole = pq.read_table(place / shard["file"])
                group = max(1, (1 << 18) * shard["rows"] // shard["tokens"])
                pq.write_table(whole, place / shard["file"], row_group_size=group,
                               compression="zstd", use_dictionary=False)  # fmt: skip
            found[method] = {
                bucket: each | {"decoded": decoded["read"]}
                for (bucket, each), decoded in zip(
                    placed.items(), _bytes_a_row(place).values(), strict=True
                )
            }
            shutil.rmtree(place)
    return {"documents": store.documents, "tokens": store.tokens, "bytes_a_row": found}


def _bytes_a_row(place: Path) -> dict[int, dict[str, int]]:
    found = {}
    for bucket, count in sorted(SequenceSet(place).buckets.items()):
        opened, needed = SequenceSet(place), 0
        numbers = np.random.default_rng(0).permutation(count)[:300]
        for number in numbers.tolist():
            row = opened.row(number, bucket)
            needed += row.input_ids.nbytes + row.lengths.nbytes
        each = len(numbers)
        found[bucket] = {"needed": needed // each, "read": opened.bytes_read // each}
    return found


def packing() -> dict[str, Any]:
    """Padding and cut documents of best-fit, for rows of several lengths."""
    lengths = lengths_of(16 << 20)
    documents = Documents(np.arange(len(lengths)), np.cumsum(lengths) - lengths, lengths)
    found = {}
    for room in (2048, 8192, 32768, 131072):
        built = BestFit(max_length=room).build(documents, 0)
        padding = built.figures["padding"]
        found[room] = {"padding": round(padding / (padding + documents.tokens), 6),
                       "cut": built.figures["documents_cut"], "dropped": 0}  # fmt: skip
    return {"documents": len(lengths), "tokens": documents.tokens, "by_row_length": found}


def tokenise() -> dict[str, Any]:
    """The tokenising stage against the library alone, on the sources of Python's own library."""
    encoder = load_encoder()
    root = sysconfig.get_paths()["stdlib"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "library"
        folder.mkdir()
        for path in sorted(Path(root).glob("*.py")):
            (folder / path.name).write_bytes(path.read_bytes())
        texts = [path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())]
        times: dict[str, list[float]] = {"library": [], "stage": []}
        for turn in range(REPEATS):
            times["library"].append(_seconds(lambda: _library(encoder, texts)))
            place = Path(scratch) / f"tokens{turn}"
            times["stage"].append(_seconds(lambda: _stage(encoder, folder, place)))  # noqa: B023
        tokens = TokenStore(place).tokens
    library, stage = min(times["library"]), min(times["stage"])
    return {"documents": len(texts), "tokens": tokens, "library_s": round(library, 3),
            "stage_s": round(stage, 3), "ratio": round(stage / library, 4)}  # fmt: skip


def _library(encoder: Encoder, texts: list[str]) -> None:
    encoder.tokenizer.encode_batch_fast(texts, add_special_tokens=False)


def _stage(encoder: Encoder, folder: Path, place: Path) -> None:
    sources = Sources((str(folder),), Fields())
    run_tokenise(sources, encoder, place, "key", Watcher(), 1 << 22)


def _seconds(action: Callable[[], None]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


if __name__ == "__main__":
    # Of a data set much larger than what is held, hardly any group is held when it is asked for.
    row_files.HELD_GROUPS = 1
    checks = {"build": build, "packing": packing, "rows": rows, "tokenise": tokenise}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        sys.exit(f"usage: python -m benchmarks.checks.sequences {'|'.join(checks)}")
    print(json.dumps({"check": sys.argv[1], **checks[sys.argv[1]]()}))
