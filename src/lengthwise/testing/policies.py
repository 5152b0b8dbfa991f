"""Checks of length policies, on random trees of guesses."""

from __future__ import annotations

from collections.abc import Iterator

from lengthwise.engine.guard import GuardedPolicy
from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_length import LengthPolicy
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.base import Method
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.laws import fail
from lengthwise.testing.trees import fingerprint, random_tree

ROUNDS, LIMIT = 12, 6
LOAD = Load("checked", 2, 7)


class _Guesser(Drafter):
    """Stands for a drafter that was asked; its guesses are those of `random_tree`."""

    def __init__(self, name: str, runs_model: bool) -> None:
        self.name, self.runs_model = name, runs_model

    def propose(self, tokens: object, tree: Tree, limit: int) -> None:
        raise NotImplementedError("its guesses are made already")


def _rounds(policy: LengthPolicy) -> Iterator[tuple[list[Tree], list[Tree]]]:
    """Trees before and after a policy's choice, in rounds of two rows, as the loop has them."""
    acceptance = Acceptance()
    drafters = [_Guesser("one", False), _Guesser("two", False), _Guesser("drawing", True)]
    for number in range(ROUNDS):
        trees = [random_tree(2 * number + row, draws=number % 2 == 1) for row in range(2)]
        for drafter in drafters:
            draft_depth = policy.draft_depth(LOAD, drafter, Tree(3), acceptance, LIMIT)
            if draft_depth is not None:
                drafter.draft_depth = draft_depth
                while (
                    drafter.runs_model
                    and draft_depth.levels < LIMIT
                    and draft_depth.should_continue(0, 0.5)
                ):
                    pass
        yield trees, policy.choose(LOAD, trees, [acceptance, acceptance])
        policy.observe(LOAD, 4, 0.01)
        for drafter in drafters[: number % 3 + 1]:
            policy.drafted(LOAD, drafter, 2 if drafter.runs_model else 0, 0.001)
            policy.gained(LOAD, drafter, 1)


def _policy(cls: type[Method], model: AdaptedModel) -> GuardedPolicy:
    found = cls.example().start_policy(model)
    return GuardedPolicy(found if found is not None else LengthPolicy())


def check_policy_answers(cls: type[Method], model: AdaptedModel) -> None:
    """It answers what it is asked, in the shape that is due, and raises nothing."""
    policy = _policy(cls, model)
    for _ in _rounds(policy):
        pass
    if policy.failed is not None:
        fail(cls, model, f"its policy failed: {type(policy.failed).__name__}: {policy.failed}")


def check_policy_trees(cls: type[Method], model: AdaptedModel) -> None:
    """What it chooses are the trees it was given, without some of their guesses."""
    for before, after in _rounds(_policy(cls, model)):
        for given, chosen in zip(before, after, strict=False):
            if not _paths(chosen) <= _paths(given):
                fail(cls, model, "choose gave back guesses that nobody made")


def _paths(tree: Tree) -> set[tuple[object, ...]]:
    """Every node of a tree, by the tokens that lead to it and by who guessed it."""
    return {
        (tree.sources[node], *(tree.tokens[each] for each in tree.path(node)))
        for node in range(len(tree))
    }


def check_policy_draws(cls: type[Method], model: AdaptedModel) -> None:
    """What was drawn stays: leaving it out for what it is changes what is said (law 3)."""
    for before, after in _rounds(_policy(cls, model)):
        for given, chosen in zip(before, after, strict=False):
            kept = sum(map(len, chosen.draws.values()))
            if kept < sum(map(len, given.draws.values())):
                fail(cls, model, "choose left out guesses that were drawn")


def check_policy_arguments(cls: type[Method], model: AdaptedModel) -> None:
    """The trees it is given stay as they are: others look at them afterwards."""
    policy = _policy(cls, model)
    acceptance = Acceptance()
    for number in range(ROUNDS):
        tree = random_tree(number, draws=number % 2 == 1)
        before = fingerprint(tree)
        policy.choose(LOAD, [tree], [acceptance])
        if fingerprint(tree) != before:
            fail(cls, model, "choose changed the tree it was given")
