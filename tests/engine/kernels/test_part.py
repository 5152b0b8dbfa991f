"""Rows of each head are copied as `gather` would, whatever lies between the heads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kernels.part import Chosen, Part, lower, take_rows
from lengthwise.engine.kv_cache.entries import pick

STORE = torch.arange(3 * 20 * 4.0).view(3, 20, 4)
VIEWS = {
    "whole": STORE,
    "with room behind": STORE[:, :13],
    "from the middle": STORE[:, 5:18],
    "some heads": STORE[1:, :13],
    "channels apart": STORE[:, :13, ::2],
    "every other row": STORE[:, ::2],
    "heads alike": STORE[:1].expand(3, -1, -1),
    "numbers": STORE[:, :13, 0],
    "numbers in a row": STORE.flatten(1)[:, :50],
    "no channels": STORE[:, :, :0],
}


@pytest.mark.parametrize("name", VIEWS)
def test_rows_are_those_that_gather_takes(name: str) -> None:
    x = VIEWS[name]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, min(10, x.shape[1]), (len(x), 7), generator=generator)
    expected = torch.stack([own[rows] for own, rows in zip(x, ids, strict=True)])
    assert torch.equal(take_rows(x, ids), expected)
    assert torch.equal(pick(x, ids), expected)
    assert take_rows(x, ids[:, :0]).shape == (len(x), 0, *x.shape[2:])


@pytest.mark.parametrize("heads", [2, 6])
def test_chosen_keys_are_copied_for_each_query_head(heads: int) -> None:
    key, value = STORE[:2, :13], STORE[1:, :13] + 0.5
    ids = torch.tensor([[0, 3, 12], [1, 2, 5]]).repeat_interleave(heads // 2, 0)
    weight = STORE[:2, :13, 1]
    part = Chosen(torch.randn(heads, 1, 4), key, value, ids, None, weight).part()

    def expected(x: Tensor) -> Tensor:
        return torch.stack([x[head // (heads // 2), rows] for head, rows in enumerate(ids)])

    assert part.log_weight is not None
    assert torch.equal(part.key, expected(key)) and torch.equal(part.value, expected(value))
    assert torch.equal(part.log_weight, expected(weight))


@pytest.mark.parametrize("rows", [slice(0, 3), slice(4, 99), slice(None), slice(1, None, 3)])
@pytest.mark.parametrize("before", [0, 6])
def test_some_rows_of_a_causal_part_see_what_they_saw(rows: slice, before: int) -> None:
    query, key = torch.randn(2, 9, 4), torch.randn(2, 9 + before, 4)
    part = Part(query, key, key, causal=True)
    seen = torch.tensor([[k <= q + before for k in range(9 + before)] for q in range(9)])
    assert torch.equal(lower(part), seen)
    some = part.rows(rows)
    assert some.mask is not None and not some.causal
    assert torch.equal(some.mask, seen[rows]) and torch.equal(some.query, query[:, rows])
