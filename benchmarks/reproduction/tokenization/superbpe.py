"""SuperBPE against plain BPE: bytes a token at equal vocabulary; seconds and memory of training.

Texts are books, dictionaries and manuals out of packages (`prose`).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.prose import held_out, prose
from benchmarks.reproduction.tokenization.superbpe_runs import Row, run
from tokenizers import Tokenizer

from lengthwise.tokenization.fast_bpe import FastBPE
from lengthwise.tokenization.trainers.superbpe import SuperBPE

_LAST = [""]


def _told(what: str, share: float) -> None:
    if _LAST[0] != what:
        _LAST[0] = what
        print(what, file=sys.stderr, flush=True)


def _bytes_a_token(tokenizer: Tokenizer, texts: list[str]) -> float:
    tokens = sum(len(ids) for ids in FastBPE(tokenizer).encode(texts))
    return sum(len(text.encode()) for text in texts) / tokens


def _at_most(tokenizer: Tokenizer, size: int) -> Tokenizer:
    """The tokenizer whose training would have ended at a smaller vocabulary."""
    told = json.loads(tokenizer.to_str())
    vocab = {word: token for word, token in told["model"]["vocab"].items() if token < size}
    merges = [pair for pair in told["model"]["merges"] if pair[0] + pair[1] in vocab]
    told["model"] |= {"vocab": vocab, "merges": merges}
    return Tokenizer.from_str(json.dumps(told))


@check(
    {"tokenizer": "", "vocabulary": ",d", "bytes a token": ".3f", "of plain BPE's": ".3f"},
    by_size={"vocabulary": ",d", "plain BPE": ".3f", "superbpe": ".3f", "ratio": ".3f"},
)
def compression(
    megabytes: float = 110.0, size: int = 200_000, test: float = 5.0,
    transitions: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9),
    curve: float = 0.4, sizes: tuple[int, ...] = (25_000, 50_000, 100_000, 150_000),
) -> Iterator[Found]:  # fmt: skip
    """Bytes a token on held-out documents cut at blank lines. All are trained on the same text;
    `curve` is the transition whose merges are cut for the second table."""
    texts = [part for document in held_out(test) for part in document.split("\n\n") if part]
    made: dict[float, Tokenizer] = {}
    plain = 0.0
    for transition in (1.0, *transitions):
        with tempfile.TemporaryDirectory() as work:
            kind = SuperBPE(transition=transition)
            found = kind.train(lambda: prose(megabytes), size, Path(work), _told)
        ratio = _bytes_a_token(found, texts)
        plain = plain or ratio
        if transition in (1.0, curve):
            made[transition] = found
        yield {
            "tokenizer": "plain BPE" if transition == 1 else f"superbpe(transition={transition:g})",
            "vocabulary": found.get_vocab_size(), "bytes a token": ratio,
            "of plain BPE's": ratio / plain,
        }  # fmt: skip
    for vocabulary in sizes if curve in made else ():
        one, other = (_bytes_a_token(_at_most(made[t], vocabulary), texts) for t in (1.0, curve))
        yield "by_size", {
            "vocabulary": vocabulary, "plain BPE": one, "superbpe": other, "ratio": other / one,
        }  # fmt: skip


@check({
    "what": "", "megabytes": ".0f", "seconds": ".1f", "MB a second": ".2f", "peak, MB": ".0f",
    "result": "",
})  # fmt: skip
def speed(
    megabytes: float = 110.0, size: int = 200_000, transition: float = 0.4, test: float = 5.0,
    rounds: int = 3, threads: bool = False,
) -> Iterator[Found]:  # fmt: skip
    """Training and encoding, each in a process of its own, ours and the library's in turn; the
    fastest round counts. Results are digests: where both made the same, they are equal."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "tokenizer.json")
        pairs = [
            ("stage 1", "ours", ("ours", megabytes, size, 1.0)),
            ("stage 1", "tokenizers", ("library", megabytes, size)),
            ("both stages", "ours", ("ours", megabytes, size, transition, path)),
            ("encoding", "ours", ("encode", path, test, "ours")),
            ("encoding", "tokenizers", ("encode", path, test, "library")),
        ]
        found: dict[tuple[str, str], Row] = {}
        for number in range(rounds):
            for what, by, job in pairs:
                if what == "both stages" and number:
                    continue
                row = run(str(job[0]), *job[1:], threads=threads)
                best = found.setdefault((what, by), row)
                if row["first"] < best["first"]:
                    found[what, by] = row
    for (what, by), row in found.items():
        read = row.get("bytes", megabytes * 1e6) / 1e6
        seconds = row["second"] if what == "both stages" else row["first"]
        yield {
            "what": f"{'stage 2' if what == 'both stages' else what}, {by}", "megabytes": read,
            "seconds": seconds, "MB a second": read / seconds, "peak, MB": row["peak"],
            "result": row["digest"],
        }  # fmt: skip
    yield Note(rounds=rounds, threads=threads)


@check({
    "megabytes": ".0f", "stage 1, seconds": ".0f", "stage 2, seconds": ".0f",
    "stage 2, MB a second": ".2f", "peak, MB": ".0f",
})  # fmt: skip
def memory(
    megabytes: tuple[float, ...] = (110.0, 1_000.0), size: int = 200_000, transition: float = 0.4
) -> Iterator[Found]:
    """Peak memory by the size of the corpus; behind its end the corpus begins again."""
    for each in megabytes:
        row = run("ours", each, size, transition)
        yield {
            "megabytes": each, "stage 1, seconds": row["first"], "stage 2, seconds": row["second"],
            "stage 2, MB a second": each / row["second"], "peak, MB": row["peak"],
        }  # fmt: skip


@check({"text": "", "megabytes": ".1f", "tokens": ",d", "comes back": "", "the library's ids": ""})
def round_trip(
    megabytes: float = 10.0, size: int = 30_000, transition: float = 0.4
) -> Iterator[Found]:
    """Texts from their ids, and ids beside the library's: prose, mixed scripts, random bytes."""
    with tempfile.TemporaryDirectory() as work:
        kind = SuperBPE(transition=transition)
        tokenizer = kind.train(lambda: prose(megabytes), size, Path(work), _told)
    fast = FastBPE(tokenizer)
    for name, texts in _texts(megabytes).items():
        ids = [each.tolist() for each in fast.encode(texts)]
        back = [tokenizer.decode(each, skip_special_tokens=False) for each in ids]
        library = [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]
        yield {
            "text": name, "megabytes": sum(len(text.encode()) for text in texts) / 1e6,
            "tokens": sum(map(len, ids)), "comes back": back == texts,
            "the library's ids": ids == library,
        }  # fmt: skip


def _texts(megabytes: float) -> dict[str, list[str]]:
    """Texts of some thousands of characters, half of the megabytes as prose."""
    random = Random(0)
    scripts = [(32, 127), (0xA1, 0x590), (0x5D0, 0x700), (0x900, 0xE00), (0x3040, 0x3100),
               (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1F700)]  # fmt: skip
    part, number = 4_000, int(megabytes * 1e6 / 4 / 3_000)
    mixed = [
        "".join(chr(random.randrange(*random.choice(scripts))) for _ in range(part // 3))
        for _ in range(number)
    ]
    noise = [random.randbytes(part // 2).decode("latin-1") for _ in range(number)]
    return {
        "prose, held out": held_out(megabytes / 2), "mixed scripts": mixed,
        "random bytes, as characters": noise,
    }  # fmt: skip
