"""Drafters that guess thousands of tokens: work grows with their number, and a cap holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence as Seq
from typing import Any

import pytest
import torch

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_length import (
    MOST_GUESSES,
    Fixed,
    Goodput,
    LengthPolicy,
)
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.ranking import rank
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.draft_length.specdec import SpecDec, SpecDecPolicy
from lengthwise.models.adapt import adapt
from lengthwise.testing.tiny import tiny_model

LOAD = Load("many", 1, 10)
MANY = 4000


class Counter:
    visits = 0


class Looked(list[Any]):
    """Counts what of it is looked at."""

    def __iter__(self) -> Iterator[Any]:
        for each in super().__iter__():
            Counter.visits += 1
            yield each


class Children(dict[int, int]):
    """Counts the children that are looked through."""

    def values(self) -> Any:
        return Looked(super().values())

    def items(self) -> Any:
        return Looked(super().items())


class Parents(list[int]):
    """Counts the steps towards the root."""

    def __getitem__(self, place: Any) -> Any:
        Counter.visits += 1
        return super().__getitem__(place)


def counted(tree: Tree) -> Tree:
    tree.children = [Children(each) for each in tree.children]
    tree.parents = Parents(tree.parents)
    Counter.visits = 0
    return tree


def wide() -> Tree:
    tree = Tree(0)
    for token in range(1, MANY):
        tree.add(0, token, "lookup", prior=0.5 / token)
    return counted(tree)


def deep() -> Tree:
    tree = Tree(0)
    tree.add_chain(range(1, MANY), source="layers")
    return counted(tree)


WORK: dict[str, Callable[[Tree], object]] = {
    "path_probs": lambda tree: Acceptance().path_probs(tree),
    "ranking": lambda tree: rank([tree], [Acceptance()], {"layers"}),
    "learning": lambda tree: Acceptance().learn(tree, [5, 6, 7]),
    "fixed": lambda tree: Fixed(16).choose(LOAD, [tree], [Acceptance()]),
    "goodput": lambda tree: Goodput(clock=lambda: 0.0).choose(LOAD, [tree], [Acceptance()]),
    "specdec": lambda tree: asked(SpecDec()).choose(LOAD, [tree], [Acceptance()]),
    "below": lambda tree: tree.below([7, 8]),
    "keep": lambda tree: tree.keep(range(len(tree))),
}


def asked(options: SpecDec) -> SpecDecPolicy:
    policy = SpecDecPolicy(options)
    policy._asked.add("layers")
    return policy


@pytest.mark.parametrize("shape", [wide, deep])
@pytest.mark.parametrize("work", WORK)
def test_what_is_done_with_a_tree_grows_with_its_nodes_and_not_with_their_square(
    work: str, shape: Callable[[], Tree]
) -> None:
    WORK[work](shape())
    assert Counter.visits < 12 * MANY


class Chatty(Drafter):
    """Guesses `count` tokens below the root, the likeliest last, and one below each."""

    name = "chatty"

    def __init__(self, count: int) -> None:
        self.count = count

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        for token in range(self.count):
            node = tree.add(0, token, self.name, prior=0.9 * token / self.count)
            tree.add(node, 3, self.name)


def request(*drafters: Drafter, temperature: float = 0.0) -> Request:
    plan = Plan(drafters=tuple(lambda drafter=drafter: drafter for drafter in drafters))
    sequence = Sequence(adapt(tiny_model("llama", vocab_size=6000)), plan)
    found = loop.begin(sequence, Sampling(temperature), 40, ())
    loop.start(found, loop.prefill(sequence, [5, 6, 7]))
    return found


def test_of_ten_thousand_guesses_the_likeliest_are_kept_whatever_the_policy() -> None:
    found = request(Chatty(5000))
    tree = found.tree(LengthPolicy(), LOAD)
    assert len(tree) == 1 + MOST_GUESSES
    below = [token for token, depth in zip(tree.tokens, tree.depths, strict=True) if depth == 1]
    assert set(below) == set(range(5000 - len(below), 5000))
    assert tree.ancestors().shape == (1 + MOST_GUESSES,) * 2


def test_every_drafter_has_a_cap_of_its_own_and_draws_are_not_counted() -> None:
    class Drawing(Drafter):
        name, drawing = "drawing", True

        def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
            probs = torch.full((6000,), 1 / 6000, dtype=torch.float64)
            tree.draw(0, list(range(5500, 5900)), probs, self.name, [0] * 400)

    tree = request(Chatty(5000), Drawing(), temperature=1.0).tree(LengthPolicy(), LOAD)
    assert len(tree) == 1 + MOST_GUESSES + 400
    assert len(tree.draws[0][0].nodes) == 400
