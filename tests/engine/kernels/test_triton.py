"""The kernels in Triton, interpreted: trees, spans of keys, rooms, and what becomes of failures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.attention.attend import tree_softmax
from lengthwise.engine.kernels import attempts, compiled, tree
from lengthwise.engine.kernels.compiled import Grid
from lengthwise.engine.kernels.part import Asked, Part
from lengthwise.engine.kernels.plain import plain

pytestmark = pytest.mark.skipif(
    not (compiled.INTERPRETED and compiled.installed()),
    reason="runs where Triton is interpreted: test_interpreted",
)


def drawn(
    heads: int, key_heads: int, queries: int, keys: int, size: int, seed: int, room: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, and key and value in rooms larger than they are."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(heads, queries, size, generator=generator)
    key, value = torch.randn(2, key_heads, keys + room, size, generator=generator)[:, :, :keys]
    return query, key, value


@settings(max_examples=12, deadline=None)
@given(
    heads=st.sampled_from([(9, 3), (4, 4), (2, 1)]),
    queries=st.sampled_from([1, 5, 40]),
    keys=st.integers(40, 700),
    size=st.sampled_from([8, 24, 64]),
    processors=st.sampled_from([1, 40]),
    seed=st.integers(0, 1000),
)
def test_triton_splits_keys_into_spans_and_copies_none(
    heads, queries, keys, size, processors, seed
) -> None:
    query, key, value = drawn(*heads, queries, keys, size, seed, room=33)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "processors", lambda device: processors)
        out, lse = tree.attend_spans(query, key, value, 0.3, causal=True)
    right, total = plain(Asked([Part(query, key, value, causal=True)], 0.3, None, None, True))
    assert total is not None
    assert torch.allclose(out, right, atol=2e-5) and torch.allclose(lse, total, atol=2e-5)


def test_triton_has_more_spans_where_there_are_few_heads() -> None:
    few, many = (Grid.of(3, 32_768, heads, torch.device("cpu")) for heads in (1, 8))
    assert few.programs[1] > many.programs[1] == 1
    for grid in (few, many):
        spans = grid.programs[1]
        assert grid.span % compiled.STEP == 0 and (spans - 1) * grid.span < 32_768
        assert spans * grid.span >= 32_768


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("nodes", [2, 9, 40])
def test_triton_attends_to_a_tree(
    nodes: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, key, value = (x.to(dtype) for x in drawn(4, 2, nodes, 60 + nodes, 16, nodes, room=9))
    visible = torch.rand(nodes, nodes).tril() + torch.eye(nodes) > 0.5
    mask = torch.cat([torch.ones(nodes, 60, dtype=torch.bool), visible], 1)
    right, _ = plain(Asked([Part(query.float(), key.float(), value.float(), mask)], 0.3))
    served = []
    run = tree.attend_spans
    monkeypatch.setattr(
        tree, "attend_spans", lambda *given, **named: served.append(1) or run(*given, **named)
    )
    out = tree_softmax(query.reshape(2, -1, 16), key, value, 0.3, ~visible)
    assert served
    assert torch.allclose(out.reshape(4, nodes, 16).float(), right, atol=2e-2)


def test_triton_gives_nothing_to_a_row_that_sees_nothing() -> None:
    query, key, value = drawn(2, 1, 3, 300, 16, 0)
    mask = torch.ones(3, 300, dtype=torch.bool)
    mask[1] = False
    out, lse = tree.attend_spans(query, key, value, 0.3, mask=mask)
    assert not out[:, 1].any() and bool(lse[:, 1].isneginf().all())
    assert bool(out[:, 0].any()) and bool(lse[:, 0].isfinite().all())


def test_a_tree_that_triton_fails_on_goes_by_products_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*given: object, **named: object) -> None:
        raise RuntimeError("no compiler here\nand more of it")

    query, key, value = drawn(4, 2, 3, 20, 16, 0)
    hidden = ~torch.ones(3, 3, dtype=torch.bool).tril()
    right = tree_softmax(query.reshape(2, -1, 16), key, value, 0.3, hidden)
    monkeypatch.setattr(attempts, "_FAILED", set())
    monkeypatch.setattr(tree, "attend_spans", fails)
    for _ in range(3):
        out = tree_softmax(query.reshape(2, -1, 16), key, value, 0.3, hidden)
        assert torch.allclose(out, right, atol=2e-5)
    said = capsys.readouterr().err
    assert said.count("kernel triton fails here") == 1 and "no compiler here" in said
    assert "and more of it" not in said
