"""HiP: no draft crosses the query that begins a new mask."""

from __future__ import annotations

import pytest

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.base import Method
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.selection.hip import HiP
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tokens
from tests.methods.selection.selection_runs import read_on

SMALL = {"window": 16, "init": 4, "dense": 0, "query_block": 8, "interval": 3}
RECIPES: dict[str, list[Method]] = {
    # Its own window would leave room for all far keys, the other does not.
    "another window": [HiP(budget=60, **SMALL), SelfExtend(group=4, window=32)],  # type: ignore[arg-type]
    # All that queries read up to the window's next move, but not all that the last mask is for.
    "a mask beyond the next move": [HiP(budget=68, **SMALL)],  # type: ignore[arg-type]
}


def begun(model: AdaptedModel, methods: list[Method]) -> Sequence:
    sequence = Sequence(model, resolve(methods, model))
    prefill(sequence, tokens(62), 16)
    sequence.end_prefill()
    return sequence


@pytest.mark.parametrize("methods", RECIPES.values(), ids=list(RECIPES))
def test_drafts_equal_steps_across_masks(llama: AdaptedModel, methods: list[Method]) -> None:
    drafted, plain, text = begun(llama, methods), begun(llama, methods), tokens(24, seed=8)
    at, longest = 0, 0
    while at < len(text):
        part = text[at : at + min(6, drafted.tokens_until_change() or 6)]
        tree = Tree(part[0])
        tree.add_chain([(t + 1) % 60 + 3 for t in part[1:]])
        tree.add_chain(part[1:])
        (logits,), (block,) = extend([(drafted, tree.tokens, tree)], "all")
        accepted = [0, *range(len(part), 2 * len(part) - 1)]
        right = read_on(plain, part)
        assert float((logits[accepted] - right).abs().max()) < 1e-4
        drafted.commit(block, part, accepted)
        at, longest = at + len(part), max(longest, len(part))
    assert longest > 1


def test_a_mask_for_queries_behind_the_next_move_ends_a_draft(llama: AdaptedModel) -> None:
    sequence = begun(llama, RECIPES["a mask beyond the next move"])
    read_on(sequence, [5])
    # 48 far keys, the window moves four tokens on, and the mask of the fourth begins before that.
    assert len(sequence) == 63 and sequence.tokens_until_change() == 3


def test_where_everything_is_read_drafts_are_as_long_as_the_window_lets_them(
    llama: AdaptedModel,
) -> None:
    sequence = begun(llama, [HiP(budget=400, **SMALL)])  # type: ignore[arg-type]
    read_on(sequence, [5])
    assert sequence.tokens_until_change() == 4
