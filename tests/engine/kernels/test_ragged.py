"""Heads that keep unequal numbers of keys: together or in turn, they give the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.attention.scores import attend_plain
from lengthwise.engine.kernels import attempts, choice, compiled, ragged
from lengthwise.engine.kernels.part import Part
from lengthwise.engine.kernels.ragged import Piece
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens

HEADS, KEY_HEADS, SIZE = 9, 3, 16
interpreted = pytest.mark.skipif(
    not (compiled.INTERPRETED and compiled.installed()),
    reason="runs where Triton is interpreted: test_interpreted",
)


def pieces(long: int, short: int, seed: int) -> list[Piece]:
    """As razor has them: the new token, a long group of one head, a short one and its mean."""
    generator = torch.Generator().manual_seed(seed)

    def piece(heads: list[int], keys: int, weighted: bool = False) -> Piece:
        room = torch.randn(2, len(heads), keys + 8, SIZE, generator=generator)
        weight = torch.rand(len(heads), keys, generator=generator) * 5 if weighted else None
        return Piece(heads, *room[:, :, :keys], weight)

    return [piece([0, 1, 2], 1), piece([1], long), piece([0, 2], short), piece([0, 2], 5, True)]


def in_turn(query: torch.Tensor, given: list[Piece], cap: float | None) -> list[torch.Tensor]:
    """Each key head alone, over its own row of every piece that has it."""
    outs, lses = [], []
    for head, own in enumerate(query.unflatten(0, (KEY_HEADS, -1))):
        parts = []
        for piece in given:
            if head in piece.heads:
                row = slice(piece.heads.index(head), piece.heads.index(head) + 1)
                weight = None if piece.log_weight is None else piece.log_weight[row]
                parts.append(Part(own, piece.key[row], piece.value[row], log_weight=weight))
        out, lse = attend_plain(parts, 0.3, cap)
        outs.append(out)
        lses.append(lse)
    return [torch.cat(outs), torch.cat(lses)]


@interpreted
@settings(max_examples=20, deadline=None)
@given(
    queries=st.sampled_from([1, 5]), long=st.integers(20, 600), short=st.integers(1, 200),
    softcap=st.sampled_from([None, 3.0]), seed=st.integers(0, 1000),
)  # fmt: skip
def test_triton_attends_to_all_heads_at_once(queries, long, short, softcap, seed) -> None:
    given_pieces = pieces(long, short, seed)
    query = torch.randn(HEADS, queries, SIZE, generator=torch.Generator().manual_seed(seed))
    assert ragged.serves(query, given_pieces)
    out, lse = ragged.run(query, given_pieces, 0.3, softcap)
    right, total = in_turn(query, given_pieces, softcap)
    assert lse is not None
    assert torch.allclose(out, right, atol=2e-5) and torch.allclose(lse, total, atol=2e-5)


def wide(family: str) -> AdaptedModel:
    """A tiny model of more key heads than one, some of which keep everything."""
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16}
    return adapt(tiny_model(family, max_position_embeddings=2048, **heads))


@pytest.fixture(autouse=True)
def some_heads_look_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of looking for them: the second and fourth key head of every layer."""
    scores = [[0.0, 1.0, 0.1, 0.9]] * 8
    monkeypatch.setattr(
        "lengthwise.methods.retention.razor.retrieval_heads",
        lambda model: {"echo": scores, "induction": scores},
    )


def razor(way: str, model: AdaptedModel) -> torch.Tensor:
    text = tokens(86)
    plan = resolve("razor(heads=0.5, buffer=24, share=0.0)", model)
    sequence = Sequence(model, plan)
    with choice.using(f"groups={way}"):
        prefill(sequence, text[:80])
        sequence.end_prefill()
        logits = teacher_force(sequence, text[80:])
    assert any(len(layer.groups) > 1 for layer in sequence.layers)
    return logits


@interpreted
@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_triton_serves_razor(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wide(family)
    served, run = [], ragged.run
    monkeypatch.setattr(ragged, "run", lambda *given: served.append(1) or run(*given))
    right = razor("turns", model)
    assert not served
    assert torch.allclose(razor("ragged", model), right, atol=1e-4)
    assert served


def test_where_that_fails_groups_take_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*given: object) -> None:
        raise RuntimeError("no compiler")

    model = wide("llama")
    right = razor("turns", model)
    monkeypatch.setattr(attempts, "_FAILED", set())
    monkeypatch.setattr("lengthwise._utils.saying._SAID", set())
    monkeypatch.setattr(ragged, "can", lambda *given: True)
    monkeypatch.setattr(ragged, "run", fails)
    assert torch.allclose(razor("ragged", model), right, atol=1e-4)
    assert "kernel ragged fails here" in capsys.readouterr().err
