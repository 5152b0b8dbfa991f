"""Chosen keys: copied or read where they lie, they give the same; and who reads them so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.attention.attend import attend
from lengthwise.engine.attention.scores import attend_plain, lse_at
from lengthwise.engine.kernels import attempts, choice, compiled, gather
from lengthwise.engine.kernels.part import Chosen, Part
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.methods.selection.hip import HiP
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.methods.selection.quest import Quest
from lengthwise.methods.selection.squeezed import Squeezed
from lengthwise.methods.selection.tidal import Tidal
from lengthwise.methods.selection.token_select import TokenSelect
from lengthwise.models.adapt import adapt
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens

HEADS, KEY_HEADS, SIZE = 6, 2, 16
interpreted = pytest.mark.skipif(
    not (compiled.INTERPRETED and compiled.installed()),
    reason="runs where Triton is interpreted: test_interpreted",
)


def chosen(kind: str, queries: int, keys: int, count: int, seed: int, **more: bool) -> Chosen:
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    rows = {"shared": (), "one row": (1,), "by key head": (KEY_HEADS,), "by head": (HEADS,)}[kind]
    ids = torch.rand(*rows, keys, generator=generator).argsort(-1)[..., :count].sort(-1).values
    key, value = normal(2, KEY_HEADS, keys + 9, SIZE)[:, :, :keys]
    mask = torch.rand(queries, count, generator=generator) > 0.4 if more["masked"] else None
    if mask is not None:
        mask[:, 0] = True
    weight = normal(KEY_HEADS, keys + 5)[:, :keys] if more["weighted"] else None
    return Chosen(normal(HEADS, queries, SIZE), key, value, ids, mask, weight)


def plain_of(asked: Chosen) -> Part:
    """Every key, those that were not chosen masked: another way to say the same."""
    heads, keys = len(asked.query), asked.key.shape[1]
    ids = asked.ids.expand(len(asked.key), -1) if asked.ids.dim() == 1 else asked.ids
    ids = ids.repeat_interleave(heads // len(ids), 0)[:, None].expand(-1, asked.query.shape[1], -1)
    seen = torch.ones_like(ids, dtype=torch.bool) if asked.mask is None else asked.mask
    mask = torch.zeros(*ids.shape[:2], keys, dtype=torch.bool)
    mask.scatter_(2, ids, seen.expand(ids.shape))
    return Part(asked.query, asked.key, asked.value, mask, log_weight=asked.log_weight)


CASES = {
    "kind": st.sampled_from(["shared", "one row", "by key head", "by head"]),
    "queries": st.sampled_from([1, 3, 20]), "keys": st.integers(30, 400),
    "share": st.sampled_from([0.1, 0.9]), "masked": st.booleans(), "weighted": st.booleans(),
    "seed": st.integers(0, 1000),
}  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(**CASES)
def test_chosen_keys_copied_are_all_keys_under_a_mask(
    kind, queries, keys, share, masked, weighted, seed
) -> None:
    asked = chosen(kind, queries, keys, int(share * keys), seed, masked=masked, weighted=weighted)
    out, lse = attend_plain([asked.part()], 0.3, 3.0)
    right, total = attend_plain([plain_of(asked)], 0.3, 3.0)
    assert torch.allclose(out, right, atol=2e-5) and torch.allclose(lse, total, atol=2e-5)


@interpreted
@settings(max_examples=20, deadline=None)
@given(**CASES, softcap=st.sampled_from([None, 3.0]))
def test_triton_reads_chosen_keys_where_they_lie(
    kind, queries, keys, share, masked, weighted, seed, softcap
) -> None:
    asked = chosen(kind, queries, keys, int(share * keys), seed, masked=masked, weighted=weighted)
    assert gather.serves(asked)
    out, lse = gather.run(asked, 0.3, softcap)
    right, total = attend_plain([asked.part()], 0.3, softcap)
    assert lse is not None
    assert torch.allclose(out, right, atol=2e-5) and torch.allclose(lse, total, atol=2e-5)


@interpreted
def test_triton_reads_for_each_head_what_its_mask_shows() -> None:
    """Heads of a key head see unequal numbers of what is read, and one sees none of it."""
    asked = chosen("by key head", 1, 50, 20, 1, masked=False, weighted=False)
    mask = torch.rand(HEADS, 1, 20, generator=torch.Generator().manual_seed(2)) > 0.5
    mask[1] = False
    asked = replace(asked, mask=mask)
    near = Part(asked.query, *torch.randn(2, KEY_HEADS, 8, SIZE))
    out, _ = attend([asked, near], 0.3)
    assert torch.allclose(out, attend_plain([asked.part(), near], 0.3)[0], atol=2e-5)
    assert torch.allclose(out, attend_plain([plain_of(asked), near], 0.3)[0], atol=2e-5)


@interpreted
@pytest.mark.parametrize("sinks", [False, True])
def test_triton_joins_chosen_keys_with_other_parts(sinks: bool) -> None:
    asked = chosen("by head", 3, 50, 20, 1, masked=False, weighted=False)
    near = Part(asked.query, *torch.randn(2, KEY_HEADS, 8, SIZE), causal=True)
    sink = torch.randn(HEADS) if sinks else None
    out, lse = attend([asked, near], 0.3, None, sink, need_lse=True)
    right, total = attend_plain([asked.part(), near], 0.3, None, sink)
    assert lse is not None
    assert torch.allclose(out, right, atol=2e-5) and torch.allclose(lse, total, atol=2e-5)
    some = lse_at([asked, Part(asked.query, near.key, near.value)], slice(0, 3, 2), 0.3)
    alone = attend_plain([asked.part(), Part(asked.query, near.key, near.value)], 0.3)[1]
    assert torch.allclose(some, alone[:, ::2], atol=2e-5)


def test_where_reading_in_place_fails_keys_are_copied(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*given: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(attempts, "_FAILED", set())
    monkeypatch.setattr("lengthwise._utils.saying._SAID", set())
    monkeypatch.setattr(gather, "run", fails)
    monkeypatch.setattr(gather, "can", lambda asked: True)
    asked = chosen("by head", 3, 50, 20, 1, masked=True, weighted=True)
    assert gather.serves(asked)
    for _ in range(2):
        out, _ = attend([asked], 0.3)
        assert torch.allclose(out, attend_plain([asked.part()], 0.3)[0], atol=2e-5)
    assert capsys.readouterr().err.count("kernel gather fails here") == 1
    assert not gather.serves(asked), "from then on they are copied, and the copies counted"
    with choice.using("chosen=copy"):
        monkeypatch.setattr(attempts, "_FAILED", set())
        assert not gather.serves(asked)


SELECTIONS = {
    "quest": Quest(budget=64, window=16, page=4, dense=0),
    "hip": HiP(budget=64, window=16, init=4, block=2, dense=0, query_block=8),
    "infllm": InfLLM(budget=80, window=16, init=4, block=8, query_block=8, representatives=2),
    "squeezed": Squeezed(removed=0.6, clusters=0.25, coarse=0.1, window=16),
    "tidal": Tidal(budget=64, window=16, dense=0, reselect=0),
    "token_select": TokenSelect(budget=64, window=16, init=4, query_block=8),
}


@interpreted
@pytest.mark.parametrize("name", SELECTIONS)
def test_triton_serves_a_selection_without_copies(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapt(tiny_model("llama", max_position_embeddings=2048))
    text, found, served = tokens(106), [], []
    run = gather.run
    monkeypatch.setattr(gather, "run", lambda *given: served.append(1) or run(*given))
    for way in ("copy", "gather"):
        sequence = Sequence(model, resolve([SELECTIONS[name]], model))
        with choice.using(f"chosen={way}"):
            prefill(sequence, text[:102])
            sequence.end_prefill()
            logits = teacher_force(sequence, text[102:])
        found.append((logits, sequence.peak_bytes - sequence.nbytes()))
        assert bool(served) == (way == "gather" and name != "token_select")
    (copied, there), (read, here) = found
    assert torch.allclose(copied, read, atol=1e-4)
    # What token_select reads is turned to other positions first, which is a copy.
    assert here < there or name == "token_select"
