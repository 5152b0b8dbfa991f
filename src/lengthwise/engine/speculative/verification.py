"""Which nodes of a draft tree the target accepts.

Deterministic guesses are matched: the target's choice is drawn first, and looked up among a node's
children. Drawn ones may be accepted by recursive rejection before that (Leviathan et al. 2023, Jeon
et al. 2024). With the target's distribution p and drafts x1, x2, ... drawn from q without
replacement:

    accept x_i with probability min(1, p(x_i) / q(x_i));
    rejected:  p <- norm(max(p - q, 0)),  q(x_i) <- 0,  q <- norm(q)

Where none is accepted the target draws from the p that is left, and the deterministic children are
matched against that. What is said has the target's distribution, whatever the drafts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lengthwise.engine.sampler import Sampler, likeliest
from lengthwise.engine.speculative.tree import Draws, Tree


class Verifier(Protocol):
    """Decides which nodes of a tree are committed."""

    def walk(
        self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
    ) -> tuple[list[int], int]:
        """Accepts a path of the tree.

        Args:
            tree: what was drafted.
            logits: the model's own, `[nodes, vocab]`.
            sampler: how the request chooses tokens.
            context: committed tokens up to the root. It may be changed and is given back as it was.

        Returns:
            The accepted nodes, root first, and the token that follows them.
        """
        ...


def match(tree: Tree, choose: Callable[[int, list[int]], int]) -> tuple[list[int], int]:
    """Walks the tree along the target's own choices.

    Where nothing can be chosen behind a guess, that guess is the last token. Plain decoding says it
    first, and asks what follows in its next step, or never, as the text may end with it.

    Args:
        tree: what was drafted.
        choose: gets a node and the path's tokens below the root; draws the target's next token.

    Returns:
        The accepted nodes, root first, and the token that follows them.
    """
    accepted = [0]
    below: list[int] = []
    while True:
        try:
            token = choose(accepted[-1], below)
        except Exception:
            if not below:
                raise
            return accepted[:-1], below[-1]
        child = tree.children[accepted[-1]].get(token)
        if child is None:
            return accepted, token
        accepted.append(child)
        below.append(token)


class Lossless:
    """Changes nothing that is said.

    Greedy: token-equal to plain decoding. Sampling: equal in distribution, and token-equal as well
    where nothing was drawn.
    """

    def walk(
        self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
    ) -> tuple[list[int], int]:
        """Accepts a path of the tree; see `Verifier.walk`.

        Args:
            tree: what was drafted.
            logits: the model's own, `[nodes, vocab]`.
            sampler: how the request chooses tokens.
            context: committed tokens up to the root. It grows on the way and is cut back.
        """
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
            probs = sampler.probs(logits[node], context)
            return reject(tree, groups, probs, sampler, len(context))

        try:
            return match(tree, choose)
        finally:
            del context[length:]


def reject(
    tree: Tree, groups: Sequence[Draws], target: Tensor, sampler: Sampler, position: int
) -> int:
    """The token after a node some of whose children were drawn, by recursive rejection.

    Args:
        tree: what was drafted.
        groups: the draws below the node.
        target: the target's probabilities `[vocab]` there, float64 on the CPU.
        sampler: gives the uniform numbers, and draws where nothing is accepted.
        position: of the token, which keys its noise.
    """
    tries = 0
    for group in groups:
        probs = group.probs.to("cpu", torch.float64).clone()
        for node in group.nodes:
            token = tree.tokens[node]
            uniform = sampler.uniform(position, tries)
            tries += 1
            if uniform * probs[token] < target[token]:
                return token
            left = (target - probs).clamp_min_(0)
            mass = left.sum()
            # Equal distributions leave nothing: rounding alone rejected, and the target stands.
            target = left / mass if mass > 0 else target
            probs[token] = 0
            mass = probs.sum()
            if mass <= 0:
                break
            probs /= mass
    return sampler.draw(target, position)
