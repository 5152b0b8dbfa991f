"""Entries of pieces stand where the new text has them, before anything is computed again."""

from __future__ import annotations

import torch

from lengthwise.engine.blending import Borrowed, _place
from lengthwise.engine.kv_cache.editing import opened
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.testing.tiny import tiny, tokens

SHARED = tokens(24, seed=1)
STORED, TEXT = [*tokens(9, seed=2), *SHARED], [*tokens(30, seed=3), *SHARED, 5]


def test_keys_that_were_turned_are_those_of_reading_where_they_depend_on_place_alone() -> None:
    stored, whole = Sequence(tiny("llama")), Sequence(tiny("llama"))
    prefill(stored, STORED)
    prefill(whole, TEXT)
    new = opened(stored, len(TEXT))
    known = _place(new, [Borrowed(stored, 9, 30, 24)])
    assert known.nonzero()[:, 0].tolist() == list(range(30, 54))
    for layer in (0, 1):
        mine, theirs = (s.layers[layer].groups[0].near.tail for s in (new, whole))
        assert mine is not None and theirs is not None
        near = torch.allclose(mine.key[:, 30:54], theirs.key[:, 30:54], atol=1e-5)
        assert near == (layer == 0)
