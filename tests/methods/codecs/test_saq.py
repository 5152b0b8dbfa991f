"""SAQ: what has which bits, and that an entry's bits are made of those it had."""

from __future__ import annotations

import pytest
import torch

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.errors import RecipeError
from lengthwise.methods.codecs.saq import Saq, SaqCodec
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tokens

AGES, GROUP = (8, 24, 48), 8
UPDATE: CacheUpdate = CacheUpdate(Phase.DECODE, None, None)  # type: ignore[arg-type]


def entries(count: int, seed: int = 0) -> KVEntries:
    chance = torch.Generator().manual_seed(seed)
    key, value = (torch.randn(2, count, 16, generator=chance) for _ in range(2))
    return KVEntries(key, value, torch.arange(count, dtype=torch.int32)[None])


def fed(given: KVEntries, prompt: int, first: int = 0) -> KVStore:
    """A store of a prompt, to which single entries are added."""
    codec, store = SaqCodec(AGES, GROUP, first), KVStore()
    store.append(given.slice(0, prompt))
    codec.encode(store, UPDATE)
    for place in range(prompt, len(given)):
        left = codec.tokens_until_change(store)
        before = [len(block) for block in store.closed]
        store.append(given.slice(place, place + 1))
        codec.encode(store, UPDATE)
        assert left is not None and left >= 1
        if left > 1:
            assert [len(block) for block in store.closed] == before
    return store


def stair(x: torch.Tensor, bits: int, dim: int) -> torch.Tensor:
    """The equations on groups along one dimension of a group."""
    low, high = (f(x, dim, keepdim=True) for f in (torch.amin, torch.amax))
    low = low.half().float()
    scale = ((high - low).clamp_min(0) / (2**bits - 1)).half().float()
    return (
        low + ((x - low) / scale.masked_fill(scale == 0, 1)).round().clamp(0, 2**bits - 1) * scale
    )


def down(x: torch.Tensor, bits: int, by_channel: bool) -> torch.Tensor:
    """8 bits, then 4 of these, then 2 of those, down to `bits`."""
    heads, count, channels = x.shape
    shape = (heads, count // GROUP, GROUP, channels)
    shape = shape if by_channel else (heads, count, channels // GROUP, GROUP)
    for each in (8, 4, 2):
        x = stair(x.reshape(shape), each, 2 if by_channel else 3).reshape(heads, count, channels)
        if each == bits:
            break
    return x


def test_the_older_the_fewer_bits_and_each_is_made_of_the_last() -> None:
    given = entries(100)
    for prompt in (100, 30, 1):
        store = fed(given, prompt)
        bits = [(block.key.bits, len(block)) for block in store.closed]  # type: ignore[attr-defined]
        # 100 - 48, 24 and 8, by eights, are 48, 72 and 88.
        assert bits == [(2, 48), (4, 24), (8, 16)] and store.tail_length == 12
        found = store.read()
        assert found is not None and torch.equal(found.index, given.index)
        start = 0
        for width, count in bits:
            stop = start + count
            key = down(given.key[:, start:stop], width, True)
            value = down(given.value[:, start:stop], width, False)
            assert torch.allclose(found.key[:, start:stop], key, atol=2e-3)
            assert torch.allclose(found.value[:, start:stop], value, atol=2e-3)
            start = stop
        assert torch.equal(found.key[:, start:], given.key[:, start:])


@pytest.mark.parametrize("prompt", [100, 30, 10, 1])
def test_the_first_entries_may_be_spared(prompt: int) -> None:
    given = entries(100)
    store = fed(given, prompt, first=16)
    bits = [(block.key.bits, len(block)) for block in store.closed]  # type: ignore[attr-defined]
    assert bits == [(8, 16), (2, 32), (4, 24), (8, 16)] and store.tail_length == 12
    found = store.read()
    assert found is not None and torch.equal(found.index, given.index)
    for width, start, stop in ((8, 0, 16), (2, 16, 48), (4, 48, 72), (8, 72, 88)):
        key = down(given.key[:, start:stop], width, True)
        assert torch.allclose(found.key[:, start:stop], key, atol=2e-3)


def test_it_matters_that_bits_are_made_of_bits() -> None:
    given = entries(48)
    at_once = stair(given.key.reshape(2, 6, 8, 16), 2, 2).reshape(2, 48, 16)
    assert not torch.allclose(down(given.key, 2, True), at_once, atol=2e-3)


@pytest.mark.parametrize("first", [0, 20])
def test_bytes_are_those_that_are_promised(first: int) -> None:
    model = tiny("llama")
    method = Saq(a1=32, a2=128, a3=256, group=16, first=first)
    sequence = Sequence(model, resolve((method,), model), expected=700)
    prefill(sequence, tokens(640))
    sequence.end_prefill()
    promised = sum(640 * method.bytes_per_token(layer, model.dtype, 640) for layer in model.layers)
    assert abs(sequence.nbytes() - promised) < 0.03 * promised
    whole = Sequence(model)
    prefill(whole, tokens(640))
    assert sequence.nbytes() < 0.35 * whole.nbytes()


def test_far_thresholds_change_nothing_and_near_ones_do() -> None:
    model, text = tiny("llama"), tokens(120)
    found = {}
    for recipe in ("full", "saq(a1=120, a2=120, a3=120)", "saq(a1=8, a2=24, a3=48, group=8)"):
        sequence = Sequence(model, resolve(recipe, model))
        prefill(sequence, text[:100])
        sequence.end_prefill()
        found[recipe] = teacher_force(sequence, text[100:])
    full, same, other = found.values()
    assert torch.equal(full, same)
    assert float((full - other).abs().max()) > 1e-3


def test_ages_rise() -> None:
    with pytest.raises(RecipeError, match=r"saq: ages rise, and a1=9, a2=8, a3=2048 do not"):
        Saq(a1=9, a2=8)
