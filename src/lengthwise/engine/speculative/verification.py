"""The verdict on a tree of guesses: which of them the target itself would have said.

Deterministic guesses are matched: the target's choice is drawn first and looked up among a node's
children. Drawn ones may be accepted by recursive rejection first (Leviathan et al. 2023, Jeon et
al. 2024): with target law p and drafts x1, x2, ... drawn from q without replacement,

    accept x_i with probability min(1, p(x_i) / q(x_i));
    rejected:  p <- norm(max(p - q, 0)),  q(x_i) <- 0,  q <- norm(q)

and where none is accepted the target draws from the p that is left, which the deterministic
children are matched against. The law of what is said is the target's, whatever the drafts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lengthwise.engine.sampling import Sampler, likeliest
from lengthwise.engine.speculative.tree import Draws, Tree


class Verifier(Protocol):
    """Decides which nodes of a tree are committed."""

    def walk(
        self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
    ) -> tuple[list[int], int]:
        """Accepted nodes, root first, and the token that follows them.

        logits `[nodes, vocab]` are the model's own; context: committed tokens up to the root.
        """
        ...


def match(tree: Tree, choose: Callable[[int, list[int]], int]) -> tuple[list[int], int]:
    """Walks the tree along the target's own choices.

    choose(node, path tokens below the root) draws the target's next token after a node. Returns the
    accepted nodes (root first) and the token that follows them, which was drawn but not guessed.
    """
    accepted = [0]
    below: list[int] = []
    while True:
        token = choose(accepted[-1], below)
        child = tree.children[accepted[-1]].get(token)
        if child is None:
            return accepted, token
        accepted.append(child)
        below.append(token)


class Lossless:
    """Greedy: token-equal to plain decoding. Sampling: equal in law, and token-equal as well where
    nothing was drawn."""

    def walk(
        self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
    ) -> tuple[list[int], int]:
        length = len(context)
        if sampler.plain:
            best, values = likeliest(logits)

            def best_of(node: int, below: list[int]) -> int:
                # Of the nodes that are walked alone: what was wrongly guessed may lead anywhere.
                sampler.require(values[node], length + len(below), logits[node])
                return best[node]

            return match(tree, best_of)

        def choose(node: int, below: list[int]) -> int:
            # The list is the loop's own and may be long: it grows and shrinks in place.
            context[length:] = below
            groups = tree.draws.get(node, ())
            if not groups or sampler.sampling.temperature == 0:
                return sampler.choose(logits[node], context)
            law = sampler.law(logits[node], context)
            return reject(tree, groups, law, sampler, len(context))

        try:
            return match(tree, choose)
        finally:
            del context[length:]


def reject(
    tree: Tree, groups: Sequence[Draws], target: Tensor, sampler: Sampler, position: int
) -> int:
    """The token after a node some of whose children were drawn; target: law `[vocab]`, float64."""
    tries = 0
    for group in groups:
        law = group.law.to("cpu", torch.float64).clone()
        for node in group.nodes:
            token = tree.tokens[node]
            coin = sampler.coin(position, tries)
            tries += 1
            if coin * law[token] < target[token]:
                return token
            left = (target - law).clamp_min_(0)
            mass = left.sum()
            # Equal laws leave nothing: rounding alone rejected, and the target stands as it is.
            target = left / mass if mass > 0 else target
            law[token] = 0
            mass = law.sum()
            if mass <= 0:
                break
            law /= mass
    return sampler.draw(target, position)
