"""What reading once is worth, and what serving costs: sessions, prefixes, an engine for many."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence as Seq
from itertools import count, pairwise
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch

import lengthwise
from benchmarks.figures import Table, alternate, text_ids, timed
from lengthwise.api.generation import Generation
from lengthwise.api.model import Model
from lengthwise.documents.document import Document
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.prefix.tree import RadixTree
from lengthwise.engine.sampling import Sampling
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.recipes import parse
from lengthwise.serving.engine import Ask, Engine, Piece
from lengthwise.tokenization.detokenise import decode

QUESTIONS = [
    f"What does the text say about {subject}?"
    for subject in (
        "indentation", "comments", "encodings", "identifiers", "keywords", "literals", "operators",
        "delimiters", "objects", "types", "names", "binding", "exceptions", "imports", "modules",
        "calls", "slices", "comparisons", "lambdas", "assignments",
    )
]  # fmt: skip


def sessions(rounds: int) -> Table:
    """Twenty questions about one document of 8,000 tokens, and a saved session."""
    table = Table(
        "sessions", "Read once, asked twenty times",
        "16 tokens an answer, greedy, in bf16; `calls` reads the document with every question. "
        "`same` are questions whose tokens are those of the call: of 20 in bf16, where both may "
        "round otherwise, and of 3 in float32. A session of 8,192 tokens is opened from its file "
        "and asked for one token, against reading them.",
    )  # fmt: skip
    model = lengthwise.load()
    assert model.tokenizer is not None
    document = Document("reference", decode(model.tokenizer, text_ids(model, 8000)))

    def calls(asking: Model, questions: Seq[str]) -> list[list[int]]:
        return [
            asking.generate(
                [{"role": "user", "content": f"{document.text}\n\n{question}"}], max_new_tokens=16
            ).token_ids
            for question in questions
        ]

    def one_by_one(asking: Model, questions: Seq[str]) -> list[list[int]]:
        session = asking.read(document)
        return [session.ask(question, max_new_tokens=16).token_ids for question in questions]

    def at_once(asking: Model, questions: Seq[str]) -> list[list[int]]:
        found = asking.read(document).ask_batch(questions, max_new_tokens=16)
        return [each.token_ids for each in found]

    model.read(document)
    right: list[list[int]] = []
    slow = timed(lambda: right.extend(calls(model, QUESTIONS)))
    exact, few = lengthwise.load(dtype="float32"), QUESTIONS[:3]
    exactly = calls(exact, few)
    for way, what in ((one_by_one, "one after another"), (at_once, "at once (`ask_batch`)")):
        fast = median(timed(lambda w=way: w(model, QUESTIONS)) for _ in range(max(1, rounds // 2)))
        same = sum(a == b for a, b in zip(way(model, QUESTIONS), right, strict=True))
        same32 = sum(a == b for a, b in zip(way(exact, few), exactly, strict=True))
        table.rows.append(
            {"what": f"20 questions, 8,000 tokens, {what}", "calls s": slow, "session s": fast,
             "times": slow / fast, "same": f"{same}/20, {same32}/3 in float32"}
        )  # fmt: skip
    table.rows.append(_saved(model, rounds))
    return table


def _saved(model: Model, rounds: int) -> dict[str, object]:
    ids = text_ids(model, 8193)
    reading, opening = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "held.safetensors"
        session = model.read(ids[:8192])
        session.save(path)
        for _ in range(rounds):
            reading.append(timed(lambda: model.read(ids[:8192])))
            opening.append(
                timed(
                    lambda: lengthwise.open_session(path, model).ask(ids[8192:], max_new_tokens=1)
                )
            )
    slow, fast = median(reading), median(opening)
    return {"what": "opening 8,192 tokens from a file", "calls s": slow, "session s": fast,
            "times": slow / fast, "same": ""}  # fmt: skip


def prefixes(rounds: int) -> Table:
    """Look-ups among 10,000 prefixes, and keeping one more, against a step of decoding."""
    table = Table(
        "prefixes", "The prefix tree with 10,000 prefixes",
        "A request looks its prompt of 512 tokens up once and adds what it has read, one leaf "
        "leaving for it; a step is one token of the default model behind 512 tokens, and a request "
        "says 64. Entries are of one number each: what is timed is the tree. Beside it a request "
        "looks once whether the weights are still the same.",
    )  # fmt: skip
    model = lengthwise.load()
    generator = np.random.default_rng(0)
    heads = [generator.integers(0, 49152, 200) for _ in range(100)]
    tree = RadixTree(1 << 40)

    def text(number: int) -> np.ndarray:
        return np.concatenate([heads[number % 100], generator.integers(0, 49152, 312)])

    def request(number: int) -> None:
        ids = text(number)
        match = tree.match("r", ids)
        tree.make_room(32, match)
        tree.insert("r", ids, match, [_entry(len(ids) - len(match))])

    for number in range(10_000):
        request(number)
    tree.capacity = tree.nbytes
    each = median(timed(lambda n=n: request(n)) for n in range(10_000, 10_000 + 100 * rounds))
    ids = text_ids(model, 512)
    sequence = Sequence(model.adapted, model.plan("full"), expected=1024)
    started = loop.begin(sequence, Sampling(), 10**9, [])
    loop.start(started, loop.prefill(sequence, ids))
    step = median(timed(lambda: loop.step([started])) for _ in range(64))
    weights = median(timed(lambda: fingerprint_now(model.adapted)) for _ in range(16))
    table.rows.append(
        {"prefixes": len(tree), "request us": each * 1e6, "weights us": weights * 1e6,
         "step us": step * 1e6, "share of one step": each / step,
         "share of 64, weights too": (each + weights) / step / 64}
    )  # fmt: skip
    return table


def _entry(tokens: int) -> KVEntries:
    return KVEntries(
        torch.zeros(1, tokens, 1), torch.zeros(1, tokens, 1), torch.zeros(1, tokens).int()
    )


class _Client:
    """Asks, and notes when pieces came."""

    def __init__(self, engine: Engine, ids: Seq[int], new: int) -> None:
        self.times: list[float] = []
        self.tokens = 0
        self.over = threading.Event()
        self.done: object = None
        ask = Ask(list(ids), parse("full"), new, Sampling(), stop_ids=())
        self.begin = time.perf_counter()
        engine.submit(ask, self.told)

    def told(self, piece: Piece) -> None:
        if piece.tokens:
            self.times.append(time.perf_counter())
            self.tokens += len(piece.tokens)
        if piece.done is not None:
            self.done = piece.done
            self.over.set()

    def wait(self) -> Generation:
        self.over.wait()
        assert isinstance(self.done, Generation), self.done
        return self.done


def serve(rounds: int) -> Table:
    """The engine at one client and at many."""
    table = Table(
        "serve", "The engine: one client, and many",
        "Prompts of 256 tokens, 128 tokens each, default model in its own dtype. `alone` is the "
        "loop without an engine, in turn with it. No prompt is in the prefix cache, but for the "
        "4,096 tokens that clients share in the last row.",
    )  # fmt: skip
    model = lengthwise.load()
    ids = text_ids(model, 20_000)
    engine = Engine(model, cache_bytes="2GiB", kv_bytes="6GiB")

    fresh = count(100)

    def new_prompt() -> list[int]:
        # One that no cache has seen: the prefix cache is to save nothing here.
        start = next(fresh)
        return ids[start : start + 256]

    def alone() -> int:
        cache, model.prefix_cache = model.prefix_cache, None
        found = model.generate(new_prompt(), max_new_tokens=128, stop_ids=[])
        model.prefix_cache = cache
        return len(found.token_ids)

    def one() -> int:
        return len(_Client(engine, new_prompt(), 128).wait().token_ids)

    def many(clients_now: int) -> float:
        begin = time.perf_counter()
        clients = [_Client(engine, new_prompt(), 128) for _ in range(clients_now)]
        return sum(len(client.wait().token_ids) for client in clients) / (
            time.perf_counter() - begin
        )

    one()
    plain, served = alternate(alone, one, rounds, 1)
    table.rows.append({"what": "1 client against the loop alone", "a": plain, "b": served,
                       "b / a": served / plain})  # fmt: skip
    for clients in (4, 16, 32):
        speed = median(many(clients) for _ in range(max(1, rounds // 2)))
        what = f"{clients} clients against 1, tokens/s"
        table.rows.append({"what": what, "a": served, "b": speed, "b / a": speed / served})
    table.rows.append(_shared(engine, ids, served, rounds))
    engine.close()
    return table


def beside(rounds: int) -> Table:
    """The time between tokens while a long prompt is read."""
    table = Table(
        "beside", "A long prompt beside those who write",
        "p99 of the time from one token to the next of 4 clients behind 64 tokens, while another "
        "prompt of 16,384 tokens is read, against as many tokens of the same clients without. "
        "Once, whatever --rounds says.",
    )  # fmt: skip
    model = lengthwise.load()
    engine = Engine(model, cache_bytes=0, kv_bytes="6GiB")
    table.rows.append(_beside(engine, text_ids(model, 20_000)))
    engine.close()
    return table


def _shared(engine: Engine, ids: Seq[int], one: float, rounds: int) -> dict[str, object]:
    head = list(ids[:4096])
    _Client(engine, head, 1).wait()

    def run(many: int) -> float:
        begin = time.perf_counter()
        clients = [_Client(engine, [*head, 5 + n, 6 + n], 128) for n in range(many)]
        tokens = sum(len(client.wait().token_ids) for client in clients)
        return tokens / (time.perf_counter() - begin)

    few, many = (median(run(each) for _ in range(max(1, rounds // 2))) for each in (1, 16))
    return {"what": "16 clients that share 4,096 tokens against 1 of them, tokens/s", "a": few,
            "b": many, "b / a": many / few}  # fmt: skip


def _beside(engine: Engine, ids: Seq[int]) -> dict[str, object]:
    def gaps(clients: Seq[_Client], start: float, stop: float) -> float:
        found = [
            b - a
            for client in clients
            for a, b in pairwise(client.times)
            if a >= start and b <= stop
        ]
        return quantiles(found, n=100)[98]

    def writing(new: int) -> list[_Client]:
        clients = [_Client(engine, ids[n * 100 : n * 100 + 64], new) for n in range(4)]
        while any(len(client.times) < 10 for client in clients):
            time.sleep(0.01)
        return clients

    busy = writing(8000)
    start = time.perf_counter()
    long = _Client(engine, ids[1 : 1 + 16_384], 1)
    long.wait()
    with_it = gaps(busy, start, time.perf_counter())
    engine._scheduler.cancel_all()
    written = min(len(client.wait().token_ids) for client in busy)
    quiet = writing(written)
    start = time.perf_counter()
    for client in quiet:
        client.wait()
    without = gaps(quiet, start, time.perf_counter())
    return {"what": f"p99 between tokens, s, 4 clients beside 16,384 tokens that took "
            f"{long.times[0] - long.begin:.1f} s, {written:,} tokens each",
            "a": without, "b": with_it,
            "b / a": with_it / without}  # fmt: skip


__all__ = ["beside", "prefixes", "serve", "sessions"]
