"""Lines of a prompt's attention, against loops over queries and keys."""

from __future__ import annotations

import torch
from hypothesis import given, settings, strategies as st

from lengthwise.methods.selection.patterns import (
    Estimate,
    Grid,
    Pattern,
    block_lines,
    chosen_keys,
    distance_sums,
    lines,
    most,
    probabilities,
)


def make(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 20), st.integers(0, 99))
def test_sums_along_diagonals(count: int, before: int, seed: int) -> None:
    keys = count + before
    probs = torch.rand(count, keys, generator=make(seed)).tril(before)
    expected = torch.zeros(keys)
    for i in range(count):
        for j in range(before + i + 1):
            expected[before + i - j] += probs[i, j]
    assert torch.allclose(distance_sums(probs), expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.integers(1, 24), st.integers(1, 8), st.integers(0, 99))
def test_lines_read_what_any_query_of_a_block_reads(
    start: int, queries: int, size: int, seed: int
) -> None:
    total = start + queries
    columns, distances = (torch.rand(2, total, generator=make(seed)) < 0.15).unbind(0)
    grid = Grid(start, -(-queries // size), size)
    found = lines(columns, distances, grid)
    for block in range(grid.count):
        first = start + block * size
        for key in range(min(first, grid.keys)):
            reached = any(
                bool(distances[query - key])
                for query in range(first, first + size)
                if query - key < total
            )
            assert bool(found[block, key]) == (reached or bool(columns[key])), (block, key)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 20), st.integers(1, 24), st.integers(1, 6), st.integers(1, 4),
       st.integers(0, 9))  # fmt: skip
def test_blocks_of_keys_whose_means_match_best(
    start: int, queries: int, size: int, count: int, seed: int
) -> None:
    query = torch.randn(queries, 4, generator=make(seed))
    key = torch.randn(start + queries, 4, generator=make(seed + 1))
    grid = Grid(start, -(-queries // size), size)
    found = block_lines(query, key, count, grid)
    held = key[: grid.keys].split(size) if grid.keys else ()
    for block in range(grid.count):
        mean, first = query[block * size : (block + 1) * size].mean(0), start + block * size
        scores = [float(mean @ each.mean(0)) for each in held]
        open_ = [n for n in range(len(held)) if n * size < first]
        best = sorted(open_, key=lambda n: -scores[n])[: max(1, count - 1)]
        for place in range(min(first, grid.keys)):
            assert bool(found[block, place]) == (place // size in best)


def test_estimates_are_causal_softmax_of_the_last_queries() -> None:
    query, key = torch.randn(3, 5, 8, generator=make(0)), torch.randn(12, 8, generator=make(1))
    for softcap in (None, 2.0):
        scores = query @ key.T * 0.3
        scores = scores if softcap is None else softcap * (scores / softcap).tanh()
        hidden = ~torch.ones(5, 12, dtype=torch.bool).tril(7)
        expected = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        assert torch.allclose(probabilities(query, key, 0.3, softcap), expected, atol=1e-6)


def test_some_are_taken_in_any_case() -> None:
    sums = torch.tensor([0.0, 1, 5, 3, 4])
    assert most(sums, 3, 1).tolist() == [True, False, True, False, True]
    assert most(sums, 1, 2).tolist() == [True, True, False, False, False]
    assert most(sums, 9, 0).all()


def test_every_head_goes_by_its_own_pattern() -> None:
    query, key = torch.randn(3, 16, 8, generator=make(2)), torch.randn(40, 8, generator=make(3))
    grid, estimate = Grid(24, 4, 4), Estimate(0.3, last=8, first=1, nearest=2)
    patterns = [Pattern("a_shape", 3, 5), Pattern("block_sparse", blocks=3),
                Pattern("vertical_slash", 4, 3)]  # fmt: skip
    found = chosen_keys(patterns, query, key, grid, estimate)
    place = torch.arange(40)
    assert torch.equal(found[0], lines(place < 3, place < 5, grid))
    assert torch.equal(found[1], block_lines(query[1], key, 3, grid))
    probs = probabilities(query[2:, -8:], key, 0.3, None)[0]
    best = lines(most(probs.sum(0), 4, 1), most(distance_sums(probs), 3, 2), grid)
    assert torch.equal(found[2], best)
    only_near = [Pattern("vertical_slash", 4, 2)] * 3
    near = lines(most(probs.sum(0), 4, 1), place < 2, grid)
    assert torch.equal(chosen_keys(only_near, query, key, grid, estimate)[2], near)
    known = estimate.of(query, key)
    assert torch.equal(chosen_keys(patterns, query, key, grid, estimate, known), found)
