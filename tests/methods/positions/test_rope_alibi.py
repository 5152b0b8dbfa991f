"""The harmonic bias against its equations, in every way to feed it, and what it goes with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lengthwise
from lengthwise.engine.attention.attend import attend
from lengthwise.engine.kernels.part import Biased, Part
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError
from lengthwise.methods.positions.rope_alibi import HarmonicBias, harmonic
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens

TEXT = tokens(70)


def series(count: int) -> list[float]:
    return [sum(1 / r for r in range(1, n + 1)) for n in range(count)]


def twin(model: AdaptedModel, slope: float, text: list[int]) -> Tensor:
    """One stock forward with the logits written out."""
    table = torch.tensor(series(len(text)))
    index = torch.arange(len(text))
    distance = index[:, None] - index[None]

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts, rope = model.layers[layer], model.rope
        assert facts.layout is not None and rope is not None
        angles = rope.angles(facts.layout, facts.rotary_type, index, None, 0)
        query, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        each = facts.num_heads // facts.num_kv_heads
        key, value = (x.repeat_interleave(each, 0) for x in (key, value))
        slopes = torch.tensor([slope * 2 ** (-8 * h / facts.num_heads)
                               for h in range(1, facts.num_heads + 1)])  # fmt: skip
        score = query @ key.transpose(1, 2) * facts.scaling
        score = score - slopes[:, None, None] * table[distance.clamp_min(0)]
        return torch.softmax(score.masked_fill(distance < 0, -torch.inf), -1) @ value

    return model.forward(torch.tensor(text), index, attention)


def test_the_series_is_the_harmonic_one() -> None:
    found = harmonic(torch.arange(2000))
    assert torch.allclose(found, torch.tensor(series(2000)), atol=1e-5) and float(found[0]) == 0
    far = float(harmonic(torch.tensor([100_000])))
    assert abs(far - (torch.log(torch.tensor(100_000.0)) + 0.5772)) < 1e-3


@pytest.mark.parametrize("slope", [0.5, 2.0])
def test_it_is_its_equations_whole_in_chunks_and_token_by_token(slope: float) -> None:
    model = tiny("llama")
    plan = resolve(f"rope_alibi(slope={slope})", model)
    with torch.no_grad():
        right = twin(model, slope, TEXT)
    for chunk in (None, 7, 1):
        sequence = Sequence(model, plan)
        found = prefill(sequence, TEXT, chunk)
        assert float((found - right[-1]).abs().max()) < 1e-4
    stepped = Sequence(model, plan)
    prefill(stepped, TEXT[:40])
    stepped.end_prefill()
    for place in range(40, len(TEXT)):
        (logits,), (step,) = extend([(stepped, [TEXT[place]], None)])
        stepped.commit(step, [TEXT[place]])
        assert float((logits[-1] - right[place]).abs().max()) < 1e-4
    full = prefill(Sequence(model), TEXT)
    assert float((full - right[-1]).abs().max()) > 1e-3


def test_rows_of_a_forward_are_what_they_are_alone() -> None:
    model = tiny("llama")
    plan = resolve("rope_alibi", model)
    alone = [prefill(Sequence(model, plan), text) for text in (TEXT, TEXT[:30])]
    items = [(Sequence(model, plan), text, None) for text in (TEXT, TEXT[:30])]
    found, _ = extend(items)
    for ours, theirs in zip(found, alone, strict=True):
        assert float((ours[-1] - theirs).abs().max()) < 1e-4


def test_nodes_of_a_tree_see_their_ancestors_at_their_distances() -> None:
    model = tiny("llama")
    plan = resolve("rope_alibi(slope=2)", model)
    sequence = Sequence(model, plan)
    prefill(sequence, TEXT[:40])
    sequence.end_prefill()
    tree = Tree(TEXT[40])
    first, other = (tree.add(0, token, 0.5) for token in (TEXT[41], TEXT[5]))
    tree.add(first, TEXT[42], 0.5)
    (logits,), _ = extend([(sequence, tree.tokens, tree)], "all")
    with torch.no_grad():
        right = twin(model, 2.0, TEXT[:43])
        beside = twin(model, 2.0, [*TEXT[:41], TEXT[5]])
    for node, wanted in ((0, right[40]), (first, right[41]), (3, right[42]), (other, beside[41])):
        assert float((logits[node] - wanted).abs().max()) < 1e-4


def test_scores_in_pieces_are_scores_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(h, 20, 8, generator=chance) for h in (4, 2, 2))
    index = torch.arange(20)
    part = Biased(Part(query, key, value, causal=True), index, index, HarmonicBias(1.0, 4))
    whole = attend([part], 0.3, need_lse=True)
    monkeypatch.setattr("lengthwise.engine.attention.attend.SCORE_BLOCK", 240)
    pieces = attend([part], 0.3, need_lse=True)
    for ours, theirs in zip(whole, pieces, strict=True):
        assert ours is not None and theirs is not None and torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    "recipe",
    ["rope_alibi + lookup", "rope_alibi + int8(residual=8)", "yarn(factor=2) + rope_alibi",
     "dynamic_ntk + rope_alibi"],
)  # fmt: skip
def test_it_goes_with_frequencies_codecs_and_drafters(recipe: str) -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15))
    found = model.generate(TEXT, recipe, max_new_tokens=12, stop_ids=[])
    if "lookup" in recipe:
        plain = model.generate(TEXT, "rope_alibi", max_new_tokens=12, stop_ids=[])
        assert found.token_ids == plain.token_ids
    assert len(found.token_ids) == 12


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("rope_alibi + snapkv", "snapkv reads keys otherwise"),
        ("rope_alibi + quest", "quest"),
        ("rope_alibi + streaming", "streaming"),
        ("rope_alibi + self_extend", "self_extend sets some apart"),
        ("rope_alibi(slope=-1)", "slope"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(recipe: str, told: str) -> None:
    with pytest.raises(LengthwiseError, match=told):
        lengthwise.wrap(tiny_model("llama")).generate(TEXT, recipe)


def test_a_session_is_not_edited_in_place() -> None:
    model = lengthwise.wrap(tiny_model("llama"))
    session = model.read(TEXT, "rope_alibi")
    with pytest.raises(LengthwiseError, match="adds to every logit"):
        session.edit((3, 5), [7])
    session.edit((3, 5), [7], exact=True)
    assert torch.equal(
        session.score([1, 2]), model.read([*TEXT[:3], 7, *TEXT[5:]], "rope_alibi").score([1, 2])
    )
