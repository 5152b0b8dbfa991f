"""Random trees of guesses, for checks of what judges them: verifiers and length policies."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from lengthwise.engine.speculative.tree import Tree

VOCAB = 12


def random_tree(seed: int, draws: bool = False, root: int = 3) -> Tree:
    """Guesses of two drafters over VOCAB tokens; draws: a third one drew below the root."""
    rng = random.Random(seed)
    tree = Tree(root, draws)
    if draws:
        probs = torch.tensor([rng.random() for _ in range(VOCAB)])
        probs /= probs.sum()
        tree.draw(0, rng.sample(range(VOCAB), 2), probs, "drawing", [0, 0])
    for _ in range(rng.randint(4, 16)):
        parent = rng.randrange(len(tree))
        tree.add(parent, rng.randrange(VOCAB), rng.choice(["one", "two"]), rng.randrange(3),
                 rng.random())  # fmt: skip
    return tree


def random_logits(tree: Tree, seed: int) -> Tensor:
    """Logits `[nodes, VOCAB]` under which some of the guesses come true."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(tree), VOCAB, generator=generator)
    for node in range(1, len(tree)):
        logits[tree.parents[node], tree.tokens[node]] += 1.5
    return logits


def said(tree: Tree, accepted: list[int], token: int) -> list[int]:
    """The tokens that a verification says."""
    return [*(tree.tokens[node] for node in accepted[1:]), token]


def fingerprint(tree: Tree) -> tuple[object, ...]:
    """All that a tree holds, to be compared with itself later."""
    fields = (tree.tokens, tree.parents, tree.depths, tree.sources, tree.buckets, tree.priors)
    drawn = [(parent, [g.nodes for g in groups]) for parent, groups in tree.draws.items()]
    return (*(tuple(each) for each in fields), str(drawn))


__all__ = ["VOCAB", "fingerprint", "random_logits", "random_tree", "said"]
