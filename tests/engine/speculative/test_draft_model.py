"""A drafting model's own sequence scores what a fresh one would, whatever came true before."""

from __future__ import annotations

import random
from functools import lru_cache

import pytest
import torch

from lengthwise import recipes
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill
from lengthwise.engine.speculative.draft_model import ALONG, DraftModelRunner
from lengthwise.engine.speculative.tree import Tree
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

VOCAB = 16


@lru_cache
def model(family: str) -> AdaptedModel:
    return adapt(tiny_model(family, initializer_range=0.15, vocab_size=VOCAB))


def random_tree(root: int, next_tokens: list[int], dice: random.Random) -> Tree:
    """Some nodes, with what comes next among them up to a random depth."""
    tree = Tree(root)
    tree.add_chain(next_tokens[: dice.randint(0, len(next_tokens))])
    for _ in range(dice.randint(0, 6)):
        tree.add(dice.randrange(len(tree)), dice.randrange(3, VOCAB))
    return tree


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
@pytest.mark.parametrize("recipe", ["full", "streaming(sinks=2, window=24)", "self_extend"])
def test_scores_are_those_of_a_fresh_sequence(family: str, recipe: str) -> None:
    dice = random.Random(3)
    text = [dice.randrange(3, VOCAB) for _ in range(200)]
    plan = recipes.resolve(recipe, model(family))
    runner = DraftModelRunner.prefilled(model(family), text[:29], plan)
    known = 30
    while known < len(text) - 8:
        for _ in range(dice.randint(1, 3)):
            tree = random_tree(text[known - 1], text[known : known + 4], dice)
            found = runner.score(text[:known], tree)
            fresh = Sequence(model(family), plan)
            prefill(fresh, text[: known - 1])
            fresh.end_prefill()
            (expected,), _ = extend([(fresh, tree.tokens, tree)], "all")
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
        known += dice.choice([1, 1, 2, 3, 5, ALONG + 4])


def test_a_cache_that_is_encoded_step_by_step_is_fed_step_by_step() -> None:
    plan = recipes.resolve("kivi(bits=4, group=8, residual=16)", model("llama"))
    dice = random.Random(5)
    text = [dice.randrange(3, VOCAB) for _ in range(120)]
    runner = DraftModelRunner.prefilled(model("llama"), text[:40], plan)
    stepped = Sequence(model("llama"), plan)
    prefill(stepped, text[:40])
    stepped.end_prefill()
    for known in range(42, 110, 7):
        found = runner.score(text[:known], random_tree(text[known - 1], text[known:], dice))
        while len(stepped) < known - 1:
            _, (block,) = extend([(stepped, text[len(stepped) : len(stepped) + 1], None)], "none")
            stepped.commit(block, text[len(stepped) : len(stepped) + 1])
        expected, _ = extend([(stepped.fork(), text[known - 1 : known], None)], "all")
        torch.testing.assert_close(found[:1], expected[0], atol=2e-5, rtol=1e-4)


def test_hidden_states_are_what_the_head_reads() -> None:
    for family in ("llama", "phi"):
        runner = DraftModelRunner.prefilled(model(family), [5, 6, 7])
        logits = runner.score([5, 6, 7, 8], Tree(8), want_states=True)
        head = model(family).model.get_output_embeddings()
        assert runner.states is not None
        torch.testing.assert_close(head(runner.states), logits, atol=1e-5, rtol=1e-4)
