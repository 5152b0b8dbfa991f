"""RASD's fused tree and its two parts on five prompts, at the same number of nodes verified."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle, islice

import torch
from benchmarks.reproduction.drafting.decoding import NODES, Starter, decode
from benchmarks.reproduction.drafting.five_prompts import COLUMNS, GUESSES, bench
from benchmarks.reproduction.harness import Found, Note, check, load, reference
from torch import Tensor

from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.drafting.layers import Layers
from lengthwise.methods.drafting.rasd import ContextSource, Rasd, RasdDrafter, graft


class Retrieving(Drafter):
    """The retrieved part of rasd alone, nothing pruned."""

    name = "retrieved"

    def __init__(self, options: Rasd) -> None:
        self.options, self.source = options, ContextSource()

    def propose(self, tokens: Sequence[int], tree: Tree, limit: int) -> None:
        room = self.options.retrieved
        for path in self.source.find(tokens, min(limit, self.options.draft)):
            room -= graft(tree, path, path.weight, room)
            if not room:
                return


@check({"guesses": "", **{name: how for name, how in COLUMNS.items() if name != GUESSES}})
def rasd() -> Iterator[Found]:
    """Layers alone, retrieval alone, and both in one tree."""
    chosen = bench()
    model, options = chosen.model.adapted, Rasd()
    layers = Layers(keep=options.layers, depth=options.depth, width=options.width)
    parts: dict[str, Starter] = {
        "layers alone": partial(layers.start_drafter, model),
        "retrieved alone": lambda: Retrieving(options),
        "rasd": partial(options.start_drafter, model),
    }
    stop_ids = chosen.model.stop_ids()
    for name, starter in parts.items():
        rounds: dict[str, float] = {}
        accepted: Counter[str] = Counter()
        for work, base in chosen.bases.items():
            assert base.last_logits is not None
            request = decode(base, base.last_logits, starter, stop_ids=stop_ids)
            if request.output != chosen.plain[work]:
                raise RuntimeError(f"{name}, {work}: the text is not that of plain decoding")
            rounds[work] = round(request.metrics.accepted_per_step, 2)
            accepted.update(request.metrics.accepted)
        yield {"guesses": name, **rounds, "mean": round(statistics.mean(rounds.values()), 2)}
        yield Note({f"accepted of {name}": dict(accepted), "nodes": NODES})


@check({"context": "", "microseconds": ""})
def fusion() -> Iterator[Found]:
    """Processor time of retrieval, pruning and fusion in a round, the median of 300, one thread."""
    model = load("float32")
    text = list(islice(cycle(reference(model)), 32_768))
    vocab, generator = model.adapted.vocab_size, random.Random(0)
    fused = RasdDrafter(Rasd(), lambda sequence: Same(vocab))
    fused.vocab_size, fused.sampler = vocab, Sampler(Sampling())
    fused.runner = Same(vocab)
    spent = []
    for step in range(300):
        text.append(text[1000 + step] if generator.random() < 0.9 else 77)
        probs = torch.randn(vocab).softmax(-1)
        tree = Tree(text[-1])
        begin = time.thread_time()
        room = fused.options.retrieved
        for path, prob in fused.prune(fused.source.find(text, 16), probs):
            room -= graft(tree, path, prob, room)
            if not room:
                break
        spent.append(time.thread_time() - begin)
    yield {"context": 32_768, "microseconds": round(statistics.median(spent) * 1e6)}


class Same:
    """Stands in for a model that is not asked."""

    states: Tensor | None = None

    def __init__(self, vocab_size: int) -> None:
        self.logits = torch.zeros(1, vocab_size)

    def score(self, tokens: Sequence[int], tree: Tree, want_states: bool = False) -> Tensor:
        return self.logits
