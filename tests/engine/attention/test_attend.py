"""The primitive equals its plain twin, whatever the parts are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.attention.attend import (
    Part,
    Tempered,
    attend,
    biased,
    joint_softmax,
    single_softmax,
    tree_softmax,
)
from lengthwise.engine.attention.scores import (
    attend_plain,
    column_maxima,
    column_sums,
    head_sums,
    logits,
    lse_at,
)
from lengthwise.engine.kernels import part as part_module
from lengthwise.engine.kernels.part import Biased, repeat_heads

HEADS, KEY_HEADS, DIM = 4, 2, 16


def _part(kind: str, queries: int, keys: int, generator: torch.Generator) -> Part:
    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    query = normal(HEADS, queries, DIM)
    if kind == "causal":
        return Part(
            query, normal(KEY_HEADS, queries, DIM), normal(KEY_HEADS, queries, DIM), None, True
        )
    key_heads = HEADS if kind == "own keys" else KEY_HEADS
    key, value = normal(key_heads, keys, DIM), normal(key_heads, keys, DIM)
    if kind == "masked":
        return Part(query, key, value, torch.rand(queries, keys, generator=generator) > 0.5)
    if kind == "masked by head":
        return Part(query, key, value, torch.rand(HEADS, queries, keys, generator=generator) > 0.5)
    if kind == "weighted":
        return Part(
            query, key, value, log_weight=torch.rand(key_heads, keys, generator=generator) * 3
        )
    return Part(query, key, value)


KINDS = ("all", "causal", "masked", "masked by head", "weighted", "own keys")


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    queries=st.sampled_from([1, 2, 7, 33]),
    keys=st.integers(1, 40),
    softcap=st.sampled_from([None, 3.0]),
    sinks=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_attend_equals_one_softmax_over_all_parts(
    kinds, queries, keys, softcap, sinks, seed
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # One part that everybody sees: a softmax over nothing is not defined.
    parts = [_part(kind, queries, keys, generator) for kind in ("all", *kinds)]
    sink = torch.randn(HEADS, generator=generator) if sinks else None
    out, lse = attend(parts, 0.3, softcap, sink, need_lse=True)
    plain, plain_lse = attend_plain(parts, 0.3, softcap, sink)
    assert torch.allclose(out, plain, atol=2e-5)
    assert torch.allclose(lse, plain_lse, atol=2e-5)


def test_a_weight_of_log_n_counts_for_n_copies() -> None:
    generator = torch.Generator().manual_seed(0)
    many = _part("all", 3, 1, generator)
    copies = Part(many.query, many.key.expand(-1, 5, -1), many.value.expand(-1, 5, -1))
    other = _part("all", 3, 6, generator)
    other = Part(many.query, other.key, other.value)
    one = Part(many.query, many.key, many.value, log_weight=torch.full((KEY_HEADS, 1), 5.0).log())
    assert torch.allclose(attend([copies, other], 0.3)[0], attend([one, other], 0.3)[0], atol=1e-6)


def test_column_sums_are_the_probabilities_each_key_receives() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [_part("all", 9, 20, generator), _part("causal", 9, 0, generator)]
    _, lse = attend(parts, 0.3, need_lse=True)
    whole = torch.cat([logits(part, 0.3) for part in parts], -1)
    wanted = torch.softmax(whole, -1).sum(1)
    sums = torch.cat([column_sums(part, lse, 0.3) for part in parts], 1)
    assert torch.allclose(sums, wanted, atol=1e-5)


@pytest.mark.parametrize("block", [None, 500])
@pytest.mark.parametrize("sink", [False, True])
def test_column_maxima_are_the_largest_probabilities_of_one_softmax(
    block: int | None, sink: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if block is not None:
        monkeypatch.setattr("lengthwise.engine.attention.scores.SCORE_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    parts = [_part(kind, 9, 20, generator) for kind in ("all", "masked", "causal")]
    sinks = torch.randn(HEADS, generator=generator) if sink else None
    whole = [logits(part, 0.3, 4.0) for part in parts]
    columns = whole if sinks is None else [*whole, sinks[:, None, None].expand(-1, 9, 1)]
    exact = torch.softmax(torch.cat(columns, -1), -1).split([20, 20, 9, *([1] if sink else [])], -1)
    for wanted in range(3):
        found = column_maxima(parts, wanted, 0.3, 4.0, sinks)
        assert torch.allclose(found, exact[wanted].amax(1), atol=1e-6)


def _written_out(part: Part, scaling: float, softcap: float | None = None) -> torch.Tensor:
    """Logits with a copy of its key head for each query head, and the mask of all queries."""
    scores = part.query @ repeat_heads(part.key, HEADS).mT * scaling
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    if part.log_weight is not None:
        scores = scores + repeat_heads(part.log_weight, HEADS)[:, None]
    queries, keys = scores.shape[1:]
    mask = torch.ones(queries, keys).tril(keys - queries) > 0 if part.causal else part.mask
    return scores if mask is None else scores.masked_fill(~mask, -torch.inf)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_each_query_head_with_its_key_head(
    kind: str, softcap: float | None
) -> None:
    part = _part(kind, 9, 20, torch.Generator().manual_seed(0))
    right = _written_out(part, 0.3, softcap)
    assert torch.allclose(logits(part, 0.3, softcap), right, atol=1e-5)
    none = Part(part.query[:, :0], part.key, part.value)
    assert logits(none, 0.3).shape == (HEADS, 0, part.key.shape[1])


def _bias(distance: torch.Tensor) -> torch.Tensor:
    return -distance * torch.tensor([0.0, 0.1, 0.5, 2.0])[:, None, None]


@pytest.mark.parametrize("block", [1 << 24, HEADS * 29 * 4])
@pytest.mark.parametrize("kind", ["all", "causal", "masked", "own keys"])
def test_a_bias_of_distance_is_added_to_the_logits(
    kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.engine.attention.attend.SCORE_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    part = _part(kind, 9, 29, generator)
    if kind == "causal":
        more = _part("all", 9, 29, generator)
        part = Part(part.query, more.key, more.value, None, True)
    index, keys = torch.arange(20, 29), torch.arange(29)
    found, lse = biased(Biased(part, index, keys, _bias), 0.3)
    distance = (index[:, None] - keys).clamp_min(0)
    scores = _written_out(part, 0.3) + _bias(distance)
    right = scores.softmax(-1) @ repeat_heads(part.value, HEADS)
    assert torch.allclose(found, right, atol=1e-5)
    assert lse is not None and torch.allclose(lse, scores.logsumexp(-1), atol=1e-5)


def test_scores_in_blocks_copy_no_keys_and_make_the_mask_of_a_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What every block does over again must not grow with the prompt."""
    rows, copied = [], []
    lower, repeat = part_module.lower, part_module.repeat_heads

    def noting(part: Part, some: slice = slice(None)) -> torch.Tensor:
        mask = lower(part, some)
        rows.append(len(mask))
        return mask

    for name in ("kernels.plain", "attention.attend"):
        monkeypatch.setattr(f"lengthwise.engine.{name}.repeat_heads",
                            lambda x, heads: copied.append(x) or repeat(x, heads),
                            raising=False)  # fmt: skip
    monkeypatch.setattr(part_module, "lower", noting)
    for name in ("attend", "scores"):
        block = HEADS * 64 * 3
        monkeypatch.setattr(f"lengthwise.engine.attention.{name}.SCORE_BLOCK", block)
    part = _part("causal", 64, 0, torch.Generator().manual_seed(0))
    right = _written_out(part, 0.3).softmax(-1)
    _, lse = attend([part], 0.3, need_lse=True)
    assert lse is not None
    rows.clear()
    index = torch.arange(64)
    for found, expected in (
        (column_sums(part, lse, 0.3), right.sum(1)),
        (column_maxima([part], 0, 0.3), right.amax(1)),
        (head_sums([part], 0.3), right.sum(0)),
        (biased(Biased(part, index, index, lambda d: torch.zeros(1, *d.shape)), 0.3)[0],
         right @ repeat(part.value, HEADS)),
    ):  # fmt: skip
        assert torch.allclose(found, expected, atol=1e-5)
    assert rows == ([3] * 21 + [1]) * 4
    assert not copied


@pytest.mark.parametrize("queries", [1, 3])
def test_single_softmax_equals_attend(queries: int) -> None:
    part = _part("all", queries, 50, torch.Generator().manual_seed(0))
    folded = part.query.reshape(KEY_HEADS, -1, DIM)
    out = single_softmax(folded, part.key, part.value, 0.3).reshape(HEADS, queries, DIM)
    assert torch.allclose(out, attend_plain([part], 0.3)[0], atol=1e-5)


def _cast(part: Part, dtype: torch.dtype) -> Part:
    query, key, value = (x.to(dtype) for x in (part.query, part.key, part.value))
    return Part(query, key, value, part.mask, part.causal, part.log_weight)


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    queries=st.sampled_from([1, 2, 7, 33, 300]),
    keys=st.integers(1, 40),
    softcap=st.sampled_from([None, 3.0]),
    sinks=st.booleans(),
    lse=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_attention_by_rows_in_bfloat16_equals_the_twin_in_float32(
    kinds, queries, keys, softcap, sinks, lse, seed
) -> None:
    generator = torch.Generator().manual_seed(seed)
    exact = [_part(kind, queries, keys, generator) for kind in ("all", *kinds)]
    rounded = [
        Part(
            p.query.bfloat16(), p.key.bfloat16(), p.value.bfloat16(), p.mask, p.causal, p.log_weight
        )
        for p in exact
    ]
    exact = [
        Part(p.query.float(), p.key.float(), p.value.float(), p.mask, p.causal, p.log_weight)
        for p in rounded
    ]
    sink = torch.randn(HEADS, generator=generator) if sinks else None
    out, found = attend(rounded, 0.3, softcap, sink, need_lse=lse)
    plain, plain_lse = attend_plain(exact, 0.3, softcap, sink)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), plain, atol=0.05)
    if lse:
        assert torch.allclose(found, plain_lse, atol=0.05)


def test_a_causal_part_may_have_keys_before_its_queries() -> None:
    generator = torch.Generator().manual_seed(0)
    past, new = _part("all", 6, 11, generator), _part("causal", 6, 0, generator)
    new = Part(past.query, new.key, new.value, None, True)
    key, value = torch.cat([past.key, new.key], 1), torch.cat([past.value, new.value], 1)
    joined = Part(past.query, key, value, None, True)
    for attention in (attend, attend_plain):
        whole, apart = attention([joined], 0.3)[0], attention([past, new], 0.3)[0]
        assert torch.allclose(whole, apart, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_joint_softmax_equals_the_plain_twin_over_its_parts(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(4)
    drawn = [
        torch.randn(heads, count, DIM, generator=generator).to(dtype)
        for keys in (7, 300)
        for heads, count in ((HEADS, 1), (KEY_HEADS, keys), (KEY_HEADS, keys))
    ]
    parts = [Part(*drawn[:3]), Part(*drawn[3:])]
    expected, _ = attend_plain(parts, 0.3)
    folded = [(p.query.reshape(KEY_HEADS, -1, DIM), p.key, p.value) for p in parts]
    found = joint_softmax(folded, 0.3).reshape(HEADS, 1, DIM)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("nodes", [2, 9, 40])
def test_tree_softmax_equals_the_plain_twin_under_its_mask(dtype: torch.dtype, nodes: int) -> None:
    generator = torch.Generator().manual_seed(nodes)
    query, key, value = (
        torch.randn(heads, count, DIM, generator=generator).to(dtype)
        for heads, count in ((HEADS, nodes), (KEY_HEADS, 60 + nodes), (KEY_HEADS, 60 + nodes))
    )
    visible = torch.rand(nodes, nodes, generator=generator).tril() + torch.eye(nodes) > 0.5
    mask = torch.cat([torch.ones(nodes, 60, dtype=torch.bool), visible], 1)
    expected, _ = attend_plain([Part(query, key, value, mask)], 0.3)
    folded = query.reshape(KEY_HEADS, -1, DIM)
    found = tree_softmax(folded, key, value, 0.3, ~visible).reshape(HEADS, nodes, DIM)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@settings(max_examples=60, deadline=None)
@given(
    inner=st.lists(st.sampled_from(("all", "weighted")), min_size=1, max_size=3),
    others=st.lists(st.sampled_from(KINDS), max_size=2),
    queries=st.sampled_from([1, 7, 33]),
    temperature=st.sampled_from([1.0, 0.5, 2.0]),
    lse_scale=st.sampled_from([1.0, 0.81, 0.0, 1.5]),
    softcap=st.sampled_from([None, 3.0]),
    sinks=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_parts_with_a_temperature_are_keys_with_other_logits_in_one_softmax(
    inner, others, queries, temperature, lse_scale, softcap, sinks, seed
) -> None:
    generator = torch.Generator().manual_seed(seed)
    flat = [_part(kind, queries, 11, generator) for kind in inner]
    parts = [_part(kind, queries, 9, generator) for kind in ("all", *others)]
    learned = torch.randn(HEADS, generator=generator) if sinks else None
    asked = [*parts, Tempered(flat, temperature, lse_scale)]
    out, lse = attend(asked, 0.3, softcap, learned, need_lse=True)
    right, exact = attend_plain(asked, 0.3, softcap, learned)
    torch.testing.assert_close(out, right, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(lse, exact, atol=2e-5, rtol=1e-4)
    rows = slice(0, None, 3)
    torch.testing.assert_close(lse_at(asked, rows, 0.3, softcap, learned), exact[:, rows],
                               atol=2e-5, rtol=1e-4)  # fmt: skip


def test_a_temperature_of_one_is_one_softmax_and_another_is_not() -> None:
    generator = torch.Generator().manual_seed(5)
    parts = [_part("all", 3, 12, generator) for _ in range(2)]
    whole = attend(parts, 0.3)[0]

    def off(temperature: float, lse_scale: float) -> float:
        found = attend([parts[0], Tempered(parts[1:], temperature, lse_scale)], 0.3)[0]
        return float((found - whole).abs().max())

    assert off(1.0, 1.0) < 1e-6
    assert off(0.9, 1.0) > 1e-3 and off(1.0, 0.9) > 1e-3


def test_the_scaled_lse_is_that_of_the_logits_as_they_are() -> None:
    """By hand: two keys apart with logits 2 and 1, one other with logit 0, T = 0.5, S T = 0.4."""
    query = torch.ones(1, 1, 1)
    apart = Part(query, torch.tensor([[[2.0], [1.0]]]), torch.tensor([[[1.0], [3.0]]]))
    other = Part(query, torch.zeros(1, 1, 1), torch.tensor([[[10.0]]]))
    out, _ = attend([other, Tempered([apart], 0.5, 0.4)], 1.0)
    four, two = torch.tensor([4.0, 2.0]).exp()
    value, weight = (four + 3 * two) / (four + two), (four + two).log().mul(0.4).exp()
    assert float(out) == pytest.approx(float((weight * value + 10) / (weight + 1)), abs=1e-5)
