"""Entries of pieces stand where the new text has them, before anything is computed again."""

from __future__ import annotations

import pytest
import torch

from lengthwise.engine.blending import Borrowed, Choice, _place, blend
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


@pytest.mark.parametrize("last", [True, False])
def test_of_a_text_of_pieces_the_last_state_is_kept_where_of_one_no_more_was_noted(
    last: bool,
) -> None:
    stored, whole = Sequence(tiny("llama")), Sequence(tiny("llama"))
    stored.noted, stored.notes_last, whole.noted = [], last, []
    prefill(stored, STORED, 8)
    prefill(whole, TEXT)
    pieces = [Borrowed(stored, 9, 30, 24)]
    new = blend(Sequence(tiny("llama")), TEXT, pieces, Choice(share=1.0)).sequence
    found = torch.cat(new.noted or [])
    assert len(found) == (1 if last else len(TEXT))
    assert torch.allclose(found, whole.noted[0][-len(found) :], atol=1e-4)
