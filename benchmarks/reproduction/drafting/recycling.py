"""Checks of the drafters that learn tables, on the real 135M model: forwards are counted.

    python -m benchmarks.checks.drafting_tables recycling
    python -m benchmarks.checks.drafting_tables trees
    python -m benchmarks.checks.drafting_tables aded
    python -m benchmarks.checks.drafting_tables cost

`recycling` and `aded` print one JSON line: tokens a round on five prompts (summarise a passage,
rewrite Python code, repeat a text, list facts, answer a short question), 64 new tokens each,
greedy, float32, everything verified that is guessed; a table is empty at the first prompt and kept
to the last. `equal` says that all five texts are those of plain decoding. `trees` compares trees
grown from the same table at the same places: the mean over the rounds of one run. `cost` prints
processor time of proposing and learning, default model's vocabulary, one thread.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence as Seq
from functools import cache
from typing import Any

import numpy as np
import torch

from lengthwise.engine import loop
from lengthwise.engine.plan import Plan
from lengthwise.engine.policy import Fixed
from lengthwise.engine.roles import Drafter
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence as Context
from lengthwise.engine.tree import Tree
from lengthwise.methods.drafting.aded import ADED, END, ADEDDrafter, Trigrams
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.methods.drafting.recycling import WIDTH, Matrix, Recycling, RecyclingDrafter
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.load import load_pretrained
from lengthwise.tasks.documents import read_document

NEW = 64
VOCAB = 49_152
NODES = 64
REPEATS = 200
PASSAGE = (
    "The lighthouse keeper wrote every evening in a thick green book. He noted the wind, the "
    "height of the waves, and the names of the ships that passed. On the third of March he "
    "counted eleven ships before noon, more than in the whole of February. In the afternoon a fog "
    "came up from the south, and he rang the bell until his arms were tired. Nobody answered. At "
    "midnight the fog lifted, and a small boat with a red sail lay on the stones below the tower."
)
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

Starter = Callable[[], Drafter]


@cache
def _model() -> tuple[Adapted, dict[str, list[int]]]:
    """The default model, and the prompts through its chat template."""
    model, tokenizer, _ = load_pretrained(dtype="float32")
    texts = {
        name: tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        for name, text in PROMPTS.items()
    }
    ids = {n: tokenizer.encode(str(t), add_special_tokens=False) for n, t in texts.items()}
    return adapt(model), ids


def _rounds(*starters: Starter) -> dict[str, Any]:
    """Tokens a round of the prompts, one after the other."""
    model, prompts = _model()
    row: dict[str, Any] = {}
    equal = True
    for name, prompt in prompts.items():
        request = _generate(model, prompt, *starters)
        equal &= request.output == _plain(name)
        row[name] = round(request.ledger.accepted_per_step, 2)
    return {**row, "mean": round(statistics.mean(row.values()), 2), "equal": equal}


@cache
def _plain(name: str) -> list[int]:
    model, prompts = _model()
    return _generate(model, prompts[name]).output


def _generate(model: Adapted, prompt: list[int], *starters: Starter) -> loop.Request:
    sequence = Context(model, Plan(drafters=starters))
    # No stop ids: every prompt runs for the same number of tokens.
    request = loop.begin(sequence, Sampling(), NEW, ())
    loop.start(request, loop.prefill(sequence, prompt))
    for _ in loop.run(request, Fixed()):
        pass
    return request


def _lookup() -> Drafter:
    return LookupDrafter(Lookup(max_draft=10))


def _recycling(options: Recycling) -> Starter:
    table = Matrix(VOCAB)
    return lambda: RecyclingDrafter(options, table)


def _aded(options: ADED) -> Starter:
    table = Trigrams(VOCAB)
    return lambda: ADEDDrafter(options, table)


def recycling() -> dict[str, Any]:
    """The paper's tree, ours, and ours beside lookup."""
    return {
        "check": "recycling",
        "static": _rounds(_recycling(Recycling(tree="static"))),
        "best": _rounds(_recycling(Recycling())),
        "lookup": _rounds(_lookup),
        "lookup + best": _rounds(_lookup, _recycling(Recycling())),
    }


class Watched(RecyclingDrafter):
    """Drafts with the paper's tree, and notes how many tokens a round other trees would give."""

    def __init__(self, matrix: Matrix, text: list[int], gains: dict[str, list[int]]) -> None:
        super().__init__(Recycling(tree="static"), matrix)
        self.text, self.gains = text, gains

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        for how in ("static", "best"):
            for nodes in (16, 32, 64, 80):
                other = Tree(tokens[-1])
                options = Recycling(tree=how, nodes=nodes)
                RecyclingDrafter(options, self.matrix).propose(tokens, other, limit)
                self.gains.setdefault(f"{how}, {nodes}", []).append(
                    1 + _right(other, self.text[len(tokens) :])
                )
        super().propose(tokens, tree, limit)


def _right(tree: Tree, text: Seq[int]) -> int:
    """How many tokens of a text the tree holds."""
    node: int | None = 0
    for count, token in enumerate(text):
        node = tree.children[node].get(token) if node is not None else None
        if node is None:
            return count
    return len(text)


def trees() -> dict[str, Any]:
    """Tokens a round by tree and number of guesses."""
    matrix = Matrix(VOCAB)
    gains: dict[str, list[int]] = {}
    model, prompts = _model()
    for name, prompt in prompts.items():
        text = [*prompt, *_plain(name)]
        _generate(model, prompt, lambda text=text: Watched(matrix, text, gains))
    means = {name: round(statistics.mean(found), 2) for name, found in gains.items()}
    return {"check": "trees", "rounds": len(gains["best, 64"]), **means}


class Unread(ADEDDrafter):
    """Leaves the prompt out, as the authors' code does; it has no corpus either."""

    def begin(self, sequence: Context, sampling: Sampling) -> None:
        self.trigrams.note(sequence.tokens[-END:])


def aded() -> dict[str, Any]:
    """Every rule of learning with every search, and three of them beside others."""
    found: dict[str, Any] = {"check": "aded"}
    for learn in ("text", "logits"):
        for search in ("sums", "products"):
            options = ADED(learn=learn, search=search)
            found[f"{learn}, {search}"] = _rounds(_aded(options))
    table = Trigrams(VOCAB)
    found["text, sums, the prompt left out"] = _rounds(lambda: Unread(ADED(), table))
    for options in (ADED(), ADED(learn="logits"), ADED(learn="logits", search="products")):
        beside = [_lookup, _recycling(Recycling()), _aded(options)]
        found[f"lookup + {options}"] = _rounds(_lookup, _aded(options))
        found[f"lookup + recycling + {options}"] = _rounds(*beside)
    return found


def cost() -> dict[str, Any]:
    """Milliseconds of processor time, medians."""
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    matrix = Matrix(VOCAB)
    ids = generator.integers(0, VOCAB, (VOCAB, WIDTH))
    chances = np.sort(generator.dirichlet([0.3] * WIDTH, VOCAB))[:, ::-1]
    matrix.put(range(VOCAB), ids, np.log(chances.clip(1e-9)).astype(np.float32))
    _, tokenizer, _ = load_pretrained()
    text = tokenizer.encode(read_document().text, add_special_tokens=False)[:32_768]
    trigrams = Trigrams(VOCAB)
    found: dict[str, Any] = {"check": "cost", "unit": "milliseconds", "tokens": len(text)}
    drafters: dict[str, Drafter] = {
        "recycling": RecyclingDrafter(Recycling(), matrix),
        "static": RecyclingDrafter(Recycling(tree="static"), matrix),
        "aded": ADEDDrafter(ADED(), trigrams),
        "aded(learn=logits, search=products)": ADEDDrafter(
            ADED(learn="logits", search="products"), trigrams
        ),
    }
    found["aded reads the text"] = _spent(lambda: trigrams.read(text, 0.3))
    for name, drafter in drafters.items():
        times, sizes = [], []
        for _ in range(REPEATS):
            tokens = text[: int(generator.integers(2, len(text)))]
            tree = Tree(tokens[-1])
            times.append(_spent(lambda d=drafter, k=tokens, t=tree: d.propose(k, t, 32)))
            sizes.append(len(tree) - 1)
        found[name] = {
            "guesses": statistics.median(sizes),
            "propose": round(statistics.median(times), 3),
            "propose, 95%": round(statistics.quantiles(times, n=20)[-1], 3),
            **{
                f"learn {str(dtype).removeprefix('torch.')}, {nodes}": _learning(
                    drafter, dtype, nodes, text
                )
                for dtype in (torch.float32, torch.bfloat16)
                for nodes in (8, 16, NODES)
            },
        }
    return found


def _learning(drafter: Drafter, dtype: torch.dtype, nodes: int, text: list[int]) -> float:
    tree = Tree(text[1])
    for token in text[2 : 2 * nodes]:
        if len(tree) <= nodes:
            tree.add(0, token)
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(len(tree), VOCAB, generator=generator)).to(dtype)
    tokens = [*text[:2], 5]
    times = [_spent(lambda: drafter.learn(tokens, tree, logits, [0])) for _ in range(30)]
    return round(statistics.median(times), 3)


def _spent(work: Callable[[], object]) -> float:
    begin = time.thread_time()
    work()
    return (time.thread_time() - begin) * 1000


CHECKS: dict[str, Callable[[], dict[str, Any]]] = {
    "recycling": recycling,
    "trees": trees,
    "aded": aded,
    "cost": cost,
}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"name one of {', '.join(CHECKS)}")
    print(json.dumps(CHECKS[sys.argv[1]]()))
