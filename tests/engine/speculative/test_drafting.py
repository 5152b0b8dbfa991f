"""Lookup finds what it says, and the policy never pays more for guesses than they bring."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_length import Fixed, Goodput
from lengthwise.engine.speculative.step_cost import Load, StepCost
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError
from lengthwise.methods.drafting._shared.match_length import bucket_of, prob_of
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.retrieval import suffix_index as suffixes
from lengthwise.retrieval.suffix_index import SuffixIndex

# Milliseconds of steps of 1, 2, 4, 8, ... tokens, measured on real machines.
BF16 = {1: 21.1, 2: 21.3, 4: 21.9, 8: 23.5, 16: 27.7, 32: 36.0, 64: 51.3}
FLOAT32 = {1: 38.0, 2: 69.0, 4: 64.0, 8: 67.0, 16: 81.0, 32: 109.0, 64: 166.0}


def plain_search(text: list[int], shortest: int, longest: int) -> tuple[int, int]:
    """The longest earlier match of the end of a text, the most recent among equals."""
    best = (0, 0)
    for end in range(len(text) - 2, -1, -1):
        length = 0
        while length < longest and end >= length and text[end - length] == text[-1 - length]:
            length += 1
        if length >= shortest and length > best[1]:
            best = (end, length)
    return best


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=20),
    st.integers(1, 3),
    st.integers(3, 12),
)
def test_the_index_finds_the_longest_then_the_most_recent_match(
    pieces: list[list[int]], shortest: int, longest: int
) -> None:
    text: list[int] = []
    index = SuffixIndex(shortest, longest)
    for piece in pieces:
        text += piece
        index.extend(piece)
        assert index.find() == plain_search(text, shortest, longest)


@pytest.mark.parametrize("alphabet", [3, 40])
def test_indexed_and_scanned_tokens_are_searched_alike(
    alphabet: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suffixes, "TAIL", 16)
    monkeypatch.setattr(suffixes, "CANDIDATES", 10_000)
    monkeypatch.setattr(suffixes, "SCANNED", 10_000)
    generator = random.Random(0)
    text: list[int] = []
    index = SuffixIndex(2, 16)
    for _ in range(250):
        new = [generator.randrange(alphabet) for _ in range(3)]
        if len(text) > 40 and generator.random() < 0.3:
            start = generator.randrange(len(text) - 20)
            new = text[start : start + 20]
        text += new
        index.extend(new)
        assert index.find() == plain_search(text, 2, 16)


def propose(drafter: LookupDrafter, text: list[int], limit: int = 100) -> Tree:
    tree = Tree(text[-1])
    drafter.propose(text, tree, limit)
    assert tree.is_chain()
    return tree


def test_the_guess_is_what_followed_and_carries_its_source_and_grade() -> None:
    tree = propose(LookupDrafter(Lookup(max_draft=3)), [5, 6, 7, 8, 9, 1, 5, 6, 7])
    assert tree.tokens[1:] == [8, 9, 1]
    assert tree.sources[1:] == ["lookup"] * 3
    assert tree.buckets[1:] == [3, 4, 4]


def test_the_end_of_the_text_is_not_a_match_of_itself() -> None:
    assert len(propose(LookupDrafter(Lookup()), list(range(50)))) == 1


def test_a_loop_is_guessed_beyond_the_end_of_the_text() -> None:
    tree = propose(LookupDrafter(Lookup(max_draft=8)), [9, 1, 2, 3, 1, 2, 3])
    assert tree.tokens[1:] == [1, 2, 3, 1, 2, 3, 1, 2]


def test_limit_and_max_draft_bound_the_guess() -> None:
    text = [*range(20), 0, 1, 2]
    assert len(propose(LookupDrafter(Lookup(max_draft=5)), text)) == 6
    assert len(propose(LookupDrafter(Lookup()), text, limit=2)) == 3


def test_the_identity_never_guesses() -> None:
    text = [1, 2, 3, 4] * 10
    assert len(propose(LookupDrafter(Lookup.identity(len(text))), text)) == 1


def test_a_longest_match_below_the_shortest_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least 8"):
        Lookup(min_match=8, max_match=4)
    with pytest.raises(RecipeError, match="max_draft"):
        Lookup(max_draft=0)


def test_buckets_grow_with_the_match() -> None:
    buckets = [bucket_of(length) for length in range(1, 80)]
    assert buckets == sorted(buckets) and len(set(buckets)) == 10
    assert all(0 < prob_of(bucket) < 1 for bucket in buckets)


LOAD = Load("test", 1, 10)


def chain(count: int, prior: float = 0.5, source: str = "lookup") -> Tree:
    tree = Tree(0)
    for node in range(count):
        tree.add(node, node + 1, source, bucket=min(node, 8), prior=prior)
    return tree


def test_a_pruned_tree_keeps_paths_and_marks() -> None:
    tree = chain(3)
    branch = tree.add(1, 50, "other", bucket=4, prior=0.25)
    tree.add(branch, 51, "other")
    kept = tree.keep([0, 1, branch])
    assert (kept.tokens, kept.parents) == ([0, 1, 50], [-1, 0, 1])
    assert (kept.sources[2], kept.buckets[2], kept.priors[2]) == ("other", 4, 0.25)


def test_goodput_verifies_what_pays_and_nothing_else() -> None:
    policy = Goodput(clock=lambda: 0.0)
    for guesses, seconds in [(0, 1.0), (4, 1.1), (8, 3.0), (16, 6.0)]:
        policy.observe(LOAD, guesses, seconds)
    (sure,) = policy.choose(LOAD, [chain(16, 0.95)], [Acceptance()])
    (doubtful,) = policy.choose(LOAD, [chain(16, 0.03)], [Acceptance()])
    assert len(sure) - 1 == 4
    assert len(doubtful) - 1 == 0


def test_the_budget_of_a_batch_goes_where_guesses_come_true() -> None:
    policy = Goodput(slope=0.1, clock=lambda: 0.0)
    good, bad = policy.choose(LOAD, [chain(8, 0.9), chain(8, 0.1)], [Acceptance(), Acceptance()])
    assert len(good) == 9 and len(bad) == 1


def test_a_tree_is_pruned_by_the_probability_of_whole_paths() -> None:
    tree = Tree(0)
    likely = tree.add(0, 1, "a", prior=0.6)
    tree.add(likely, 2, "a", prior=0.6)
    tree.add(0, 3, "b", prior=0.3)
    (kept,) = Fixed(2).choose(LOAD, [tree], [Acceptance()])
    assert kept.tokens == [0, 1, 2]


def test_guesses_that_were_not_verified_are_learned_from() -> None:
    acceptance = Acceptance()
    before = acceptance.prob(("lookup", 0, "alone"), 0.1)
    for _ in range(20):
        acceptance.learn(chain(4), [1, 2])
    assert acceptance.prob(("lookup", 0, "alone"), 0.1) > 0.8 > before
    assert acceptance.prob(("lookup", 2, "alone"), 0.5) == 0.5
    for _ in range(60):
        acceptance.learn(chain(4), [9])
    assert acceptance.prob(("lookup", 0, "alone"), 0.1) < 0.15


def test_one_slow_step_is_not_believed_for_ever() -> None:
    cost = StepCost(0.03)
    for _ in range(5):
        cost.observe(0, 1.0)
    cost.observe(8, 30.0)
    assert cost.curve(8)[8] > 10
    for _ in range(40):
        cost.observe(0, 1.0)
    assert cost.curve(8)[8] == pytest.approx(1.24)


def test_a_new_length_borrows_its_shape_and_sets_its_own_scale() -> None:
    policy = Goodput(slope=0.0, clock=lambda: 0.0)
    for guesses, seconds in [(0, 1.0), (8, 2.0)]:
        policy.observe(LOAD, guesses, seconds)
    other = Load("test", 1, 14)
    policy.observe(other, 0, 5.0)
    assert policy.cost(other).curve(8)[8] == pytest.approx(10.0)


def simulate(cost: dict[int, float], truth: float, steps: int, noise: float) -> float:
    """Speed with drafting over speed without, where each guess of every chain is right with
    probability truth, and one step in 50 takes three times as long."""
    from numpy import interp

    generator = random.Random(1)
    slope = 0.14 if cost is FLOAT32 else 0.03
    policy, acceptance = Goodput(slope, clock=lambda: 0.0), Acceptance()
    tokens, seconds = 0, 0.0
    for _ in range(steps):
        tree = chain(16, prior=0.6) if generator.random() < 0.6 else Tree(0)
        (kept,) = policy.choose(LOAD, [tree], [acceptance])
        right = 0
        while right < 16 and generator.random() < truth:
            right += 1
        taken = min(right, len(kept) - 1) + 1
        new = [*range(1, taken), taken if taken <= right else 99]
        acceptance.learn(tree, new)
        slow = (3.0 if generator.random() < 0.02 else 1.0) * (1 + noise * generator.random())
        spent = slow * float(interp(len(kept), list(cost), list(cost.values())))
        policy.observe(LOAD, len(kept) - 1, spent)
        tokens, seconds = tokens + len(new), seconds + spent
    return tokens * cost[1] * 1.04 * (1 + noise / 2) / seconds


@pytest.mark.parametrize("cost", [BF16, FLOAT32], ids=["bf16", "float32"])
@pytest.mark.parametrize("truth", [0.0, 0.05, 0.15, 0.3])
def test_drafting_never_loses_on_text_that_is_hard_to_guess(
    cost: dict[int, float], truth: float
) -> None:
    assert simulate(cost, truth, 400, noise=0.1) >= 0.97


@pytest.mark.parametrize(("cost", "gain"), [(BF16, 2.0), (FLOAT32, 1.3)], ids=["bf16", "float32"])
def test_drafting_wins_on_text_that_repeats(cost: dict[int, float], gain: float) -> None:
    assert simulate(cost, 0.95, 400, noise=0.1) >= gain


def test_a_policy_with_a_clock_that_stands_still_decides_the_same_every_time() -> None:
    found = []
    for _ in range(2):
        policy, acceptance = Goodput(clock=lambda: 0.0), Acceptance()
        sizes = []
        for step in range(30):
            policy.observe(LOAD, sizes[-1] if sizes else 0, policy.clock())
            (kept,) = policy.choose(LOAD, [chain(16)], [acceptance])
            acceptance.learn(chain(16), [1, 2, 99] if step % 3 else [99])
            sizes.append(len(kept) - 1)
        found.append(sizes)
    assert found[0] == found[1]


def test_learning_ignores_logits_it_has_no_use_for() -> None:
    drafter = LookupDrafter(Lookup())
    drafter.learn([1, 2, 3], Tree(3), torch.zeros(1, 8), [0])
    assert len(drafter.index) == 0
