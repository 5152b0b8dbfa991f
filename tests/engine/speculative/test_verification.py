"""What a verifier says has the target's distribution, by adding up every way it can come about;
and by many draws, which `benchmarks/reproduction/verification/many_draws.py` makes."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative import verification as verify
from lengthwise.engine.speculative.tree import Draws, Tree
from lengthwise.engine.speculative.verification import Lossless, match
from lengthwise.errors import ConstraintError
from lengthwise.methods.base import Method
from lengthwise.methods.draft_length.fixed import Fixed
from lengthwise.methods.draft_length.goodput import Goodput
from lengthwise.methods.draft_length.specdec import SpecDec
from lengthwise.methods.drafting.lookup import Lookup
from lengthwise.methods.verification.typical import Typical, TypicalVerifier
from lengthwise.models.adapt import adapt
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model
from tests.all_ways import Dice, Drafting, Loaded, distance, pair, probs_of, without_replacement
from tests.scripts import rows

EXACT = 1e-12


def children(count: int, guesses: Seq[int] = (), before: bool = True) -> Drafting:
    """Draws below the root, among deterministic guesses that stand there before or come after."""

    def drafting(tree: Tree, sampler: Loaded, draft: Tensor) -> None:
        for token in guesses if before else ():
            tree.add(0, token, "lookup")
        probs = sampler.probs(draft[0], ())
        tokens = without_replacement(sampler.dice, probs, count)
        tree.draw(0, tokens, probs, "draft", [0] * len(tokens))
        for token in guesses if not before else ():
            tree.add(0, token, "lookup")

    return drafting


def chain(depth: int, guesses: Seq[int] = ()) -> Drafting:
    def drafting(tree: Tree, sampler: Loaded, draft: Tensor) -> None:
        node = 0
        for _ in range(depth):
            probs = sampler.probs(draft[tree.tokens[node]], ())
            token = sampler.dice.choose(probs.tolist())
            for guess in guesses:
                tree.add(node, guess, "lookup")
            (node,) = tree.draw(node, [token], probs, "draft", [0])

    return drafting


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("guesses", [(), (1,), (3, 0)])
@pytest.mark.parametrize("before", [True, False])
def test_draws_without_replacement_among_guesses_are_exact(
    count: int, guesses: tuple[int, ...], before: bool
) -> None:
    logits = pair(5)
    assert distance(probs_of(children(count, guesses, before), logits), logits[0]) < EXACT


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("guesses", [(), (2,)])
def test_chains_are_exact(depth: int, guesses: tuple[int, ...]) -> None:
    logits = pair(5 if depth < 3 else 4)
    assert distance(probs_of(chain(depth, guesses), logits), logits[0]) < EXACT


def test_trees_of_two_levels_are_exact() -> None:
    def drafting(tree: Tree, sampler: Loaded, draft: Tensor) -> None:
        children(2, guesses=(1,))(tree, sampler, draft)
        tree.add(tree.children[0][1], 0, "lookup")
        for node in tree.draws[0][0].nodes:
            probs = sampler.probs(draft[tree.tokens[node]], ())
            tokens = without_replacement(sampler.dice, probs, 2)
            tree.draw(node, tokens, probs, "draft", [0, 0])

    logits = pair(3)
    assert distance(probs_of(drafting, logits), logits[0]) < EXACT


def test_draws_of_two_drafters_at_one_node_are_exact() -> None:
    def drafting(tree: Tree, sampler: Loaded, draft: Tensor) -> None:
        for row, count in ((0, 2), (1, 2)):
            probs = sampler.probs(draft[row], ())
            tokens = without_replacement(sampler.dice, probs, count)
            tree.draw(0, tokens, probs, f"draft {row}", [0, 0])

    logits = pair(4)
    assert distance(probs_of(drafting, logits), logits[0]) < EXACT


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(0.6, top_k=3),
        Sampling(1.5, top_p=0.7),
        Sampling(0.8, min_p=0.2),
        Sampling(1.0, repetition_penalty=1.5),
    ],
    ids=["top-k", "top-p", "min-p", "penalty"],
)
@pytest.mark.parametrize("drafting", [children(3, (2,)), chain(2, (1,))], ids=["tree", "chain"])
def test_the_target_is_processed_before_anything_is_accepted(
    sampling: Sampling, drafting: Drafting
) -> None:
    logits = pair(5)
    if sampling.repetition_penalty == 1:
        found = probs_of(drafting, logits, sampling=sampling)
        assert distance(found, logits[0], sampling) < EXACT
        assert distance(found, logits[0]) > 0.01
    else:
        # The penalty looks at what was said, token 0 here: one token's distribution is enough.
        plain = Sampler(sampling).probs(logits[0][0], [0])
        found = probs_of(drafting, logits, sampling=sampling).sum(1)
        assert float((found - plain).abs().sum()) < EXACT
        assert float((found - Sampler(Sampling(1.0)).probs(logits[0][0], [0])).abs().sum()) > 0.01


def test_a_draft_that_is_the_target_is_always_accepted() -> None:
    target, _ = pair(5)
    dice = Dice()
    sampler = Loaded(Sampling(1.0), dice)

    def run() -> list[int]:
        tree = Tree(0)
        chain(2)(tree, sampler, target)
        return Lossless().walk(tree, target[tree.tokens], sampler, [0])[0]

    assert all(len(accepted) == 3 for prob, accepted in dice.ways(run) if prob > EXACT)


def test_a_draft_of_few_tokens_may_be_used_up() -> None:
    target, draft = pair(5)
    draft[0, 2:] = -torch.inf
    assert distance(probs_of(children(4), (target, draft)), target) < EXACT


def test_the_distribution_that_was_not_updated_is_found_out() -> None:
    """Each draw is presented as if nothing had been drawn before it."""

    def drafting(tree: Tree, sampler: Loaded, draft: Tensor) -> None:
        children(3)(tree, sampler, draft)
        (group,) = tree.draws[0]
        tree.draws[0] = [Draws(group.probs, (node,)) for node in group.nodes]

    logits = pair(5, seed=7)
    assert distance(probs_of(children(3), logits), logits[0]) < EXACT
    assert distance(probs_of(drafting, logits), logits[0]) > 0.1


def test_a_choice_by_value_after_the_draw_is_found_out() -> None:
    def drafting(tree: Tree, sampler: Loaded, draft: Tensor) -> None:
        probs = sampler.probs(draft[0], ())
        tokens = without_replacement(sampler.dice, probs, 2)
        best = max(tokens, key=lambda token: float(probs[token]))
        tree.draw(0, [best], probs, "draft", [0])

    logits = pair(5)
    assert distance(probs_of(drafting, logits), logits[0]) > 0.02


def test_draws_that_lose_a_node_are_guesses_again() -> None:
    def drafting(tree: Tree, sampler: Loaded, draft: Tensor) -> None:
        whole = Tree(0)
        children(3)(whole, sampler, draft)
        best = max(range(1, len(whole)), key=lambda node: whole.priors[node])
        kept = whole.keep([0, best])
        tree.__dict__.update(kept.__dict__)

    logits = pair(5)
    assert distance(probs_of(drafting, logits), logits[0]) < EXACT


def test_a_new_draw_after_a_mismatch_is_found_out() -> None:
    class Bonus(Lossless):
        def walk(
            self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
        ) -> tuple[list[int], int]:
            accepted, _ = super().walk(tree, logits, sampler, context)
            return accepted, sampler.choose(logits[accepted[-1]], context)

    logits = pair(5)
    guesses = children(0, (1, 3))
    assert distance(probs_of(guesses, logits), logits[0]) < EXACT
    assert distance(probs_of(guesses, logits, Bonus()), logits[0]) > 0.02


def test_a_residual_that_is_not_taken_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(
        tree: Tree, groups: Seq[Draws], target: Tensor, sampler: Sampler, position: int
    ) -> int:
        (group,) = groups
        token = tree.tokens[group.nodes[0]]
        if sampler.uniform(position, 0) * group.probs[token] < target[token]:
            return token
        return sampler.draw(target, position)

    logits = pair(5)
    monkeypatch.setattr(verify, "reject", reject)
    assert distance(probs_of(children(1), logits), logits[0]) > 0.02


def test_typical_acceptance_is_lossy_when_sampling() -> None:
    logits = pair(5)
    found = probs_of(children(0, (1, 3)), logits, TypicalVerifier(Typical()))
    assert distance(found, logits[0]) > 0.02
    plain = probs_of(children(0, (1, 3)), logits, TypicalVerifier(Typical.identity(9)))
    assert distance(plain, logits[0]) < EXACT


def test_greedy_is_one_hot_whatever_was_drawn() -> None:
    target, draft = pair(6)
    best = int(target[0].argmax())
    probs = Sampler(Sampling(1.0)).probs(draft[0], ())
    for verifier in (Lossless(), TypicalVerifier(Typical())):
        for sampling in (Sampling(), Sampling(repetition_penalty=1.0001)):
            for tokens in ([best, 1, 2], [1, 2], [2, best]):
                tree = Tree(0)
                tree.draw(0, tokens, probs, "draft", [0] * len(tokens))
                accepted, token = verifier.walk(tree, target[tree.tokens], Sampler(sampling), [0])
                said = [*(tree.tokens[node] for node in accepted[1:]), token]
                expected = [best, int(target[best].argmax())] if best in tokens else [best]
                assert said == expected


def test_a_drawn_and_a_guessed_child_of_one_token_share_a_node() -> None:
    tree = Tree(0)
    guess = tree.add(0, 3, "lookup")
    probs = torch.full((5,), 0.2, dtype=torch.float64)
    nodes = tree.draw(0, [4, 3], probs, "draft", [0, 0])
    assert nodes == [2, guess] and len(tree) == 3
    assert tree.agreed[guess] and tree.draws[0][0].nodes == (2, guess)
    assert tree.drawn() == {0, 1, 2}


def test_walking_leaves_the_context_as_it_was() -> None:
    target, draft = pair(5)
    sampler = Sampler(Sampling(1.0, repetition_penalty=1.2, seed=3))
    context = [4, 2, 0]
    tree = Tree(0)
    probs = sampler.probs(draft[0], context)
    for node in tree.draw(0, [1, 2, 3], probs, "draft", [0] * 3):
        tree.add_chain([1, 2, 3], node)
    Lossless().walk(tree, target[tree.tokens], sampler, context)
    assert context == [4, 2, 0]


def typical_walk(
    target: Tensor, tree: Tree, epsilon: float = 0.09, delta: float = 0.3
) -> list[int]:
    verifier = TypicalVerifier(Typical(epsilon, delta))
    accepted, _ = verifier.walk(tree, target[tree.tokens], Sampler(Sampling(1.0)), [0])
    return [tree.tokens[node] for node in accepted[1:]]


def test_typical_takes_the_longest_path_of_tokens_above_the_threshold_of_their_parent() -> None:
    probs = torch.tensor(
        [[0.6, 0.2, 0.15, 0.05], [0.02, 0.02, 0.02, 0.94], [0.25] * 4, [0.03, 0.03, 0.47, 0.47]]
    )
    tree = Tree(0)
    one = tree.add(0, 1)
    tree.add(one, 0)  # 0.02 after token 1, which is sure of token 3
    two = tree.add(0, 2)
    below = tree.add(two, 3)  # any token will do after token 2
    tree.add(below, 0)
    tree.add(tree.add(0, 3), 2)  # 0.05 at the root
    assert typical_walk(probs.log(), tree) == [2, 3]
    tree.add(one, 3)
    assert typical_walk(probs.log(), tree) == [1, 3], "the likelier of two paths of one length"
    assert typical_walk(probs.log(), tree, epsilon=0.04) == [1, 3]
    assert typical_walk(probs.log(), tree, epsilon=0.01) == [2, 3, 0]
    assert typical_walk(probs.log(), tree, epsilon=1, delta=0.9) == []


class EndsBehind(NextTokenLaw):
    """A text is complete behind token 1, or nothing may follow it there."""

    def __init__(self, ends: bool) -> None:
        self._ends = ends

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        if written[-1] == 1:
            raise ConstraintError("nothing may follow token 1")
        return scores

    def ends(self, written: Seq[int]) -> bool:
        return self._ends and written[-1] == 1


@pytest.mark.parametrize("how", ["stop token", "complete", "dead"])
def test_typical_paths_end_where_the_text_does(how: str) -> None:
    """All tokens are equally likely, so that every guess is typical."""
    laws = [] if how == "stop token" else [EndsBehind(how == "complete")]
    sampler = Sampler(Sampling(1.0, seed=1), laws=laws)
    sampler.prompt, sampler.stop_ids = 1, {1} if how == "stop token" else frozenset()
    tree, context, verifier = Tree(0), [2, 0], TypicalVerifier(Typical())
    tree.add_chain([1, 2, 3])
    end = len(tree)
    tree.add_chain([3, 2])
    accepted, _ = verifier.walk(tree, torch.zeros(len(tree), 4), sampler, context)
    assert accepted == [0, end, end + 1] and context == [2, 0]
    # Where no other path is longer, the text ends.
    tree = Tree(0)
    tree.add_chain([1, 2, 3])
    accepted, token = verifier.walk(tree, torch.zeros(len(tree), 4), sampler, context)
    said = [*(tree.tokens[node] for node in accepted[1:]), token]
    assert said[0] == 1 and len(said) <= 2 and context == [2, 0]


def test_a_guess_behind_which_nothing_can_be_chosen_is_the_last_token() -> None:
    tree = Tree(0)
    tree.add_chain([1, 2, 3])

    def dead_at(place: int) -> tuple[list[int], int]:
        def choose(node: int, below: list[int]) -> int:
            if len(below) == place:
                raise ValueError("nothing may follow")
            return len(below) + 1

        return match(tree, choose)

    assert dead_at(9) == ([0, 1, 2, 3], 4)
    assert dead_at(3) == ([0, 1, 2], 3)
    assert dead_at(1) == ([0], 1)
    with pytest.raises(ValueError, match="nothing may follow"):
        dead_at(0)


@pytest.mark.parametrize("method", [Fixed(), Goodput(), SpecDec(), Typical()], ids=str)
def test_policies_are_lossless_and_typical_says_it_is_not(method: Method) -> None:
    plan = resolve((Lookup(), method), adapt(tiny_model("llama")))
    assert plan.lossless is (not isinstance(method, Typical))
    assert (plan.verifier is not None) is isinstance(method, Typical)
    assert (plan.policy is not None) is not isinstance(method, Typical)


@pytest.fixture(scope="module", params=[5000, pytest.param(50_000, marks=pytest.mark.slow)])
def drawn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What so many draws of each verifier say, by its name."""
    folder: Path = tmp_path_factory.mktemp("draws")
    found = rows(folder, "verification/many_draws", "--draws", str(request.param), "--seed", "0")
    return {row["verifier"]: row for row in found}


@pytest.mark.parametrize("name", ["match", "chain", "tree", "coupled"])
def test_many_draws_have_the_targets_distribution(
    drawn: dict[str, dict[str, Any]], name: str
) -> None:
    assert drawn[name]["p"] > 0.001
    assert drawn[name].get("equal to plain", name != "coupled")


@pytest.mark.parametrize("name", ["typical", "bonus"])
def test_draws_tell_what_is_lossy(drawn: dict[str, dict[str, Any]], name: str) -> None:
    assert drawn[name]["p"] < 1e-6
