"""Trees of guesses in static steps are those of the ordinary one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.static import graphs
from lengthwise.methods.drafting.lookup import Lookup
from lengthwise.testing.drive import Forced
from lengthwise.testing.tiny import tokens
from tests.engine.static.begun import (
    PLAIN,
    RECIPES,
    Steps,
    assert_same_cache,
    model,
    prompts,
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_drafted_and_plain_steps_alternate(recipe: str, steps: Steps) -> None:
    prompt = tokens(9, seed=1) * 5
    ours, right = (steps.begin(recipe, [prompt], 60) for _ in range(2))
    drafter = Lookup().start_drafter(model())
    number = 0
    while not ours[0].done:
        number += 1
        ours[0].drafters[:] = [drafter] if number % 3 else []
        if number == 1:
            ours[0].begin_drafters()
        steps.step(ours, static=True)
    assert ours[0].output == steps.run(right, static=False)[0]
    assert_same_cache(ours[0], right[0])
    assert steps.static >= (number - 6 if recipe in PLAIN else 2)


@pytest.mark.parametrize("lengths", [(40,), (17, 40, 5)], ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
def test_trees_of_any_shape_leave_the_text_as_it_is(
    recipe: str, lengths: tuple[int, ...], steps: Steps
) -> None:
    ours, right = (steps.begin(recipe, prompts(*lengths), 40) for _ in range(2))
    texts = steps.run(right, static=False)
    for row, (request, text) in enumerate(zip(ours, texts, strict=True)):
        request.drafters.append(Forced(lengths[row], text, model().vocab_size, seed=row))
    assert steps.run(ours, static=True) == texts
    for mine, theirs in zip(ours, right, strict=True):
        assert mine.metrics.drafted > 0
        assert_same_cache(mine, theirs)
    if recipe in PLAIN:
        assert steps.static >= ours[0].metrics.steps - 3


def test_logits_and_states_of_a_tree_are_those_of_the_ordinary_step(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, right = (steps.begin("full", prompts(9, 33), 40) for _ in range(2))
    trees = []
    for number, request in enumerate(ours):
        tree = Tree(request.pending)
        tree.add_chain([5, 6, 7])
        tree.add(tree.add(0, 9), 11)
        tree.add_chain(list(range(20, 20 + 9 * number)), parent=2)
        trees.append(tree)
    monkeypatch.setenv("LENGTHWISE_GRAPH", "twin")
    states: tuple[list[Tensor], list[Tensor]] = [], []
    rows = [request.sequence for request in ours]
    served = graphs.serve(rows, [tree.tokens for tree in trees], trees, states[0])
    items = list(zip((r.sequence for r in right), (t.tokens for t in trees), trees, strict=True))
    found, metadata = loop.extend(items, "all", states[1])
    assert served is not None and list(map(len, served.logits)) == [6, 15]
    for mine, theirs in zip([*served.logits, *states[0]], [*found, *states[1]], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    for row, (request, other) in enumerate(zip(ours, right, strict=True)):
        kept = [trees[row].tokens[node] for node in (0, 4, 5)]
        request.sequence.commit(served.steps[row], kept, [0, 4, 5])
        other.sequence.commit(metadata[row], kept, [0, 4, 5])
        assert_same_cache(request, other)


def test_a_tree_beyond_all_sizes_takes_the_ordinary_step(steps: Steps) -> None:
    (request,) = steps.begin("full", prompts(20), 200)
    steps.patch.setenv("LENGTHWISE_GRAPH", "twin")
    tree = Tree(request.pending)
    for guess in range(65):
        tree.add(0, guess)
    assert graphs.serve([request.sequence], [tree.tokens], [tree]) is None


def test_guesses_beyond_the_end_move_nothing(steps: Steps) -> None:
    (request,) = steps.begin("full", prompts(20), 6)
    steps.patch.setenv("LENGTHWISE_GRAPH", "twin")
    near = request.sequence.layers[0].groups[0].near
    before, tree = near.allocated, Tree(request.pending)
    for guess in range(30):
        tree.add(0, guess)
    assert graphs.serve([request.sequence], [tree.tokens], [tree]) is None
    assert near.allocated is before
    assert graphs.serve([request.sequence], [[5]]) is not None
    assert near.allocated is before
