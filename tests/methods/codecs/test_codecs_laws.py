"""Codecs in a running model: identity, bytes, chunks, forks, drafts, and heads that differ."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import ORDINARY, Placement
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill, teacher_force
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method
from lengthwise.methods.codecs.int8 import Int8
from lengthwise.methods.codecs.kivi import Kivi
from lengthwise.methods.codecs.think import Think
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.testing.tiny import tiny, tokens

FAMILIES = ["llama", "gemma3_text", "qwen3", "deepseek_v3"]
KINDS: list[type[Method]] = [Kivi, Int8, Think]
CODECS: list[Method] = [Kivi(bits=2, residual=32), Kivi(bits=4, residual=1), Int8(), Think()]
PROMPT = 150


def plan(method: Method, placement: Placement = ORDINARY) -> Plan:
    return Plan(str(method), placement=placement, codec=method.start_codec)


def read(model: AdaptedModel, plan: Plan, prompt: Seq[int], chunk: int = 64) -> Sequence:
    sequence = Sequence(model, plan)
    prefill(sequence, prompt, chunk)
    sequence.end_prefill()
    return sequence


def forced(model: AdaptedModel, plan: Plan, text: Seq[int], prompt: int = PROMPT) -> Tensor:
    """Logits of the tokens after the prompt, fed one by one."""
    return teacher_force(read(model, plan, text[:prompt]), text[prompt:])


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def assert_same_store(a: Sequence, b: Sequence) -> None:
    """Equal layouts and numbers; one in a hundred may have fallen to the other side of a code."""
    for mine, theirs in zip(a.layers, b.layers, strict=True):
        for x, y in zip(
            stored(mine.groups[0].compressible), stored(theirs.groups[0].compressible), strict=True
        ):
            same = torch.isclose(x.float(), y.float(), rtol=2e-3, atol=1e-4)
            assert float(same.float().mean()) > 0.99


def stored(segment: KVStore) -> list[Tensor]:
    found = [t for block in segment.closed for t in block.tensors()]
    return found + ([] if segment.tail is None else segment.tail.tensors())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_identity_equals_full_attention(family: str, kind: type[Method]) -> None:
    model, text = tiny(family), tokens(PROMPT + 40)
    method = kind.identity(len(text))
    assert method is not None
    assert difference(forced(model, plan(method), text), forced(model, FULL, text)) < 1e-4


def test_kivi_is_full_attention_while_the_residual_holds_everything() -> None:
    model, text = tiny("llama"), tokens(PROMPT)
    ours, full = (forced(model, p, text, prompt=100) for p in (plan(Kivi(bits=2)), FULL))
    assert difference(ours, full) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("fine", "coarse"),
    [
        (Kivi(bits=4), Kivi(bits=2)),
        (Int8(), Kivi(bits=2)),
        (Think(ratio=0.1), Think(ratio=0.9)),
        (Kivi(bits=8), Kivi(bits=4)),
        (Kivi(bits=4), Kivi(key_bits=4)),
        (Kivi(bits=4), Kivi(value_bits=4)),
    ],
    ids=str,
)
def test_storing_more_is_nearer_to_full(family: str, fine: Method, coarse: Method) -> None:
    model, text = tiny(family), tokens(400)
    full, near, far = (forced(model, p, text, prompt=390) for p in (FULL, plan(fine), plan(coarse)))
    assert 0 < float((near - full).square().mean()) < float((far - full).square().mean())


@pytest.mark.parametrize("method", CODECS, ids=str)
def test_chunked_prefill_equals_one_shot(method: Method) -> None:
    model, text = tiny("llama"), tokens(PROMPT + 10)
    one, many = (read(model, plan(method), text[:PROMPT], chunk) for chunk in (PROMPT, 17))
    assert_same_store(one, many)
    a, b = (teacher_force(sequence, text[PROMPT:]) for sequence in (one, many))
    assert difference(a, b) < 5e-3


def step(sequence: Sequence, guesses: Seq[int]) -> list[int]:
    """Commits right guesses below a root, verified beside a wrong one; greedy tokens after each."""
    tree = Tree(guesses[0])
    tree.add_chain(guesses[1:])
    count = len(tree)
    if count > 1:
        tree.add(0, 3)
    (logits,), (block,) = extend([(sequence, tree.tokens, tree)], "all")
    sequence.commit(block, guesses, range(count))
    return logits[:count].argmax(-1).tolist()


@pytest.mark.parametrize("window", [None, 40, 200])
@pytest.mark.parametrize("method", CODECS, ids=str)
def test_drafted_then_encoded_equals_plain_decoding(method: Method, window: int | None) -> None:
    model, recipe = tiny("llama"), plan(method, Placement(window=window))
    prompt = tokens(PROMPT)
    stepwise = read(model, recipe, prompt, 32)
    drafted = stepwise.fork()
    assert stepwise.last_logits is not None
    text = [int(stepwise.last_logits.argmax())]
    while len(text) <= 120:
        text += step(stepwise, text[-1:])
    steps = 0
    while (done := len(drafted) - PROMPT) < 120:
        guesses = text[done : min(done + min(9, drafted.tokens_until_change() or 9), 120)]
        assert step(drafted, guesses) == text[done + 1 : done + 1 + len(guesses)]
        steps += 1
    assert steps <= 40
    assert_same_store(drafted, stepwise)


def test_what_is_encoded_is_never_encoded_again() -> None:
    model, text = tiny("llama"), tokens(PROMPT + 100)
    sequence = read(model, plan(Kivi(residual=32)), text[:PROMPT])
    (before,) = sequence.layers[0].groups[0].compressible.closed
    teacher_force(sequence, text[PROMPT:])
    (after,) = sequence.layers[0].groups[0].compressible.closed
    assert len(after) > len(before)
    for old, new in zip(before.tensors(), after.tensors(), strict=True):
        assert torch.equal(new[:, : old.shape[1]], old)


@pytest.mark.parametrize("method", CODECS, ids=str)
def test_a_fork_leaves_the_original_alone(method: Method) -> None:
    model, text = tiny("llama"), tokens(PROMPT + 60)
    sequence = read(model, plan(method), text[:PROMPT])
    teacher_force(sequence.fork(), tokens(60, seed=1))
    again = teacher_force(sequence, text[PROMPT:])
    assert torch.equal(again, forced(model, plan(method), text))


class _Split:
    """Gives every key head a group of its own once the prompt is read."""

    window, wants_attention_mass, wants_token_nll = 0, False, False

    def retain(self, group: HeadGroup, update: CacheUpdate) -> list[HeadGroup] | None:
        if update.phase is not Phase.PREFILL:
            return None
        entries = group.compressible.read()
        assert entries is not None
        groups = []
        for head in range(len(entries.key)):
            ids = torch.tensor([head])
            new = HeadGroup(group.placement, ids)
            new.near.replace(entries.heads(ids))
            groups.append(new)
        return groups

    def tokens_until_change(self, sequence: Sequence) -> int | None:
        return None


@pytest.mark.parametrize("method", CODECS, ids=str)
def test_heads_stored_apart_are_encoded_as_they_are_together(method: Method) -> None:
    model, text = tiny("llama"), tokens(PROMPT + 40)
    apart = replace(plan(method), retention=_Split)
    assert difference(forced(model, apart, text), forced(model, plan(method), text)) < 1e-4


def layer(heads: int, key: int, value: int) -> LayerFacts:
    return LayerFacts(0, 2 * heads, heads, key, value, 1.0, None, None, None, None, None)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(
        [
            *CODECS,
            Kivi(bits=2),
            Kivi(bits=4),
            Kivi(bits=8),
            Kivi(key_bits=4),
            Kivi(value_bits=8),
            Kivi(key_bits=8, value_bits=4),
            Kivi(bits=16),
            Think(ratio=0.0),
        ]
    ),
    st.integers(1, 3),
    st.sampled_from([(16, 16), (24, 16), (64, 64), (80, 80), (96, 64)]),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.integers(1, 1200),
)
def test_bytes_held_are_those_of_the_formula(
    method: Method, heads: int, sizes: tuple[int, int], dtype: torch.dtype, n: int
) -> None:
    facts = layer(heads, *sizes)
    segment = KVStore()
    key, value = (torch.randn(heads, n, size).to(dtype) for size in sizes)
    segment.append(KVEntries(key, value, torch.arange(n)[None].int()))
    codec = method.start_codec(facts)
    if codec is not None:
        queries = torch.randn(2 * heads, 32, sizes[0]).to(dtype)
        codec.encode(segment, CacheUpdate(Phase.PREFILL, facts, None, queries))  # type: ignore[arg-type]
    expected = method.bytes_per_token(facts, dtype, n) * n
    assert abs(segment.nbytes() - expected) <= 0.03 * expected


@pytest.mark.parametrize("method", [*CODECS, Kivi(bits=2)], ids=str)
def test_a_model_holds_the_bytes_of_the_formula_while_it_decodes(method: Method) -> None:
    model, text = tiny("llama"), tokens(800)
    sequence = read(model, plan(method), text[:700])
    for stop in (700, 731, 800):
        teacher_force(sequence, text[len(sequence) : stop])
        expected = sum(method.bytes_per_token(ly, model.dtype, stop) for ly in model.layers) * stop
        if isinstance(method, Think):
            # What comes after the prompt is stored whole.
            plain = model.bytes_per_token + 4 * len(model.layers)
            prompt = sum(method.bytes_per_token(ly, model.dtype, 700) for ly in model.layers) * 700
            expected = prompt + (stop - 700) * plain
        assert abs(sequence.nbytes() - expected) <= 0.03 * expected
    full = len(text) * model.bytes_per_token
    assert sequence.nbytes() < full


def test_the_peak_counts_what_is_decoded_beside_what_is_kept() -> None:
    model, text = tiny("llama"), tokens(PROMPT + 20)
    sequence = read(model, plan(Kivi(bits=2, residual=1)), text[:PROMPT])
    sequence.peak_bytes = 0
    teacher_force(sequence, text[PROMPT:])
    decoded = 160 * model.layers[0].entry_numbers * 4
    assert sequence.peak_bytes >= sequence.nbytes() + decoded - 20 * model.bytes_per_token


@pytest.mark.parametrize(
    "make",
    [
        lambda: Kivi(bits=3),
        lambda: Kivi(key_bits=3),
        lambda: Kivi(value_bits=16),
        lambda: Think(ratio=1.5),
        lambda: Int8(residual=-1),
    ],
)
def test_impossible_options_are_refused(make: object) -> None:
    with pytest.raises(RecipeError, match="allowed"):
        make()  # type: ignore[operator]
