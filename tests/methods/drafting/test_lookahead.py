"""Lookahead: what the window sees, what it leaves in the pool, and when it is verified."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import pytest
import torch

from lengthwise import recipes
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import Refused
from lengthwise.methods.drafting._shared.windowed_goodput import (
    TRIAL,
    WINDOW,
    WindowedGoodput,
    WindowStats,
)
from lengthwise.methods.drafting.lookahead import Lookahead, LookaheadDrafter, NgramPool
from lengthwise.methods.drafting.recycling import Recycling
from tests.table_runs import VOCAB, generate, model, tokens


class Watched(LookaheadDrafter):
    """Notes the window of every step, what it was scored to say, and the text before it."""

    def __init__(self, options: Lookahead) -> None:
        super().__init__(options)
        self.seen: list[tuple[list[int], list[list[int]], list[int | None]]] = []

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        super().propose(tokens, tree, limit)
        self.text = list(tokens)

    def learn(self, tokens: Seq[int], tree: Tree, logits: torch.Tensor, accepted: Seq[int]) -> None:
        rows = [list(row) for row in self.rows]
        self.seen.append((self.text, rows, self._said(tree, logits)))
        super().learn(tokens, tree, logits, accepted)


def said_alone(text: Seq[int]) -> int:
    """What the model says after a text, read in one go."""
    return int(loop.prefill(Sequence(model(), Plan()), text).argmax())


@pytest.mark.parametrize("options", [Lookahead(ngram=4, window=3), Lookahead(ngram=3, window=5)])
def test_every_window_token_sees_the_text_its_row_0_and_its_own_column(options: Lookahead) -> None:
    drafter = Watched(options)
    generate(tokens(20), drafter, new=16)
    full = [found for found in drafter.seen if len(found[1]) == options.ngram - 1]
    assert len(full) > 4
    for text, rows, said in full[:4]:
        assert [len(row) for row in rows] == [options.window - 1] + [options.window] * (
            options.ngram - 2
        )
        for column, token in enumerate(said):
            if token is not None:
                path = [*rows[0][:column], *(row[column] for row in rows[1:])]
                assert token == said_alone([*text, *path])


def test_rows_fill_one_a_step_and_then_move_up() -> None:
    drafter = Watched(Lookahead(ngram=4, window=3))
    generate(tokens(20), drafter, new=16)
    (_, first, said), (_, second, more), (_, third, last), (_, fourth, _) = drafter.seen[:4]
    assert [len(row) for row in first] == [4]
    assert second == [first[0][1:], said]
    assert third == [*(row[1:] for row in second), more[1:]]
    assert fourth == [third[1][1:], third[2], last]


def test_the_pool_holds_what_a_column_said_row_by_row_behind_the_token_it_began_with() -> None:
    drafter = Watched(Lookahead(ngram=4, window=3, guesses=100))
    generate(tokens(20), drafter, new=16)
    expected: dict[int, set[tuple[int, ...]]] = {}
    for text, rows, said in drafter.seen:
        if len(rows) == 3:
            for column, (first, token) in enumerate(zip([text[-1], *rows[0]], said, strict=True)):
                if token is not None:
                    gram = (rows[1][column], rows[2][column], token)
                    expected.setdefault(first, set()).add(gram)
    assert expected
    assert {first: set(drafter.pool.of(first)) for first in expected} == expected


def test_of_a_token_the_pool_keeps_the_n_grams_seen_last() -> None:
    pool = NgramPool(2)
    for rest in ((1, 2), (3, 4), (1, 2), (5, 6)):
        pool.add(9, rest)
    assert pool.of(9) == [(5, 6), (1, 2)]
    assert pool.of(8) == []


def test_the_pool_is_filled_from_the_text_where_asked() -> None:
    drafter = LookaheadDrafter(Lookahead(ngram=3, window=0, prompt=True))
    drafter._pool_text([1, 2, 3, 4])
    drafter._pool_text([1, 2, 3, 4, 2, 3])
    assert (drafter.pool.of(1), drafter.pool.of(2)) == ([(2, 3)], [(3, 4)])
    assert (drafter.pool.of(3), drafter.pool.of(4)) == ([(4, 2)], [(2, 3)])
    tree = Tree(2)
    drafter.propose([1, 2], tree, 10)
    assert tree.tokens == [2, 3, 4]


def test_near_the_end_of_a_request_columns_that_cannot_be_scored_begin_anew() -> None:
    drafter = LookaheadDrafter(Lookahead(ngram=4, window=3))
    drafter.rows = [[11, 12], [21, 22, 23], [31, 32, 33]]
    tree = Tree(5)
    drafter.propose([7, 5], tree, 3)
    assert max(tree.depths) == 3
    logits = torch.zeros(len(tree), VOCAB)
    logits[:, 40] = 1
    drafter.learn([7, 5, 6], tree, logits, [0])
    assert drafter.rows[:2] == [[22, 23], [31, 32, 33]]
    assert drafter.rows[2][:2] == [40, 40] and drafter.rows[2][2] in (5, 6, 7)
    assert drafter.pool.of(5) == [(21, 31, 40)] and drafter.pool.of(12) == []


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "options",
    [Lookahead(), Lookahead(ngram=3, window=15, guesses=15, prompt=True)],
    ids=["readme", "with the prompt"],
)
def test_lookahead_is_token_equal_to_plain_decoding(options: Lookahead, temperature: float) -> None:
    sampling = Sampling(temperature, seed=5)
    right = 0
    for seed in range(3):
        plain = generate(tokens(20, seed), sampling=sampling)
        beside = Recycling(fresh=True).start_drafter(model())
        for drafters in ([LookaheadDrafter(options)], [LookaheadDrafter(options), beside]):
            request = generate(tokens(20, seed), *drafters, sampling=sampling)
            assert request.output == plain.output
            right += request.metrics.accepted.get("lookahead", 0)
    assert right > 0


def test_another_policy_beside_it_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="lookahead and fixed both decide how much is guessed"):
        recipes.resolve(list(recipes.parse("lookahead + fixed").methods), model())


@pytest.mark.parametrize("recipe", ["lookahead", "lookahead(window=3, prompt=true) + recycling"])
def test_under_its_own_policy_a_batch_is_token_equal_to_plain_decoding(recipe: str) -> None:
    plan = recipes.resolve(list(recipes.parse(recipe).methods), model())
    assert isinstance(plan.policy, WindowedGoodput)
    prompts = [tokens(20, seed) for seed in range(2)]
    requests = []
    for prompt in prompts:
        sequence = Sequence(model(), plan)
        requests.append(loop.begin(sequence, Sampling(), 40, ()))
        loop.start(requests[-1], loop.prefill(sequence, prompt))
    while active := [request for request in requests if not request.done]:
        loop.step(active)
    for prompt, request in zip(prompts, requests, strict=True):
        assert not request.metrics.notes
        assert request.output == generate(prompt, new=40).output
    assert sum(request.metrics.drafted for request in requests) > 0


class Machine:
    """A policy on a made-up clock: a step takes 1 second and `slope` more a guess."""

    load = Load("lookahead", 1, 5)

    def __init__(self, slope: float) -> None:
        self.policy, self.slope = WindowedGoodput(slope), slope
        self.acceptance = Acceptance()
        self.drafter = LookaheadDrafter(Lookahead())
        self.drafter.rows = [list(range(10, 16)), *([list(range(20, 27))] * 3)]

    def step(self, gain: int) -> bool:
        """Whether the window was verified; gain: what n-grams then bring."""
        tree = Tree(5)
        self.drafter.propose([5], tree, 100)
        self.policy.draft_depth(self.load, self.drafter, tree, self.acceptance, 100)
        (found,) = self.policy.choose(self.load, [tree], [self.acceptance])
        guesses = len(found) - 1
        self.policy.observe(self.load, guesses, 1 + self.slope * guesses)
        self.policy.drafted(self.load, self.drafter, 0, 1e-6)
        self.policy.gained(self.load, self.drafter, gain if guesses else 0)
        assert guesses in (0, len(tree) - 1)
        return bool(guesses)


def test_a_window_is_verified_whole_while_it_pays() -> None:
    machine = Machine(slope=0.01)
    # 27 tokens cost a quarter of a step, and bring half a token.
    windows = [machine.step(gain=number % 2) for number in range(400)]
    assert sum(windows) > 0.9 * len(windows)


def test_a_window_that_does_not_pay_is_left_out_and_tried_for_a_hundredth_of_the_time() -> None:
    machine = Machine(slope=0.01)
    windows = [machine.step(gain=0) for _ in range(3 * TRIAL)]
    assert sum(windows[:TRIAL]) > 0.9 * TRIAL and not any(windows[2 * TRIAL :])
    later = [machine.step(gain=0) for _ in range(10_000)]
    # A trial costs a quarter of a step each.
    assert 0 < 0.27 * sum(later) < 0.02 * len(later)


def test_what_others_guess_too_stays_where_the_window_does_not_pay() -> None:
    machine = Machine(slope=0.01)
    machine.policy._window["lookahead"] = WindowStats(price=1.0, steps=TRIAL, seconds=1.0)
    tree = Tree(5)
    tree.add(0, 20, "lookup", 3, 0.99)
    machine.drafter.pool.add(5, (10, 60, 61, 62))
    machine.drafter.propose([5], tree, 100)
    assert tree.agreed[1] and sum(bucket >= WINDOW for bucket in tree.buckets) > 20
    machine.policy.observe(machine.load, 0, 1.0)
    (found,) = machine.policy.choose(machine.load, [tree], [machine.acceptance])
    assert found.tokens[:2] == [5, 20] and len(found) < 7
