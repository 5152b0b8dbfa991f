"""A store keeps what its entries weigh, however they come."""

from __future__ import annotations

import pytest
import torch

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore


def entries(start: int, count: int, weight: float | None = None) -> KVEntries:
    index = torch.arange(start, start + count, dtype=torch.int32)[None]
    weights = None if weight is None else torch.full((2, count), weight)
    return KVEntries(torch.randn(2, count, 4), torch.randn(2, count, 4), index, weights)


@pytest.mark.parametrize("room", [0, 64])
def test_weights_stay_when_entries_without_one_follow(room: int) -> None:
    store = KVStore()
    store.replace(entries(0, 5, 0.7), room)
    for start in range(5, 45, 20):
        store.append(entries(start, 20))
    weight = store.read().log_weight  # type: ignore[union-attr]
    assert weight is not None and weight.shape == (2, 45)
    assert torch.equal(weight[:, :5], torch.full((2, 5), 0.7)) and not weight[:, 5:].any()


def test_entries_without_a_weight_weigh_one_when_others_follow() -> None:
    store = KVStore()
    store.append(entries(0, 5))
    store.append(entries(5, 20, 0.7))
    weight = store.read().log_weight  # type: ignore[union-attr]
    assert weight is not None and not weight[:, :5].any()
    assert torch.equal(weight[:, 5:], torch.full((2, 20), 0.7))
