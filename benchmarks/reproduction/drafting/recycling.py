"""Token Recycling: the paper's tree, ours, and ours beside lookup."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence as Seq

import numpy as np
from benchmarks.reproduction.drafting.tables_kept import (
    COLUMNS,
    COSTS,
    PROMPTS,
    VOCAB,
    cost,
    generate,
    lookup,
    plain,
    prompt,
    recycling as drafting,
    rounds,
)
from benchmarks.reproduction.harness import Found, Note, check, load, reference

from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.drafting.recycling import WIDTH, Matrix, Recycling, RecyclingDrafter

SIZES = {16: "16 guesses", 32: "32", 64: "64", 80: "80"}


@check({"drafters": "", **COLUMNS})
def recycling() -> Iterator[Found]:
    """Tokens a round on five prompts."""
    static, best = Recycling(tree="static"), Recycling()
    yield {"drafters": "recycling(tree=static), 80 guesses", **rounds(drafting(static))}
    yield {"drafters": "recycling, 64 guesses", **rounds(drafting(best))}
    yield {"drafters": "lookup", **rounds(lookup)}
    yield {"drafters": "lookup + recycling", **rounds(lookup, drafting(best))}


Gains = dict[tuple[str, int], list[int]]


class Watched(RecyclingDrafter):
    """Drafts with the paper's tree, and notes how many tokens a round other trees would give."""

    def __init__(self, matrix: Matrix, text: list[int], gains: Gains) -> None:
        super().__init__(Recycling(tree="static"), matrix)
        self.text, self.gains = text, gains

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        for how in ("static", "best"):
            for nodes in SIZES:
                other = Tree(tokens[-1])
                options = Recycling(tree=how, nodes=nodes)
                RecyclingDrafter(options, self.matrix).propose(tokens, other, limit)
                self.gains.setdefault((how, nodes), []).append(
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


@check({"tree": "", **dict.fromkeys(SIZES.values(), ".2f")})
def trees() -> Iterator[Found]:
    """Trees grown from the same table at the same places: the mean over the rounds of one run."""
    matrix = Matrix(VOCAB)
    gains: Gains = {}
    for name in PROMPTS:
        text = [*prompt(name), *plain(name)]
        generate(name, lambda text=text: Watched(matrix, text, gains))
    names = {"static": "static (the first so many nodes, level by level)", "best": "best"}
    for how, name in names.items():
        found = {SIZES[n]: round(statistics.mean(gains[how, n]), 2) for n in SIZES}
        yield {"tree": name, **found}
    yield Note(rounds=len(gains["best", 64]))


@check(COSTS)
def costs() -> Iterator[Found]:
    """Milliseconds of processor time of proposing and learning, one thread, a full table."""
    generator = np.random.default_rng(0)
    matrix = Matrix(VOCAB)
    ids = generator.integers(0, VOCAB, (VOCAB, WIDTH))
    shares = np.sort(generator.dirichlet([0.3] * WIDTH, VOCAB))[:, ::-1]
    matrix.put(range(VOCAB), ids, np.log(shares.clip(1e-9)).astype(np.float32))
    text = reference(load())[:32_768]
    yield cost("recycling", RecyclingDrafter(Recycling(), matrix), text)
    yield cost("recycling(tree=static)", RecyclingDrafter(Recycling(tree="static"), matrix), text)
