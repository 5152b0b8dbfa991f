"""One run of training or encoding in a process of its own, for seconds and peak memory.

    python -m benchmarks.reproduction.tokenization.superbpe_runs JOB ...

Prints a line of JSON: seconds by phase, megabytes at the peak, and a digest of what came out.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.reproduction.prose import held_out, prose

Row = dict[str, Any]
NAME = "benchmarks.reproduction.tokenization.superbpe_runs"
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def run(job: str, *options: object, threads: bool = False) -> Row:
    """What a job found, in a process of its own.

    Args:
        job: of `JOBS`.
        options: its arguments.
        threads: whether the library may use every core.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.reproduction.tokenization.superbpe_runs",
        job,
        *map(str, options),
    ]
    environment = dict(os.environ) | ({} if threads else ONE_THREAD)
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(megabytes: str, size: str, transition: str, path: str = "") -> Row:
    """Trains superbpe; seconds to the end of stage 1, and from there on."""
    from lengthwise.tokenization.trainers.superbpe import SuperBPE

    kind = SuperBPE(transition=float(transition), percentile=100)
    begun: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as work:
        _warm(Path(work))
    with tempfile.TemporaryDirectory() as work:
        start = time.perf_counter()
        tokenizer = kind.train(
            lambda: prose(float(megabytes)), int(size), Path(work),
            lambda what, share: begun.setdefault(what, time.perf_counter()) and None,
        )  # fmt: skip
        end = time.perf_counter()
    second = begun.get("encoding the corpus", end)
    if path:
        tokenizer.save(path)
    return {"first": second - start, "second": end - second, "digest": _digest(tokenizer)}


def _warm(work: Path) -> None:
    """Compiles, or loads what was compiled, before the clock runs."""
    from lengthwise.tokenization.fast_bpe import FastBPE
    from lengthwise.tokenization.trainers.superbpe import SuperBPE

    def told(what: str, share: float) -> None:
        pass

    small = SuperBPE(transition=0.9)
    FastBPE(small.train(lambda: iter(["one two", "two one"]), 262, work, told)).encode(["one"])


def library(megabytes: str, size: str) -> Row:
    """Trains plain BPE with the trainer of `tokenizers`, on the same texts and pattern."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from lengthwise.tokenization.trainers.patterns import WORDS, cut_by, of_bytes

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cut_by(WORDS)
    tokenizer.decoder = of_bytes()
    trainer = trainers.BpeTrainer(
        vocab_size=int(size), show_progress=False, special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    start = time.perf_counter()
    tokenizer.train_from_iterator(prose(float(megabytes)), trainer)
    return {"first": time.perf_counter() - start, "second": 0.0, "digest": _digest(tokenizer)}


def chunks(megabytes: str, size: str, by: str) -> Row:
    """Trains supertokens, here or by the library from the same chunks; the digest is of merges."""
    import numpy as np
    from tokenizers import Tokenizer, models, trainers

    from lengthwise.tokenization.pieces import joined
    from lengthwise.tokenization.trainers.merges import LETTERS
    from lengthwise.tokenization.trainers.supertokens import Supertokens, cut

    kind, drawn = Supertokens(), np.random.default_rng(0)

    def words() -> Iterator[list[str]]:
        for text in prose(float(megabytes)):
            tokens = cut(*joined([text.encode()]), drawn)
            letters = "".join(LETTERS[token] if token >= 0 else " " for token in tokens.tolist())
            yield letters.split()

    with tempfile.TemporaryDirectory() as work:
        _warm(Path(work))
    start = time.perf_counter()
    if by == "ours":
        with tempfile.TemporaryDirectory() as work:
            tokenizer = kind.train(
                lambda: prose(float(megabytes)), int(size), Path(work), lambda what, share: None
            )  # fmt: skip
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.train_from_iterator(words(), trainers.BpeTrainer(
            vocab_size=int(size), min_frequency=kind.min_frequency, special_tokens=[kind.end],
            initial_alphabet=LETTERS, max_token_length=kind.longest, show_progress=False,
        ))  # fmt: skip
    seconds = time.perf_counter() - start
    merges = json.dumps(json.loads(tokenizer.to_str())["model"]["merges"])
    digest = hashlib.blake2b(merges.encode(), digest_size=8).hexdigest()
    return {"first": seconds, "second": 0.0, "digest": digest}


def encode(path: str, megabytes: str, by: str) -> Row:
    """Encodes held-out documents with a tokenizer's file, here or by the library, one thread."""
    from tokenizers import Tokenizer

    from lengthwise.tokenization.fast_bpe import FastBPE

    tokenizer = Tokenizer.from_file(path)
    texts = held_out(float(megabytes))
    fast = FastBPE(tokenizer)
    fast.encode(["one"])
    start = time.perf_counter()
    if by == "ours":
        found = fast.encode(texts)
        seconds = time.perf_counter() - start
        ids = [each.tolist() for each in found]
    else:
        batch = tokenizer.encode_batch(texts, add_special_tokens=False)
        seconds = time.perf_counter() - start
        ids = [each.ids for each in batch]
    size = sum(len(text.encode()) for text in texts)
    digest = hashlib.blake2b(json.dumps(ids).encode(), digest_size=8).hexdigest()
    return {"first": seconds, "second": 0.0, "digest": digest, "bytes": size}


def _digest(tokenizer: Any) -> str:
    return hashlib.blake2b(tokenizer.to_str().encode(), digest_size=8).hexdigest()


JOBS: dict[str, Callable[..., Row]] = {
    "ours": ours, "library": library, "chunks": chunks, "encode": encode,
}  # fmt: skip


def main() -> None:
    found = JOBS[sys.argv[1]](*sys.argv[2:])
    # Kilobytes on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps(found | {"peak": peak}))


if __name__ == "__main__":
    main()
