"""Length policies, on machines and drafters made of numbers: what is asked, how deep, what it
costs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass

import numpy as np
import pytest

from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_depth import DraftDepth
from lengthwise.engine.speculative.draft_length import (
    Fixed,
    Goodput,
    LengthPolicy,
    _GoodputDepth,
    policy_for,
)
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.latest import MOST
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.draft_length.goodput import Goodput as GoodputMethod
from lengthwise.models.adapt import adapt
from lengthwise.testing.tiny import tiny_model

LOAD = Load("simulated", 1, 10)
LIMIT = 40

Truth = Callable[[int], float]


@dataclass
class Machine:
    """Time passes by what is done: a step of n guesses takes 1 + slope * n."""

    slope: float = 0.03
    now: float = 0.0

    def step(self, guesses: int) -> float:
        return 1 + self.slope * guesses


class Simulated(Drafter):
    """Guesses chains whose tokens are right with a probability that depends on the step.

    level: seconds a level of a drafter that runs a model takes; asking: what a free one takes.
    width: guesses a level, below the first of the level above; first: the probability that it is
    the first which is right if one is. unread: seconds of the first asking.
    """

    def __init__(
        self, name: str, machine: Machine, truth: Truth, level: float = 0.0, length: int = 16,
        asking: float = 0.0, width: int = 1, first: float = 1.0, unread: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.name, self.machine, self.truth = name, machine, truth
        self.level, self.asking, self.length, self.width = level, asking, length, width
        self.first, self.unread = first, unread
        self.runs_model = level > 0
        self.random = random.Random(seed)
        self.step = 0
        self.asked: list[int] = []

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        self.asked.append(self.step)
        self.machine.now += self.asking + self.unread
        self.unread = 0.0
        node, right = 0, True
        for depth in range(1, min(self.length, limit) + 1):
            right = right and self.random.random() < self.truth(self.step)
            guesses = [100 * depth + 10 * len(self.name) + n for n in range(self.width)]
            place = 0 if self.random.random() < self.first else self.width - 1
            if right:
                guesses[place] = depth
            right = right and place == 0
            for rank, token in enumerate(guesses):
                tree.add(node, token, self.name, bucket=min(rank, 1))
            node = tree.children[node][guesses[0]]
            self.machine.now += self.level
            if self.runs_model and not self.draft_depth.should_continue(0, 0.5):
                break


def simulate(
    policy: LengthPolicy, machine: Machine, drafters: Seq[Simulated], steps: int
) -> list[tuple[int, float]]:
    """(tokens, seconds) of every step, as the engine would go through it."""
    acceptance, found = Acceptance(), []
    for step in range(steps):
        begin = machine.now
        tree, asked = Tree(0), {}
        for drafter in sorted(drafters, key=lambda drafter: drafter.runs_model):
            drafter.step, start = step, machine.now
            draft_depth = policy.draft_depth(LOAD, drafter, tree, acceptance, LIMIT)
            if draft_depth is not None:
                drafter.draft_depth = draft_depth
                drafter.propose([], tree, LIMIT)
                asked[drafter] = draft_depth.levels, machine.now - start
        (kept,) = policy.choose(LOAD, [tree], [acceptance])
        machine.now += machine.step(len(kept) - 1)
        policy.observe(LOAD, len(kept) - 1, machine.step(len(kept) - 1))
        node, new = 0, []
        while (child := kept.children[node].get(kept.depths[node] + 1)) is not None:
            node = child
            new.append(kept.tokens[node])
        path = kept.path(node)[1:]
        # What comes after the last right guess is its depth too where that was pruned, else other.
        whole = tree.children[0] if not new else {}
        missed = (new[-1] if new else 0) + 1
        new.append(missed if missed in _next(tree, new) or missed in whole else 99_999)
        acceptance.learn(tree, new)
        for drafter, (levels, seconds) in asked.items():
            policy.drafted(LOAD, drafter, levels, seconds)
            policy.gained(LOAD, drafter, sum(kept.sources[n] == drafter.name for n in path))
        found.append((len(new), machine.now - begin))
    return found


def _next(tree: Tree, tokens: Seq[int]) -> dict[int, int]:
    node = 0
    for token in tokens:
        node = tree.children[node][token]
    return tree.children[node]


def rate(rounds: Seq[tuple[int, float]]) -> float:
    return sum(tokens for tokens, _ in rounds) / sum(seconds for _, seconds in rounds)


def best_fixed(
    truth: float, level: float, slope: float, width: int = 1, first: float = 1.0
) -> float:
    """The most tokens a second that always drafting so many levels gives, none included."""
    depths = np.arange(1, 33)
    tokens = 1 + np.cumsum((first * truth) ** (depths - 1) * truth)
    return max(1.0, float(np.max(tokens / (1 + depths * (level + width * slope)))))


def goodput(machine: Machine) -> Goodput:
    return Goodput(0.03, clock=lambda: machine.now)


@pytest.mark.parametrize("level", [0.05, 0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("truth", [0.0, 0.03])
def test_a_worthless_model_costs_two_percent_at_most(level: float, truth: float) -> None:
    for seed in range(4):
        machine = Machine()
        drafter = Simulated("model", machine, lambda _: truth, level, seed=seed)
        rounds = simulate(goodput(machine), machine, [drafter], 500)
        assert rate(rounds) > 0.98, (seed, len(drafter.asked))


@pytest.mark.parametrize("asking", [0.001, 0.02, 0.2])
def test_worthless_free_guesses_cost_two_percent_at_most(asking: float) -> None:
    machine = Machine()
    drafters = [Simulated("lookup", machine, lambda _: 0.02, asking=asking)]
    assert rate(simulate(goodput(machine), machine, drafters, 500)) > 0.98


@pytest.mark.parametrize("level", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("truth", [0.7, 0.9])
@pytest.mark.parametrize("slope", [0.005, 0.05])
def test_a_good_model_is_asked_as_deep_as_the_best_fixed_depth(
    level: float, truth: float, slope: float
) -> None:
    found = []
    for seed in range(3):
        machine = Machine(slope)
        drafter = Simulated("model", machine, lambda _: truth, level, length=LIMIT, seed=seed)
        found += simulate(goodput(machine), machine, [drafter], 500)
    assert rate(found) > 0.95 * best_fixed(truth, level, slope)


def test_levels_of_several_guesses_are_judged_together() -> None:
    machine = Machine()
    drafter = Simulated("model", machine, lambda _: 0.9, 0.1, LIMIT, width=4, first=0.7)
    rounds = simulate(goodput(machine), machine, [drafter], 1000)
    assert rate(rounds[50:]) > 0.95 * best_fixed(0.9, 0.1, machine.slope, 4, 0.7)


@pytest.mark.parametrize("level", [0.1, 0.3])
def test_a_model_that_becomes_good_is_found_out(level: float) -> None:
    for seed in range(3):
        machine = Machine()
        drafter = Simulated("model", machine, lambda step: 0.9 * (step >= 500), level, seed=seed)
        rounds = simulate(goodput(machine), machine, [drafter], 1000)
        assert rate(rounds[:500]) > 0.98
        assert rate(rounds[-200:]) > 0.9 * best_fixed(0.9, level, machine.slope)


def test_free_guesses_that_become_good_are_found_out() -> None:
    machine = Machine()
    drafter = Simulated("lookup", machine, lambda step: 0.9 * (step >= 300), asking=0.02)
    rounds = simulate(goodput(machine), machine, [drafter], 500)
    assert rate(rounds[400:]) > 3


def test_a_model_that_costs_more_than_it_can_bring_is_hardly_asked() -> None:
    machine = Machine()
    drafter = Simulated("model", machine, lambda _: 0.9, level=1.5)
    assert rate(simulate(goodput(machine), machine, [drafter], 500)) > 0.98
    assert len(drafter.asked) < 10


def test_a_first_asking_that_reads_the_whole_prompt_is_no_verdict() -> None:
    machine = Machine()
    drafter = Simulated("model", machine, lambda _: 0.9, level=0.1, unread=40.0)
    rounds = simulate(goodput(machine), machine, [drafter], 100)
    assert rate(rounds[10:]) > 0.9 * best_fixed(0.9, 0.1, machine.slope)


def test_a_model_is_not_asked_where_free_guesses_leave_nothing_to_gain() -> None:
    machine = Machine()
    lookup = Simulated("lookup", machine, lambda _: 0.97, asking=0.002, seed=1)
    model = Simulated("model", machine, lambda _: 0.9, level=0.3, seed=2)
    both = simulate(goodput(machine), machine, [lookup, model], 500)
    assert len(model.asked) < 50
    alone = Machine()
    lookup = Simulated("lookup", alone, lambda _: 0.97, asking=0.002, seed=1)
    assert rate(both) > 0.97 * rate(simulate(goodput(alone), alone, [lookup], 500))


def test_a_drafter_that_keeps_silent_is_left_alone() -> None:
    class Silent(Simulated):
        def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
            self.asked.append(self.step)
            self.machine.now += 0.3

    machine = Machine()
    drafter = Silent("model", machine, lambda _: 0.0, level=0.3)
    assert rate(simulate(goodput(machine), machine, [drafter], 500)) > 0.98


def test_a_batch_does_not_ask_a_model_for_what_the_batch_pays() -> None:
    acceptance = Acceptance()
    asked = []
    for rows in (1, 16):
        policy = Goodput(0.03, clock=lambda: 0.0)
        load = Load("rows", rows, 10)
        for _ in range(5):
            policy.observe(load, 0, 1.0)
        drafter = Simulated("model", Machine(), lambda _: 0.7, level=0.3)
        for _ in range(2):
            draft_depth = policy.draft_depth(load, drafter, Tree(0), acceptance, LIMIT)
            assert isinstance(draft_depth, _GoodputDepth) and draft_depth.tried
            policy.choose(load, [Tree(0)] * rows, [acceptance] * rows)
            policy.drafted(load, drafter, 2, 0.6)
        asked.append(policy.draft_depth(load, drafter, Tree(0), acceptance, LIMIT))
    assert asked[0] is not None and asked[1] is None


def test_drawn_guesses_are_never_cut_by_their_number() -> None:
    trees = []
    for _ in range(40):
        tree = Tree(0)
        tree.draw(0, list(range(1, 9)), np_law(9), "model", [0] * 8)
        trees.append(tree)
    load = Load("rows", 40, 10)
    kept = Goodput(clock=lambda: 0.0).choose(load, trees, [Acceptance()] * 40)
    assert [len(tree) for tree in kept] == [9] * 40
    assert all(tree.draws for tree in kept)


def np_law(vocab: int):  # type: ignore[no-untyped-def]
    import torch

    return torch.full((vocab,), 1 / vocab, dtype=torch.float64)


def test_fixed_asks_nobody_for_nothing_and_goes_no_deeper_than_it_verifies() -> None:
    drafter = Simulated("model", Machine(), lambda _: 1.0, level=0.1)
    assert Fixed(0).draft_depth(LOAD, drafter, Tree(0), Acceptance(), LIMIT) is None
    draft_depth = Fixed(3).draft_depth(LOAD, drafter, Tree(0), Acceptance(), LIMIT)
    assert isinstance(draft_depth, DraftDepth)
    assert [draft_depth.should_continue(0, 0.5) for _ in range(3)] == [True, True, False]


def test_what_an_interrupted_round_of_another_load_asked_is_not_paid_for() -> None:
    policy, acceptance = Goodput(0.03, clock=lambda: 0.0), Acceptance()
    other = Load("another recipe", 1, 10)
    drafter = Simulated("model", Machine(), lambda _: 0.5, level=0.3)
    draft_depth = policy.draft_depth(other, drafter, Tree(0), acceptance, LIMIT)
    assert draft_depth is not None
    draft_depth.should_continue(0, 0.5)
    tree = Tree(0)
    tree.add_chain([1, 2], source="lookup")
    (kept,) = policy.choose(LOAD, [tree], [acceptance])
    assert kept.tokens[0] == 0 and not policy._asked


def test_what_is_learned_is_of_the_recipes_that_ran_last() -> None:
    policy, drafter = Goodput(0.03, clock=lambda: 0.0), Simulated("model", Machine(), lambda _: 0.5)
    first = policy.population("recipe 0")
    policy.observe(Load("recipe 0", 1, 10), 0, 7.0)
    for number in range(3 * MOST):
        load = Load(f"recipe {number}", 1, 10)
        policy.population(load.recipe)
        policy.draft_depth(load, drafter, Tree(0), Acceptance(), LIMIT)
        policy.choose(load, [Tree(0)], [Acceptance()])
        policy.observe(load, 0, 1.0)
        policy.drafted(load, drafter, 0, 0.1)
        policy.gained(load, drafter, 1)
        # One that runs now and then is not forgotten.
        assert policy.cost(Load("recipe 0", 1, 10)).known
    assert [len(each) for each in (policy._costs, policy._stats, policy._population)] == [MOST] * 3
    assert policy.population("recipe 0") is not first
    # A drafter that was forgotten while it was asked is learned anew.
    policy.drafted(Load("another", 1, 10), drafter, 0, 0.1)
    policy.gained(Load("another", 1, 10), drafter, 1)


def test_a_margin_is_learned_once_for_all_requests_of_a_model() -> None:
    adapted = adapt(tiny_model("llama"))
    policy = GoodputMethod(margin=1.5).start_policy(adapted)
    assert policy.margin == 1.5
    assert GoodputMethod(margin=1.5).start_policy(adapted) is policy
    assert GoodputMethod().start_policy(adapted) is policy_for(adapted) is not policy
