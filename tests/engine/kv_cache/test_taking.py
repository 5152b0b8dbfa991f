"""Some entries of a store, and all of its keys: those of everything decoded, and little else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lengthwise.engine.kv_cache import kv_store
from lengthwise.engine.kv_cache.entries import Encoded, KVEntries, Selectable
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.taking import laid_over
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.methods.codecs.int8 import Int8Block, Int8Codec
from lengthwise.methods.codecs.kivi import KiviCodec
from lengthwise.methods.codecs.pruned import PlainBlock, PrunedBlock, narrow
from lengthwise.methods.codecs.quantised import QuantisedEntries
from lengthwise.models.adapt import adapt
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens

HEADS, GROUP = 2, 8
FORMATS = {
    "int8": Int8Codec(1, GROUP), "kivi 2": KiviCodec(2, 2, GROUP, 1),
    "kivi 8/4": KiviCodec(8, 4, GROUP, 1),
}  # fmt: skip
KINDS = (*FORMATS, "think", "think + int8", "think + kivi 2", "other")


@dataclass(frozen=True)
class Other:
    """A block of a codec that can do nothing but decode."""

    held: KVEntries

    @property
    def index(self) -> Tensor:
        return self.held.index

    def __len__(self) -> int:
        return len(self.held)

    def tensors(self) -> list[Tensor]:
        return self.held.tensors()

    def decode(self) -> KVEntries:
        return self.held.clone()


def entries(start: int, count: int, size: int, dtype: torch.dtype, mass: bool) -> KVEntries:
    generator = torch.Generator().manual_seed(start)
    key, value = torch.randn(2, HEADS, count, size, generator=generator).to(dtype)
    index = torch.arange(start, start + count, dtype=torch.int32)[None]
    received = torch.rand(HEADS, count, generator=generator) if mass else None
    return KVEntries(key, value, index, None, received)


def encoded(kind: str, given: KVEntries) -> Encoded:
    given = KVEntries(given.key, given.value, given.index)
    if kind == "other":
        return Other(given.clone())
    pruned, _, name = kind.rpartition(" + ")
    if kind in FORMATS:
        return FORMATS[kind].close(given)
    size = given.key.shape[-1]
    kept = torch.stack([torch.randperm(size)[: size - 3].sort().values for _ in range(HEADS)])
    less = narrow(given, kept)
    inner = FORMATS[name].close(less) if pruned else PlainBlock.make(less)
    return PrunedBlock(inner, kept, size)


def store_of(
    kinds: list[str], left: int, size: int = 13, dtype: torch.dtype = torch.float32,
    mass: bool = False, shared: bool = False,
) -> KVStore:  # fmt: skip
    """Encoded blocks of 3 groups each, and so many plain entries behind them."""
    store, count = KVStore(), 3 * GROUP
    store.append(entries(0, count * len(kinds) + left, size, dtype, mass))
    for kind in kinds:
        tail = store.tail
        assert tail is not None
        store.close(encoded(kind, tail.slice(0, count)), count)
    if shared:
        store.share([entries(500, 5, size, dtype, False), entries(600, 7, size, dtype, False)])
    return store


def same(found: KVEntries, right: KVEntries) -> bool:
    names = ("key", "value", "index", "log_weight", "attention_mass")
    pairs = [(getattr(found, name), getattr(right, name)) for name in names]
    return all(a is b is None or (a.dtype == b.dtype and torch.equal(a, b)) for a, b in pairs)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), st.sampled_from([0, 1, 9]),
    st.sampled_from([7, 13, 16]), st.sampled_from([torch.float32, torch.bfloat16]), st.booleans(),
    st.booleans(), st.integers(0, 40), st.booleans(), st.integers(0, 999),
)  # fmt: skip
def test_some_entries_are_those_of_everything_decoded(
    kinds, left, size, dtype, mass, shared, count, alike, seed
) -> None:
    torch.manual_seed(seed)
    # What is shared has no mass: an observer sums for entries of the store's own.
    store = store_of(kinds, left, size, dtype, mass and not shared, shared)
    ids = torch.randint(0, len(store), (count,) if alike else (HEADS, count))
    whole = store.read()
    assert whole is not None
    assert same(store.take(ids), whole.take(ids))
    assert torch.equal(store.keys(), whole.key)


def test_weights_and_ids_by_head_are_kept_beside_entries_without() -> None:
    store = store_of(["int8"], 0)
    late = entries(24, 6, 13, torch.float32, False)
    weight = torch.rand(HEADS, 6)
    index = torch.stack([late.index[0], late.index[0] + 3])
    store.append(KVEntries(late.key, late.value, index, weight))
    ids = torch.tensor([1, 29, 25, 3])
    found, whole = store.take(ids), store.read()
    assert whole is not None and same(found, whole.take(ids))
    assert found.log_weight is not None and found.index.tolist() == [[1, 29, 25, 3], [1, 32, 28, 3]]
    assert torch.equal(found.log_weight[:, 1:3], weight[:, [5, 1]])
    assert not found.log_weight[:, [0, 3]].any()


def test_entries_are_laid_over_others() -> None:
    old, new = entries(0, 3, 4, torch.float32, True), entries(10, 3, 4, torch.float32, False)
    where = torch.tensor([[True, False, False], [False, False, True]])
    found = laid_over(new, old, where)
    assert torch.equal(found.key[0], torch.cat([new.key[0, :1], old.key[0, 1:]]))
    assert torch.equal(found.value[1], torch.cat([old.value[1, :2], new.value[1, 2:]]))
    assert found.index.tolist() == [[10, 1, 2], [0, 1, 12]]
    assert found.attention_mass is not None and old.attention_mass is not None
    assert torch.equal(found.attention_mass, old.attention_mass.masked_fill(where, 0.0))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "other"])
def test_few_entries_decode_no_others_and_keys_no_values(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of([kind], 4)
    ids = torch.tensor([[0, 9, 25], [23, 11, 2]])
    whole = store.read()
    (block,) = store.closed
    assert whole is not None and isinstance(block, Selectable)
    run = type(block).decode

    def decode(self: Encoded) -> KVEntries:
        assert len(self) < len(block), "all were decoded"
        return run(self)

    monkeypatch.setattr(type(block), "decode", decode)
    assert torch.equal(store.keys(), whole.key)
    assert same(store.take(ids), whole.take(ids))
    # Two heads, 13 channels, 4 bytes. Keys: decoded ones, then all in one piece.
    assert store.copied == 2 * 13 * 4 * (24 + 28)
    store.copied = 0
    store.take(ids)
    # Rows of either block, and what is made of them, keys and values.
    assert store.copied == 2 * 13 * 4 * 2 * 3 * 3


@pytest.mark.parametrize(("kind", "count", "rows"), [("other", 3, 24 + 9), ("int8", 20, 28 + 20)])
def test_what_had_to_be_decoded_is_counted(kind: str, count: int, rows: int) -> None:
    """A codec that knows no other way, and so many entries that all of them are read at once."""
    store = store_of([kind], 4)
    store.take(torch.arange(count))
    assert store.copied == 2 * 13 * 4 * 2 * rows


def test_a_tail_alone_is_read_where_it_lies() -> None:
    store = store_of([], 9)
    assert store.tail is not None and store.keys().data_ptr() == store.tail.key.data_ptr()
    store.take(torch.tensor([0, 3]))
    assert not store.copied


SELECTIONS = [
    "infllm(budget=36, window=16, init=4, block=4, query_block=16, representatives=2)",
    "quest(budget=36, window=16, page=4, dense=0)",
    "token_select(budget=28, window=16, init=4, query_block=16)",
    "hip(budget=28, window=16, init=4, block=2, dense=0, query_block=8)",
]
CODECS = ["kivi(bits=4, group=8, residual=8)", "int8(residual=8)"]
DECODING_KEYS = ("token_select", "hip")


@pytest.mark.parametrize("codec", CODECS, ids=lambda each: each.split("(")[0])
@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda each: each.split("(")[0])
def test_a_selection_over_a_codec_decodes_what_it_reads(
    selection: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapt(tiny_model("llama", initializer_range=0.15, max_position_embeddings=1024))
    text, found, decoded = tokens(412), [], []
    name = selection.split("(")[0]

    def all_at_once(self: KVStore, ids: Tensor) -> KVEntries:
        whole = self.read()
        assert whole is not None
        return whole.take(ids)

    for kind in (QuantisedEntries, Int8Block):
        run = kind.decode
        monkeypatch.setattr(
            kind, "decode",
            lambda self, run=run: decoded.append(len(self)) or run(self),
        )  # fmt: skip
    for way in ("before", "now"):
        sequence = Sequence(model, resolve(f"{selection} + {codec}", model))
        prefill(sequence, text[:400], 32)
        sequence.end_prefill()
        body = sequence.head_groups(0)[0].far
        assert body.closed and len(body.closed[0]) > 300
        sequence._transient = 0
        decoded.clear()
        with monkeypatch.context() as patch:
            if way == "before":
                patch.setattr(kv_store.KVStore, "take", all_at_once)
            found.append(teacher_force(sequence, text[400:]))
    assert torch.equal(*found)
    # int8 takes its few rows and decodes those.
    assert max(decoded, default=0) < 100
    whole = HEADS * len(body) * 16 * 4
    if name in DECODING_KEYS:
        # All keys, which the best are found among.
        assert whole <= sequence._transient < 2.2 * whole
    else:
        assert 0 < sequence._transient < whole
