"""How fast sequences are built, and how little is wasted.

Times are processor time on one thread, the best of several turns.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.reproduction.harness import Found, Note, check

from lengthwise.sequences import row_files
from lengthwise.sequences.build import Build, Progress, Settings, build_part, open_order
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


@check({"builder": "", "tokens a second": ""})
def build() -> Iterator[Found]:
    """Tokens a second of every builder, from tokens to finished files with checksums, on documents
    of 500 tokens."""
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as scratch:
        store = made_store(Path(scratch) / "tokens")
        yield Note(documents=store.documents, tokens=store.tokens)
        for method in METHODS:
            seconds = min(_build_seconds(method, store, Path(scratch)) for _ in range(REPEATS))
            yield {"builder": method, "tokens a second": round(store.tokens / seconds)}


def _build_seconds(method: str, store: TokenStore, scratch: Path) -> float:
    builder, settings = make_builder(method, {}, 8192), Settings()
    task = Build(None, None, builder, settings, scratch / method, store.folder)  # type: ignore[arg-type]
    began = time.process_time()
    order = open_order(settings, store, scratch)
    for part in parts(store, order, builder):
        build_part(task, part, store, order)
    return time.process_time() - began


@check({"builder": "", "row": "", "needed": "", "read": "", "decoded": ""})
def rows() -> Iterator[Found]:
    """Bytes that a random row costs: needed, copied from its place, and read where groups of
    262,144 tokens are decoded, as in data sets of format 1 that are larger than what is held of
    them; of 300 random rows."""
    # Of a data set much larger than what is held, hardly any group is held when it is asked for.
    row_files.HELD_GROUPS = 1
    with tempfile.TemporaryDirectory() as scratch:
        store = made_store(Path(scratch) / "tokens")
        yield Note(documents=store.documents, tokens=store.tokens)
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
            for (bucket, each), decoded in zip(
                placed.items(), _bytes_a_row(place).values(), strict=True
            ):
                yield {"builder": method, "row": bucket, **each, "decoded": decoded["read"]}
            shutil.rmtree(place)


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


@check({"row": "", "padding": ".4%", "documents cut": ""})
def packing() -> Iterator[Found]:
    """Padding and cut documents of best-fit, for rows of several lengths."""
    lengths = lengths_of(16 << 20)
    documents = Documents(np.arange(len(lengths)), np.cumsum(lengths) - lengths, lengths)
    yield Note(documents=len(lengths), tokens=documents.tokens)
    for room in (2048, 8192, 32768, 131072):
        built = BestFit(max_length=room).build(documents, 0)
        padding = built.figures["padding"]
        share = round(padding / (padding + documents.tokens), 6)
        yield {"row": room, "padding": share, "documents cut": built.figures["documents_cut"]}


@check({"documents": "", "tokens": "", "library, s": ".3f", "stage, s": ".3f", "ratio": ".4f"})
def tokenise() -> Iterator[Found]:
    """The tokenising stage (reading, encoding, storing) against the tokenizers library alone, for
    the sources of Python's own library in memory."""
    # Read when tokenizers first encodes.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
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
    yield {"documents": len(texts), "tokens": tokens, "library, s": round(library, 3),
           "stage, s": round(stage, 3), "ratio": round(stage / library, 4)}  # fmt: skip


def _library(encoder: Encoder, texts: list[str]) -> None:
    encoder.tokenizer.encode_batch_fast(texts, add_special_tokens=False)


def _stage(encoder: Encoder, folder: Path, place: Path) -> None:
    sources = Sources((str(folder),), Fields())
    run_tokenise(sources, encoder, place, "key", Progress(), 1 << 22)


def _seconds(action: Callable[[], None]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began
