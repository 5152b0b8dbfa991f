"""What checks of drafters that learn tables share: five prompts, and the time of proposing and
learning.

Tokens a round on five prompts (summarise a passage, rewrite Python code, repeat a text, list facts,
answer a short question), 64 new tokens each, greedy, float32, everything verified that is guessed;
a table is empty at the first prompt and kept to the last. Every text is that of plain decoding.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from benchmarks.reproduction.drafting.prose import PASSAGE
from benchmarks.reproduction.harness import Row, encode, load

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence as Context
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.drafting.aded import ADED, ADEDDrafter, Trigrams
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.methods.drafting.recycling import Matrix, Recycling, RecyclingDrafter

NEW = 64
VOCAB = 49_152
REPEATS = 200
LEARNED = (8, 16, 64)
CODE = """def total(orders):
    result = 0
    for order in orders:
        if order["paid"]:
            result = result + order["price"] * order["count"]
    return result

def largest(orders):
    best = None
    for order in orders:
        if best is None or order["price"] > best["price"]:
            best = order
    return best
"""
PROMPTS = {
    "summarise": f"Summarise this passage in two sentences.\n\n{PASSAGE}",
    "rewrite": f"Rewrite this Python code with type hints.\n\n{CODE}",
    "repeat": f"Repeat this text exactly.\n\n{PASSAGE}",
    "list": "List ten facts about the planet Mars.",
    "question": "Why is the sky blue?",
}

COLUMNS = {**dict.fromkeys(PROMPTS, ".2f"), "mean": ".2f"}
COSTS = {
    "drafter": "", "guesses": "", "propose": ".3f", "propose, 95%": ".3f",
    **{f"learn {dtype}, {n}": ".3f" for dtype in ("float32", "bfloat16") for n in LEARNED},
}  # fmt: skip

Starter = Callable[[], Drafter]


@cache
def prompt(name: str) -> list[int]:
    """A prompt through the chat template."""
    model = load("float32")
    tokenizer: Any = model.tokenizer
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPTS[name]}], add_generation_prompt=True, tokenize=False
    )
    return encode(model, str(text))


def rounds(*starters: Starter) -> Row:
    """Tokens a round of the prompts, one after the other. Raises RuntimeError where a text is not
    that of plain decoding."""
    row: Row = {}
    for name in PROMPTS:
        request = generate(name, *starters)
        if request.output != plain(name):
            raise RuntimeError(f"{name}: the text is not that of plain decoding")
        row[name] = round(request.metrics.accepted_per_step, 2)
    return {**row, "mean": round(statistics.mean(row.values()), 2)}


@cache
def plain(name: str) -> list[int]:
    return generate(name).output


def generate(name: str, *starters: Starter) -> Request:
    sequence = Context(load("float32").adapted, Plan(drafters=starters))
    # No stop ids: every prompt runs for the same number of tokens.
    request = loop.begin(sequence, Sampling(), NEW, ())
    loop.start(request, loop.prefill(sequence, prompt(name)))
    for _ in loop.run(request, Fixed()):
        pass
    return request


def lookup() -> Drafter:
    return LookupDrafter(Lookup(max_draft=10))


def recycling(options: Recycling) -> Starter:
    table = Matrix(VOCAB)
    return lambda: RecyclingDrafter(options, table)


def aded(options: ADED) -> Starter:
    table = Trigrams(VOCAB)
    return lambda: ADEDDrafter(options, table)


def cost(name: str, drafter: Drafter, text: list[int]) -> Row:
    """Milliseconds of processor time of a drafter, medians over places of a text."""
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    times, sizes = [], []
    for _ in range(REPEATS):
        tokens = text[: int(generator.integers(2, len(text)))]
        tree = Tree(tokens[-1])
        times.append(spent(lambda k=tokens, t=tree: drafter.propose(k, t, 32)))  # type: ignore[misc]
        sizes.append(len(tree) - 1)
    return {
        "drafter": name,
        "guesses": round(statistics.median(sizes)),
        "propose": round(statistics.median(times), 3),
        "propose, 95%": round(statistics.quantiles(times, n=20)[-1], 3),
        **{
            f"learn {str(dtype).removeprefix('torch.')}, {nodes}": _learning(
                drafter, dtype, nodes, text
            )
            for dtype in (torch.float32, torch.bfloat16)
            for nodes in LEARNED
        },
    }


def _learning(drafter: Drafter, dtype: torch.dtype, nodes: int, text: list[int]) -> float:
    tree = Tree(text[1])
    for token in text[2 : 2 * nodes]:
        if len(tree) <= nodes:
            tree.add(0, token)
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(len(tree), VOCAB, generator=generator)).to(dtype)
    tokens = [*text[:2], 5]
    times = [spent(lambda: drafter.learn(tokens, tree, logits, [0])) for _ in range(30)]
    return round(statistics.median(times), 3)


def spent(work: Callable[[], object]) -> float:
    """Milliseconds of processor time."""
    begin = time.thread_time()
    work()
    return (time.thread_time() - begin) * 1000
