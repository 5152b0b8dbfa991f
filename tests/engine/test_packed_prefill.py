"""Prompts read together are what they are alone, and those that cannot be read so are not."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

import lengthwise
from lengthwise.api.batch import Asked, Batch, Cancelled, Row
from lengthwise.api.model import Model
from lengthwise.engine import loop, packed_prefill
from lengthwise.engine.kernels.choice import VARIABLE
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.packed_prefill import bins, packs, read_together, waste
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import OutOfMemory, Refused
from lengthwise.recipes.registry import methods
from lengthwise.testing.tiny import tiny, tiny_model, tokens
from tests.cache_recipes import RECIPES

TEXT = tokens(400)
LENGTHS = (7, 12, 1, 5, 48, 9, 30, 16, 2, 21)
PROMPTS = [TEXT[start : start + length] for start, length in enumerate(LENGTHS)]
# What plans by blocks of a prompt keeps the first of them before the last is read.
BY_BLOCK = (
    "hip(budget=24, window=8, init=4, block=2, query_block=8, dense=0)",
    "token_select(budget=32, window=16, init=2, query_block=8)",
)
FAMILIES = ("llama", "gemma2", "phi", "qwen2_moe", "gpt_oss", "deepseek_v3", "smollm3")


@pytest.fixture(scope="module")
def model() -> Model:
    return lengthwise.wrap(tiny_model("llama"))


def sequences(model: Model, recipe: str) -> list[Sequence]:
    return [Sequence(model.adapted, model.plan(recipe), expected=80) for _ in PROMPTS]


def kept(sequence: Sequence) -> list[torch.Tensor]:
    """Everything that a sequence holds, near and far, of every layer."""
    stores = [store for _, group in sequence.groups() for store in (group.near, group.far)]
    return [t for s in stores for block in s.blocks() for t in block.tensors()]


def require_same(ours: Seq[Sequence], theirs: Seq[Sequence], exactly: bool = False) -> None:
    near = 0.0 if exactly else 1e-4
    for mine, alone in zip(ours, theirs, strict=True):
        assert mine.tokens[:] == alone.tokens[:] and mine.nbytes() == alone.nbytes()
        for found, right in zip(kept(mine), kept(alone), strict=True):
            assert torch.allclose(found.float(), right.float(), rtol=0, atol=near)
        assert mine.last_logits is not None and alone.last_logits is not None
        assert torch.allclose(mine.last_logits, alone.last_logits, rtol=0, atol=near)


def read(model: Model, recipe: str, together: bool) -> list[Sequence]:
    rows = sequences(model, recipe)
    pairs = list(zip(rows, PROMPTS, strict=True))
    if together:
        limit = rows[0].max_block() or 1000
        assert all(packs(*pair) == (len(pair[1]) <= limit) for pair in pairs)
        found = sorted(bins(pairs), key=len)
        assert len(found[-1]) >= 6 and all(len(each) == 1 for each in found[:-1])
        for each in found:
            if len(each) > 1:
                read_together([pairs[n] for n in each])
            else:
                loop.prefill(*pairs[each[0]])
    else:
        for pair in pairs:
            loop.prefill(*pair)
    return rows


@pytest.mark.parametrize("recipe", [*RECIPES, "dynamic_ntk", "quest", "razor", "self_extend"])
def test_logits_and_all_that_is_kept_are_those_of_reading_alone(model: Model, recipe: str) -> None:
    ours, theirs = read(model, recipe, True), read(model, recipe, False)
    require_same(ours, theirs)
    for row in (*ours, *theirs):
        row.end_prefill()
    require_same(ours, theirs)
    # Positions of what follows are each row's own.
    feeding = [list(zip(rows, PROMPTS, [None] * 10, strict=True)) for rows in (ours, theirs)]
    both = [loop.extend([(s, p[:1], t) for s, p, t in rows])[0] for rows in feeding]
    for found, right in zip(*both, strict=True):
        assert torch.allclose(found, right, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_reads_together(family: str) -> None:
    with lengthwise.wrap(tiny_model(family)) as model:
        require_same(read(model, "full", True), read(model, "full", False))


def test_in_double_precision_nothing_leaks() -> None:
    """The card's small check: prompts of 7, 12, 5 and 9 tokens."""
    with lengthwise.wrap(tiny_model("llama").double(), fuse=False) as model:
        pairs = [(Sequence(model.adapted), TEXT[n : n + n]) for n in (7, 12, 5, 9)]
        found = read_together(pairs)
        for (_, text), logits in zip(pairs, found, strict=True):
            assert isinstance(logits, torch.Tensor)
            right = loop.prefill(Sequence(model.adapted), text)
            assert float((logits - right).abs().max()) < 1e-13


def test_another_prompt_beside_it_changes_no_bit(model: Model) -> None:
    def beside(other: int) -> Sequence:
        rows = [Sequence(model.adapted) for _ in range(2)]
        read_together([(rows[0], TEXT[:20]), (rows[1], TEXT[other : other + 20])])
        return rows[0]

    require_same([beside(30)], [beside(90)], exactly=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(8, 64))
def test_bins_hold_every_prompt_once_and_no_more_than_a_forward(
    lengths: list[int], chunk: int
) -> None:
    pairs = [(Sequence(tiny("llama")), TEXT[:length]) for length in lengths]
    found = bins(pairs, chunk)
    assert sorted(n for each in found for n in each) == list(range(len(lengths)))
    assert [each[0] for each in found] == sorted(each[0] for each in found)
    for each in found:
        assert each == sorted(each)
        assert len(each) == 1 or sum(lengths[n] for n in each) <= chunk
    short = sum(length for length in lengths if length <= chunk)
    # At most one bin is half empty or more.
    assert sum(max(lengths[n] for n in each) <= chunk for each in found) <= 2 * short / chunk + 1


def test_what_alone_takes_more_than_one_forward_is_read_alone(model: Model) -> None:
    for recipe, length in (("self_extend(window=16)", 17), ("full", 33)):
        plan = model.plan(recipe)
        assert not packs(Sequence(model.adapted, plan), TEXT[:length], 32)
        assert packs(Sequence(model.adapted, plan), TEXT[: length - 1], 32)


def test_what_wants_more_than_the_last_logits_is_read_alone(model: Model) -> None:
    assert not packs(Sequence(model.adapted, model.plan("sirllm(budget=32)")), TEXT[:8])
    noting = Sequence(model.adapted)
    noting.noted = []
    assert not packs(noting, TEXT[:8])
    assert not packs(Sequence(model.adapted), [])


@pytest.mark.parametrize("recipe", BY_BLOCK)
def test_what_a_failed_forward_would_leave_changed_is_read_alone(model: Model, recipe: str) -> None:
    held = Sequence(model.adapted, model.plan(recipe))
    assert packs(held, TEXT[:9])
    loop.prefill(held, TEXT[:9])
    assert not packs(held, TEXT[9:20])


def test_a_prompt_that_has_ended_is_not_read_on_together(model: Model) -> None:
    held = Sequence(model.adapted)
    loop.prefill(held, TEXT[:9])
    assert packs(held, TEXT[9:20])
    held.end_prefill()
    assert not packs(held, TEXT[9:20])


def test_what_is_read_again_with_other_frequencies_is_read_alone() -> None:
    rope = {
        "rope_type": "longrope", "short_factor": [1.0] * 8, "rope_theta": 1e4,
        "long_factor": [1.0 + 3 * i for i in range(8)], "original_max_position_embeddings": 32,
    }  # fmt: skip
    stock = tiny_model("llama", rope_parameters=rope, max_position_embeddings=32)
    with lengthwise.wrap(stock) as model:
        switch = model.adapted.switch
        assert switch == 32
        held = Sequence(model.adapted)
        loop.prefill(held, TEXT[:9])
        assert packs(held, TEXT[:5])
        assert not packs(held, TEXT[:1] * switch, 4 * switch)
        # One that has read nothing has nothing to read again.
        rows = [Sequence(model.adapted) for _ in range(2)]
        texts = [TEXT[:5], (TEXT * 9)[: switch + 3]]
        assert packs(rows[1], texts[1], 4 * switch)
        read_together(list(zip(rows, texts, strict=True)))
        for row, text in zip(rows, texts, strict=True):
            alone = Sequence(model.adapted)
            loop.prefill(alone, text, 4 * switch)
            require_same([row], [alone])


def test_prompts_whose_beginning_was_read_are_read_on_together(model: Model) -> None:
    def held(recipe: str) -> list[Sequence]:
        rows = [Sequence(model.adapted, model.plan(recipe)) for _ in range(3)]
        for count, row in zip((5, 9, 0), rows, strict=True):
            if count:
                loop.prefill(row, TEXT[:count])
        return rows

    rest = [TEXT[40:47], TEXT[50:70], TEXT[80:110]]
    for recipe in ("full", "streaming(sinks=2, window=32)"):
        ours, theirs = held(recipe), held(recipe)
        read_together(list(zip(ours, rest, strict=True)))
        for row, text in zip(theirs, rest, strict=True):
            loop.prefill(row, text)
        require_same(ours, theirs)


def test_a_batch_reads_in_one_forward_and_says_what_each_says_alone(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwards: list[list[int]] = []
    extend = loop.extend

    def counted(items: Any, *rest: Any, **more: Any) -> Any:
        forwards.append([len(text) for _, text, _ in items])
        return extend(items, *rest, **more)

    told: list[int] = []
    asked = {"max_new_tokens": 6, "stop_ids": [], "seed": 3, "temperature": 0.7}
    recipes = ["full", "snapkv(budget=16, window=8)", "lookup", "sirllm(budget=24)", "kivi"] * 2
    alone = [
        model.generate(prompt, recipe, **asked)
        for prompt, recipe in zip(PROMPTS, recipes, strict=True)
    ]
    monkeypatch.setattr(loop, "extend", counted)
    found = model.generate_batch(PROMPTS, recipes, progress=told.append, **asked)
    assert [row.token_ids for row in found] == [row.token_ids for row in alone]
    assert [row.metrics.kv_bytes for row in found] == [row.metrics.kv_bytes for row in alone]
    assert [row.metrics.prompt_tokens for row in found] == list(LENGTHS)
    together = [length for n, length in enumerate(LENGTHS) if n % 5 != 3]
    assert forwards[0] == together and sorted(map(len, forwards[1:3])) == [1, 1]
    assert sum(told) == sum(LENGTHS) and told[0] == sum(together)


def test_the_first_token_of_a_row_waits_for_its_whole_forward(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that moves by a second whenever something is read or said."""
    now = 0.0
    extend, start = loop.extend, loop.start

    def tick(call: Any) -> Any:
        def ticking(*given: Any, **more: Any) -> Any:
            nonlocal now
            now += 1
            return call(*given, **more)

        return ticking

    monkeypatch.setattr(loop, "extend", tick(extend))
    monkeypatch.setattr(loop, "start", tick(start))
    monkeypatch.setattr("lengthwise.api.batch.time.perf_counter", lambda: now)
    found = model.generate_batch(PROMPTS[:3], max_new_tokens=1, stop_ids=[])
    assert [row.metrics.ttft_s for row in found] == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("recipe", ["full", *BY_BLOCK])
def test_memory_that_runs_out_for_all_does_not_end_those_that_fit(
    model: Model, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    wanted = model.generate_batch(PROMPTS, recipe, max_new_tokens=4, stop_ids=[])
    forward = model.adapted.forward

    def small(ids: Any, positions: Any, attention: Any, *rest: Any, **more: Any) -> Any:
        def attended(layer: int, *qkv: Any) -> Any:
            out = attention(layer, *qkv)
            if len(ids) >= 48 and layer == 1:
                raise MemoryError
            return out

        return forward(ids, positions, attended, *rest, **more)

    monkeypatch.setattr(model.adapted, "forward", small)
    found = model.generate_batch(PROMPTS, recipe, max_new_tokens=4, stop_ids=[])
    for length, row, right in zip(LENGTHS, found, wanted, strict=True):
        assert isinstance(row.failed, OutOfMemory) == (length == 48)
        assert row.token_ids == ([] if length == 48 else right.token_ids)


def test_a_prompt_that_cannot_be_kept_ends_alone(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = model.generate_batch(PROMPTS, max_new_tokens=4, stop_ids=[])
    commit = Sequence.commit

    def broken(sequence: Sequence, *given: Any) -> None:
        if sequence.prompt_length is None and len(given[1]) == 30:
            raise MemoryError
        commit(sequence, *given)

    monkeypatch.setattr(Sequence, "commit", broken)
    found = model.generate_batch(PROMPTS, max_new_tokens=4, stop_ids=[])
    for length, row, right in zip(LENGTHS, found, wanted, strict=True):
        assert isinstance(row.failed, OutOfMemory) == (length == 30)
        assert row.token_ids == ([] if length == 30 else right.token_ids)


def test_an_error_that_is_none_of_memory_is_raised_and_leaves_the_rows_as_they_were(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Sequence(model.adapted) for _ in range(2)]
    pairs = [(row, TEXT[:9]) for row in rows]

    def broken(*given: Any, **more: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(model.adapted, "forward", broken)
        with pytest.raises(ZeroDivisionError):
            model.generate_batch([TEXT[:9], TEXT[:5]], max_new_tokens=2, stop_ids=[])
        with pytest.raises(ZeroDivisionError):
            read_together(pairs)
    assert [len(row) for row in rows] == [0, 0]
    read_together(pairs)
    alone = Sequence(model.adapted)
    loop.prefill(alone, TEXT[:9])
    require_same(rows, [alone, alone])


def test_a_prompt_beyond_the_positions_of_a_model_is_refused() -> None:
    with lengthwise.wrap(tiny_model("gpt2", max_position_embeddings=64, n_positions=64)) as model:
        rows = [Sequence(model.adapted) for _ in range(2)]
        with pytest.raises(Refused):
            read_together([(rows[0], TEXT[:9]), (rows[1], TEXT[:80])])


def test_somebody_may_break_off_behind_a_bin(model: Model) -> None:
    rows = [Row(prompt, Sampling()) for prompt in PROMPTS]
    read: list[int] = []
    asked = Asked(
        model.plan(), 4, [], chunk=48, progress=read.append, cancelled=lambda: len(read) == 2
    )
    batch = Batch(model.adapted, None, rows, asked)
    with pytest.raises(Cancelled):
        batch.read()
    assert len(read) == 2 and sum(read) < sum(LENGTHS)


@pytest.mark.parametrize(("apart", "count"), [(1.0, 1), (9.0, 1), (0.1, 10)])
def test_the_way_that_was_timed_to_be_faster_serves(
    model: Model, monkeypatch: pytest.MonkeyPatch, apart: float, count: int
) -> None:
    timed = {spot: {"together": 1.0, "apart": apart} for spot in packed_prefill.SPOTS}
    monkeypatch.setattr(packed_prefill, "_timed", lambda model: timed)
    pairs = list(zip(sequences(model, "full"), PROMPTS, strict=True))
    assert len(bins(pairs)) == count


def test_both_ways_are_timed_once_and_kept(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(packed_prefill, "_TIMED", {})
    assert packed_prefill._timed(model.adapted) == {}  # a small model is not timed
    monkeypatch.setattr(packed_prefill, "SMALL", 1)
    assert packed_prefill._timed(model.adapted) == {}  # nor is anything where kernels are fixed
    monkeypatch.delenv(VARIABLE)
    found = packed_prefill._timed(model.adapted)
    assert set(found) == set(packed_prefill.SPOTS)
    assert all(set(each) == {"together", "apart"} for each in found.values())
    monkeypatch.setattr(packed_prefill, "_TIMED", {})
    assert packed_prefill._timed(model.adapted) == found
    assert len(list(tmp_path.glob("machine/*.json"))) == 1


def test_waste_is_the_share_of_padding() -> None:
    assert waste([4, 4]) == 0 and math.isclose(waste([1, 1, 1, 5]), 0.6)


def test_every_method_that_keeps_a_cache_reads_together(model: Model) -> None:
    """Whatever is registered: rows that `packs` lets through are what they are alone."""
    tried = 0
    for name, cls in methods().items():
        if cls.question in ("positions", "selection", "retention", "codecs"):
            try:
                plan = model.plan(name)
            except Refused:  # It wants something that is trained or spelt first.
                plan = model.plan([cls.example()])
            row, alone = (Sequence(model.adapted, plan) for _ in range(2))
            if packs(row, TEXT[:40]):
                read_together([(Sequence(model.adapted), TEXT[:9]), (row, TEXT[:40])])
                loop.prefill(alone, TEXT[:40])
                require_same([row], [alone])
                tried += 1
    assert tried > 12
