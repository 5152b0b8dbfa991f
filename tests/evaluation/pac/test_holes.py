"""Which nodes are kept: as going through all ways to leave out subtrees says, and nested."""

from __future__ import annotations

import itertools
import random

import pytest

from lengthwise.evaluation.pac.holes import BUDGETS, Tree, keep, nested


def random_tree(seed: int, most: int = 9) -> Tree:
    drawn = random.Random(seed)
    count = drawn.randint(1, most)
    parents = [-1]
    for node in range(1, count):
        # In preorder a node hangs below the last one or one above that.
        above, line = node - 1, []
        while above >= 0:
            line.append(above)
            above = parents[above]
        parents.append(drawn.choice(line))
    costs = [drawn.choice([0.0, round(drawn.expovariate(1.0), 3)]) for _ in range(count)]
    return Tree(parents, costs, [drawn.randint(0, 1) for _ in range(count)])


def cost(tree: Tree, kept: list[bool]) -> float:
    return sum(c for c, k in zip(tree.costs, kept, strict=True) if k)


def value(tree: Tree, kept: list[bool]) -> int:
    return sum(v for v, k in zip(tree.values, kept, strict=True) if k)


def holes_of(tree: Tree, kept: list[bool]) -> int:
    return sum(not k and (p < 0 or kept[p]) for k, p in zip(kept, tree.parents, strict=True))


def allowed(tree: Tree, kept: list[bool], holes: int) -> bool:
    closed = all(p < 0 or kept[p] for k, p in zip(kept, tree.parents, strict=True) if k)
    return closed and holes_of(tree, kept) <= holes


def brute(tree: Tree, budget: float, holes: int, forced: list[bool]) -> int:
    """The most that can be kept; -1 where nothing is allowed but all left out."""
    best = -1
    for kept in itertools.product([False, True], repeat=len(tree.parents)):
        given = all(k or not f for k, f in zip(kept, forced, strict=True))
        fits = given and kept[0] and cost(tree, list(kept)) <= budget + 1e-12
        if fits and allowed(tree, list(kept), holes):
            best = max(best, value(tree, list(kept)))
    return best


@pytest.mark.parametrize("seed", range(40))
def test_dynamic_programme_is_brute_force(seed: int) -> None:
    tree, drawn = random_tree(seed), random.Random(seed + 1000)
    free = [False] * len(tree.parents)
    for budget, holes in ((drawn.uniform(0, 3), 1), (drawn.uniform(0, 6), 2), (2.0, 3)):
        kept = keep(tree, budget + 1e-12, holes)
        assert allowed(tree, kept, holes) and cost(tree, kept) <= budget + 1e-9
        assert value(tree, kept) == max(0, brute(tree, budget, holes, free))
        # What is kept stays kept under a larger budget, and the rest is still the best.
        more = keep(tree, 2 * budget + 1e-12, holes, kept)
        assert all(b or not a for a, b in zip(kept, more, strict=True))
        assert allowed(tree, more, holes) and cost(tree, more) <= 2 * budget + 1e-9
        if any(kept):
            assert value(tree, more) == brute(tree, 2 * budget, holes, kept)


@pytest.mark.parametrize("seed", range(20))
def test_looser_thresholds_keep_no_less(seed: int) -> None:
    tree = random_tree(seed, 14)
    found = nested(tree, 3)
    # At the last threshold all is kept that counts.
    assert len(found) == len(BUDGETS) and value(tree, found[-1]) == sum(tree.values)
    for budget, one, two in zip(BUDGETS, found, found[1:], strict=False):
        assert all(b or not a for a, b in zip(one, two, strict=True))
        assert allowed(tree, one, 3) and cost(tree, one) <= budget + 1e-9


def test_no_more_holes_than_allowed() -> None:
    # A root of five dear leaves: with one hole nothing below the sum of the other four is kept.
    tree = Tree([-1, 0, 0, 0, 0, 0], [0.0, 1, 1, 1, 1, 1], [1] * 6)
    assert not any(keep(tree, 3.9, 1))
    assert keep(tree, 4.0, 1).count(False) == 1
    assert keep(tree, 2.0, 3).count(False) == 3
