"""Guesses of several trees in one order, and trees pruned to the first of them.

A guess is worth the probability that its whole path is accepted. Drawn guesses, and those of a
drafter that is being tried, come first: they are verified whatever they are worth.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq, Set

import numpy as np
from numpy.typing import NDArray

from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.tree import Tree

# The most guesses a step is considered with.
MOST_GUESSES = 256

# (free, -probability, tree, node): free guesses may be left out, the others may not.
Ranked = list[tuple[bool, float, int, int]]


def rank(trees: Seq[Tree], acceptances: Seq[Acceptance], tried: Set[str] = frozenset()) -> Ranked:
    """All guesses, those that must be verified first, then the likeliest.

    A parent comes before its children. tried: sources whose guesses must be verified, as drawn ones
    must.
    """
    found = []
    for row, (tree, acceptance) in enumerate(zip(trees, acceptances, strict=True)):
        held = tree.drawn()
        if tried:
            held |= tree.above(n for n, source in enumerate(tree.sources) if source in tried)
        for node, prob in enumerate(acceptance.path_probs(tree)):
            if node:
                found.append((node not in held, -prob, row, node))
    return sorted(found)


def held_count(ranked: Ranked) -> int:
    """How many of the ranked guesses must be verified."""
    return sum(not free for free, *_ in ranked)


def miss_prob(tree: Tree, acceptance: Acceptance) -> float:
    """The probability that none of the guesses of the next token is right."""
    probs = acceptance.path_probs(tree)
    return max(0.0, 1 - sum(probs[node] for node in tree.children[0].values()))


def best_size(tokens: float, ranked: Ranked, seconds: NDArray[np.float64], margin: float) -> int:
    """How many of the ranked guesses give most tokens a second.

    tokens: expected without any. seconds `[guesses + 1]`: of a step with so many guesses. margin:
    how many times the speed without any they must promise.
    """
    best, times = 0, seconds.tolist()
    rate = margin * tokens / times[0]
    # Costs may have steps, so all sizes are compared instead of stopping at the first descent.
    for count, (free, prob, _, _) in enumerate(ranked, 1):
        tokens -= prob
        if not free or tokens / times[count] > rate:
            best, rate = count, tokens / times[count]
    return best


def prune(trees: Seq[Tree], ranked: Ranked) -> list[Tree]:
    """The trees with the ranked guesses alone."""
    kept: list[list[int]] = [[0] for _ in trees]
    for *_, row, node in ranked:
        kept[row].append(node)
    return [
        tree if len(nodes) == len(tree) else tree.keep(sorted(nodes))
        for tree, nodes in zip(trees, kept, strict=True)
    ]


def capped(tree: Tree, before: int, acceptance: Acceptance, most: int = MOST_GUESSES) -> Tree:
    """A tree with the likeliest `most` of the guesses from node `before` on, and all draws."""
    if len(tree) - before <= most:
        return tree
    ranked = [each for each in rank([tree], [acceptance]) if each[-1] >= before]
    kept = {node for *_, node in ranked[: max(held_count(ranked), most)]}
    return tree.keep([*range(before), *sorted(kept)])


__all__ = [
    "MOST_GUESSES", "Ranked", "best_size", "capped", "held_count", "miss_prob", "prune", "rank",
]  # fmt: skip
