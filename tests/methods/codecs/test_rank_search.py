"""The search for ranks: which heads lose first, and what is compared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.methods.codecs import rank_search
from lengthwise.methods.codecs.projections import (
    PARTS,
    Reading,
    Truncated,
    heads_of,
    principal,
    ranks_of,
    whole,
)
from lengthwise.methods.codecs.rank_search import COPIES, EVERY, RECENT, moved, search
from lengthwise.testing.tiny import tiny, tokens


def test_heads_lose_in_the_order_of_what_they_move(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    heads = heads_of(model)
    cost = {head: float(n) for n, head in enumerate(reversed(heads))}
    seen: list[int] = []

    def made_up(model: Any, bases: Any, ids: Tensor, tried: list[Any]) -> list[float]:
        base = tried[0]
        seen.append(len(tried) - 1)
        return [next(cost[h] for h in heads if ranks[h[1]][h[0]][h[2]] < base[h[1]][h[0]][h[2]])
                for ranks in tried[1:]]  # fmt: skip

    monkeypatch.setattr(rank_search, "moved", made_up)
    told: list[tuple[int, int]] = []
    order = search(model, principal(model, 64), lambda done, total: told.append((done, total)))
    assert len(order) == len(heads) * (PARTS - 1)
    first = [tuple(each) for each in order[: round(0.75 * len(heads))]]
    assert first == sorted(heads, key=cost.__getitem__)[: len(first)]
    assert all([tuple(each) for each in order].count(head) == PARTS - 1 for head in heads)
    assert max(seen) <= COPIES and all(done <= total for done, total in told)


def test_what_moves_is_the_last_hidden_state() -> None:
    model, ids = tiny("llama"), torch.tensor(tokens(RECENT + 16))
    bases, places = principal(model, 64), torch.arange(len(ids))
    small = ranks_of(model, dict.fromkeys(heads_of(model), 1))
    nothing, much = moved(model, bases, ids, [whole(model), whole(model), small])
    states: list[Tensor] = []
    for reading in (
        Reading(model, len(ids)), Truncated(model, len(ids), bases, [small], 0, RECENT),
    ):  # fmt: skip
        found: list[Tensor] = []
        model.through_modules(ids, places, reading, None, found)
        states.append(found[0][EVERY - 1 :: EVERY])
    assert nothing < 1e-5
    expected = float((states[1] - states[0]).norm() / states[0].norm())
    assert abs(much - expected) < 1e-4 and much > 0.001


def test_a_real_search_spares_the_heads_that_move_most() -> None:
    model = tiny("llama")
    order = search(model, principal(model, 64))
    assert sorted({tuple(each) for each in order}) == sorted(heads_of(model))
