"""Codecs together, and codecs whose entries a retention deletes: ThinK with KIVI, int8 and H2O."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from itertools import permutations
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.plan import FULL, Plan
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.base import Method, Question
from lengthwise.methods.codecs.int8 import Int8
from lengthwise.methods.codecs.kivi import Kivi, KiviBlock
from lengthwise.methods.codecs.pruned import PlainBlock, PruneCodec, PrunedBlock, coded, narrow
from lengthwise.methods.codecs.think import Think, ThinkChannels
from lengthwise.methods.retention.h2o import H2O
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.recipes import parse, resolve
from lengthwise.testing.laws import check_drafting, law_model
from lengthwise.testing.matrix import APPROXIMATE, judge
from lengthwise.testing.tiny import tiny, tokens

PROMPT = 150
FORMATS = [Kivi(bits=4, residual=32), Kivi(key_bits=2, value_bits=8, residual=32), Int8()]


def read(model: AdaptedModel, recipe: str | Plan, text: Seq[int], chunk: int = 64) -> Sequence:
    plan = resolve(recipe, model) if isinstance(recipe, str) else recipe
    sequence = Sequence(model, plan)
    prefill(sequence, text, chunk)
    sequence.end_prefill()
    return sequence


def forced(
    model: AdaptedModel, recipe: str | Plan, text: Seq[int], prompt: int = PROMPT
) -> torch.Tensor:
    return teacher_force(read(model, recipe, text[:prompt]), text[prompt:])


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_what_a_format_encodes_has_lost_its_channels_first(format: Method) -> None:
    model, text = tiny("llama"), tokens(PROMPT + 70)
    recipe = f"think(ratio=0.5, recent=8) + {format}"
    plain = Sequence(model, FULL, remember=32)
    prefill(plain, text[:PROMPT], 64)
    queries = plain.layers[0].last_queries()
    sequence = read(model, recipe, text[:PROMPT])
    whole, body = (
        plain.layers[0].groups[0].compressible.read(),
        sequence.layers[0].groups[0].compressible,
    )
    assert whole is not None and queries is not None
    kept = ThinkChannels(0.5, 8, 32).choose(queries, whole.key)
    alone = format.start_format(model.layers[0])
    assert alone is not None
    count = alone.encoded(PROMPT)  # type: ignore[attr-defined]
    (block,) = body.closed
    assert isinstance(block, PrunedBlock) and len(block) == count > 0
    assert torch.equal(block.kept, kept)
    expected = alone.close(narrow(whole.slice(0, count), kept)).decode()
    found = block.decode()
    assert torch.equal(found.value, expected.value)
    assert torch.equal(found.key.gather(2, kept[:, None].expand(-1, count, -1)), expected.key)
    # The newest tokens are whole, keys too.
    assert body.tail is not None
    assert torch.equal(body.tail.key, whole.slice(count, PROMPT).key)
    # Tokens decoded later lose the same channels when they are encoded.
    teacher_force(sequence, text[PROMPT:])
    (later,) = body.closed
    gone = torch.ones(len(kept), found.key.shape[-1], dtype=torch.bool).scatter(1, kept, False)
    assert len(later) > count
    assert bool((later.decode().key.transpose(1, 2)[gone] == 0).all())
    assert bool((later.decode().key.transpose(1, 2)[~gone] != 0).float().mean() > 0.9)


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("family", ["llama", "deepseek_v3"])
def test_the_order_in_the_recipe_does_not_matter(format: Method, family: str) -> None:
    model, text = tiny(family), tokens(PROMPT + 40)
    a, b = (forced(model, r, text) for r in (f"think + {format}", f"{format} + think"))
    assert torch.equal(a, b)
    assert not torch.equal(a, forced(model, str(format), text))
    assert not torch.equal(a, forced(model, "think", text))


@pytest.mark.parametrize(
    ("pair", "alone"),
    [
        ("think(ratio=0) + kivi(bits=4, residual=32)", "kivi(bits=4, residual=32)"),
        ("think(ratio=0) + int8", "int8"),
        ("think(ratio=0.01) + int8", "int8"),  # less than one channel
        ("think + kivi(bits=16)", "think"),
        ("think(ratio=0) + kivi(bits=16)", "full"),
        ("think + int8(residual=1000)", "full"),
    ],
)
def test_at_one_identity_the_other_is_left(pair: str, alone: str) -> None:
    model, text = tiny("llama"), tokens(PROMPT + 40)
    ours, theirs = forced(model, pair, text), forced(model, alone, text)
    assert float((ours - theirs).abs().max()) < 1e-4


def test_a_prompt_within_the_residual_is_never_pruned() -> None:
    model, text = tiny("llama"), tokens(140)
    pair = forced(model, "think + kivi(bits=4, residual=64)", text, prompt=60)
    assert torch.equal(pair, forced(model, "kivi(bits=4, residual=64)", text, prompt=60))


def layer(heads: int, key: int, value: int) -> LayerFacts:
    return LayerFacts(0, 2 * heads, heads, key, value, 1.0, None, None, None, None, None)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([*FORMATS, Kivi(), Kivi(key_bits=4), Kivi(bits=8)]),
    st.sampled_from([0.1, 0.4, 0.9]),
    st.integers(1, 3),
    st.sampled_from([(16, 16), (24, 16), (64, 64), (96, 64)]),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(1, 1200),
)
def test_a_pair_holds_the_bytes_of_its_formula(
    format: Method, ratio: float, heads: int, sizes: tuple[int, int], dtype: torch.dtype, n: int
) -> None:
    facts = layer(heads, *sizes)
    segment = KVStore()
    key, value = (torch.randn(heads, n, size).to(dtype) for size in sizes)
    segment.append(KVEntries(key, value, torch.arange(n)[None].int()))
    codec = coded(Think(ratio=ratio).start_channels(facts), format.start_format(facts))
    assert codec is not None
    queries = torch.randn(2 * heads, 32, sizes[0]).to(dtype)
    codec.encode(segment, CacheUpdate(Phase.PREFILL, facts, None, queries))  # type: ignore[arg-type]
    expected = codec.bytes_held(facts, dtype, n)  # type: ignore[attr-defined]
    assert abs(segment.nbytes() - expected) <= 0.03 * expected
    if ratio == 0.9 and segment.closed:
        assert segment.nbytes() < format.bytes_per_token(facts, dtype, n) * n  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "methods",
    [
        (Think.example(), Kivi.example()), (Think.example(), Int8.example()),
        (Think.example(), H2O.example()), (Int8.example(), H2O.example()),
        (Think.example(), Int8.example(), H2O.example()),
        (Think.example(), Kivi.example(), SnapKV.example()),
    ],
    ids=lambda methods: " + ".join(m.name for m in methods),
)  # fmt: skip
def test_together_they_keep_the_laws(methods: tuple[Method, ...]) -> None:
    assert judge(methods, law_model("llama")).kind == APPROXIMATE
    check_drafting(methods[::-1], law_model("qwen3"), seeds=1)


def test_a_codec_in_one_piece_goes_with_no_other() -> None:
    @dataclass(frozen=True)
    class Whole(Method):
        name: ClassVar[str] = "whole"
        question: ClassVar[Question] = Question.CODECS
        paper: ClassVar[None] = None

        def start_codec(self, layer: LayerFacts) -> PruneCodec:
            return PruneCodec(ThinkChannels(0.5, 8, 8))

    for other in (Think(), Kivi()):
        for pair in permutations((Whole(), other)):
            with pytest.raises(Refused, match="both decide how keys and values are stored"):
                resolve(pair, tiny("llama"))
    assert resolve((Whole(),), tiny("llama")).codec is not None


# Deleting from what is encoded.


def segment_of(kind: str, heads: int = 2, count: int = 40, plain: int = 12) -> KVStore:
    """`count` encoded entries and `plain` others, each with a statistic."""
    generator = torch.Generator().manual_seed(1)
    total = count + plain
    key, value = (torch.randn(heads, total, 16, generator=generator) for _ in range(2))
    attention_mass = torch.rand(heads, total, generator=generator)
    segment = KVStore()
    segment.append(
        KVEntries(key, value, torch.arange(total)[None].int(), attention_mass=attention_mass)
    )
    tail = segment.tail
    assert tail is not None
    leaving = tail.slice(0, count)
    if kind == "int8":
        segment.close(Int8(residual=1).start_format(layer(heads, 16, 16)).close(leaving), count)
    else:
        kept = torch.arange(0, 16, 2).expand(heads, -1)
        segment.close(PrunedBlock(PlainBlock.make(narrow(leaving, kept)), kept, 16), count)
    return segment


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["int8", "pruned"]), st.integers(1, 51), st.integers(0, 1000), st.booleans())
def test_deleting_encoded_entries_is_deleting_decoded_ones(
    kind: str, count: int, seed: int, together: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    segment, plain = segment_of(kind), KVStore()
    whole = segment.read()
    assert whole is not None
    plain.replace(whole)
    chance = torch.rand(1 if together else 2, 52, generator=generator)
    ids = chance.topk(count, 1).indices.sort(1).values
    ids = ids[0] if together else ids
    before = segment.nbytes()
    segment.keep(ids, 3)
    plain.keep(ids, 3)
    ours, theirs = segment.read(), plain.read()
    assert ours is not None and theirs is not None
    for mine, other in ((ours.key, theirs.key), (ours.value, theirs.value),
                        (segment.attention_mass(), plain.attention_mass())):  # fmt: skip
        assert mine is not None and other is not None and torch.equal(mine, other)
    assert torch.equal(segment.index().expand(2, -1), plain.index().expand(2, -1))
    fewest = int((ids < 40).sum(-1).min())
    assert sum(map(len, segment.closed)) == fewest
    if count <= 30:
        assert segment.nbytes() < before
    more = torch.rand(2, count, generator=generator)
    segment.add_attention_mass(more)
    plain.add_attention_mass(more)
    assert torch.equal(segment.attention_mass(), plain.attention_mass())  # type: ignore[arg-type]


def test_a_block_of_shared_scales_is_not_decoded_in_silence() -> None:
    segment = KVStore()
    x = torch.randn(2, 64, 16)
    segment.append(KVEntries(x, x, torch.arange(64)[None].int()))
    codec = Kivi(residual=1).start_format(layer(2, 16, 16))
    assert codec is not None
    codec.encode(segment, CacheUpdate(Phase.PREFILL, layer(2, 16, 16), None))  # type: ignore[arg-type]
    assert isinstance(segment.closed[0], KiviBlock)
    with pytest.raises(LengthwiseError, match="cannot lose entries"):
        segment.keep(torch.arange(20))


class ZeroedChannels(PruneCodec):
    """ThinK that only zeroes: all entries stay plain, so H2O deletes as it always does."""

    def encode(self, segment: KVStore, update: CacheUpdate) -> None:
        tail = segment.tail
        if update.phase is not Phase.PREFILL or tail is None or update.queries is None:
            return
        kept = self.channels.choose(update.queries[:, -self.window :], tail.key)
        mask = torch.zeros(len(kept), tail.key.shape[-1]).scatter(1, kept, 1.0)
        key = tail.key.clone()
        key[:, : len(tail) - self.channels.recent] *= mask[:, None]
        segment.replace(replace(tail, key=key), 20)


@pytest.mark.parametrize("budget", ["30%", "64"])
@pytest.mark.parametrize("normalise", ["true", "false"])
def test_h2o_deletes_pruned_entries_as_it_deletes_zeroed_ones(budget: str, normalise: str) -> None:
    model, text = tiny("llama"), tokens(PROMPT + 120)
    h2o = f"h2o(budget={budget}, normalise={normalise})"
    pair = resolve(f"{h2o} + think(ratio=0.5, recent=8)", model)
    zeroed = replace(
        resolve(h2o, model), codec=lambda facts: ZeroedChannels(ThinkChannels(0.5, 8, 32))
    )
    ours, theirs = read(model, pair, text[:PROMPT]), read(model, zeroed, text[:PROMPT])
    held = len(ours.layers[0].groups[0].compressible.closed[0])
    assert held > 0 and ours.nbytes() < theirs.nbytes()
    a, b = (teacher_force(sequence, text[PROMPT:]) for sequence in (ours, theirs))
    assert float((a - b).abs().max()) < 1e-4
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        assert torch.equal(
            mine.groups[0].compressible.index(), other.groups[0].compressible.index()
        )
        # Some of the pruned entries have gone, and the others are still pruned.
        assert 0 < len(mine.groups[0].compressible.closed[0]) < held


def test_h2o_over_bytes_deletes_for_real() -> None:
    model, text = tiny("llama"), tokens(PROMPT + 120)
    pair, alone = (
        read(model, r, text[:PROMPT])
        for r in ("h2o(budget=100) + int8(residual=8)", "h2o(budget=100)")
    )
    for sequence in (pair, alone):
        teacher_force(sequence, text[PROMPT:])
    for layer_ in pair.layers:
        assert layer_.groups[0].compressible.closed
        assert (
            abs(len(layer_.groups[0].compressible) - len(alone.layers[0].groups[0].compressible))
            <= 1
        )
    assert pair.nbytes() < 0.75 * alone.nbytes()


# Bits of keys and values apart.


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("kivi", (2, 2)), ("kivi(bits=8)", (8, 8)), ("kivi(key_bits=4)", (4, 2)),
        ("kivi(value_bits=4)", (2, 4)), ("kivi(key_bits=8, value_bits=4)", (8, 4)),
        ("kivi(bits=4, key_bits=4)", (4, 4)),
    ],
)  # fmt: skip
def test_bits_of_keys_and_values_are_those_written(text: str, bits: tuple[int, int]) -> None:
    recipe = parse(text)
    (method,) = recipe.methods
    assert isinstance(method, Kivi) and method.both == bits
    assert str(recipe) == text
    sequence = read(tiny("llama"), text.replace("kivi(", "kivi(residual=32, ") if "(" in text
                    else "kivi(residual=32)", tokens(PROMPT))  # fmt: skip
    (block,) = sequence.layers[0].groups[0].compressible.closed
    assert isinstance(block, KiviBlock) and (block.key.bits, block.value.bits) == bits


@pytest.mark.parametrize(
    "text", ["kivi(bits=4, key_bits=2)", "kivi(bits=2, value_bits=4)", "kivi(bits=16, key_bits=4)"]
)
def test_bits_that_contradict_each_other_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="leave out bits and give key_bits and value_bits"):
        parse(text)
