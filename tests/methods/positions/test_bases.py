"""ABF and entropy-aware ABF: the base of the papers, and logits that grow with the position."""

from __future__ import annotations

import copy
import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.query_scale import QueryScale
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill
from lengthwise.engine.mixed import replace_tokens
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import Refused
from lengthwise.methods.base import Method
from lengthwise.methods.drafting._shared.layer_skip_scorer import LayerSkipScorer
from lengthwise.methods.drafting.layers import Layers
from lengthwise.methods.drafting.recycling import Recycling
from lengthwise.methods.drafting.window import Window
from lengthwise.methods.positions.abf import ABF
from lengthwise.methods.positions.entropy_abf import EntropyABF
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import RopeFacts
from lengthwise.recipes import resolve
from lengthwise.testing.laws import check_drafting
from lengthwise.testing.tiny import tokens
from tests.methods.positions.position_runs import COUNT, TRAINED, adapted_tiny, logits_of

SMOL = RopeFacts(theta=100000.0, rotary_dim=64, trained_length=8192)
PLAIN = 100000.0 ** -(torch.arange(0, 64, 2).float() / 64)
BOTH = pytest.mark.parametrize("cls", [ABF, EntropyABF], ids=lambda cls: cls.name)


@pytest.fixture(scope="module")
def deep() -> AdaptedModel:
    """Four layers: two that are exempt, two that are not."""
    return adapted_tiny(num_hidden_layers=4)


@BOTH
@pytest.mark.parametrize("base", [500_000.0, 2e6])
def test_the_base_is_that_of_the_paper(
    llama: AdaptedModel, cls: type[ABF | EntropyABF], base: float
) -> None:
    ours, amplitude = cls(base=base).frequencies(llama).scale(PLAIN, SMOL, 0)
    torch.testing.assert_close(ours, base ** -(torch.arange(0, 64, 2).float() / 64))
    assert amplitude == 1.0


def test_position_0_is_as_it_was(llama: AdaptedModel) -> None:
    """The first token sees itself alone, and nothing turns there."""
    ids = tokens(COUNT)
    ours, full = logits_of(llama, ABF(), ids), logits_of(llama, None, ids)
    torch.testing.assert_close(ours[0], full[0], rtol=0, atol=1e-5)
    assert (ours - full)[10:].abs().max() > 1e-2


@BOTH
def test_a_base_below_the_models_is_refused(cls: type[ABF | EntropyABF]) -> None:
    model = adapted_tiny(rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    with pytest.raises(Refused, match=rf"1,000,000 already; give a larger.*{cls.name}.base=10000"):
        resolve([cls()], model)
    assert resolve([cls(base=1e6)], model).rule is not None
    assert resolve([cls(base=None)], model).rule is not None


def _by_formula(model: AdaptedModel, ids: list[int], trained: int, exempt: int) -> Tensor:
    """Logits with every query multiplied by its factor, in plain attention."""
    index = torch.arange(len(ids))
    factor = torch.tensor([max(1.0, math.log(p + 1, 7) / math.log(trained, 7)) for p in index])

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts = model.layers[layer]
        each = facts.num_heads // facts.num_kv_heads
        key, value = (x.repeat_interleave(each, 0) for x in (key, value))
        angles = model.rope.angles(facts.layout, None, index)
        query, key = (facts.layout.rotate(x, angles) for x in (query, key))
        scores = query @ key.mT * facts.scaling
        if layer >= exempt:
            scores = scores * factor[:, None]
        hidden = index[:, None] < index
        return scores.masked_fill(hidden, -math.inf).softmax(-1) @ value

    return model.forward(torch.tensor(ids), index, attention)


@pytest.mark.parametrize(("cut", "chunk"), [(0, 0), (0, 7), (45, 16), (1, 1)])
@pytest.mark.parametrize(("trained", "exempt"), [(8, 2), (8, 0), (20, 3), (2, 1)])
def test_logits_grow_as_in_the_paper(
    deep: AdaptedModel, trained: int, exempt: int, cut: int, chunk: int
) -> None:
    """To whatever base the logarithms are: the formula here has 7. In one pass, chunks, steps."""
    ids = tokens(COUNT)
    method = EntropyABF(base=None, trained=trained, exempt=exempt)
    ours = logits_of(deep, method, ids, cut, chunk)
    expected = _by_formula(deep, ids, trained, exempt)
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-4)
    assert (ours - logits_of(deep, None, ids))[trained:].abs().max() > 1e-3


def test_within_the_trained_length_nothing_changes(deep: AdaptedModel) -> None:
    ids = tokens(TRAINED)
    ours = logits_of(deep, EntropyABF(base=None), ids)
    assert torch.equal(ours, logits_of(deep, None, ids))


def test_the_length_is_the_models_unless_given(deep: AdaptedModel) -> None:
    positions = torch.tensor([0, TRAINED - 1, TRAINED**2 - 1])
    for method, wanted in (
        (EntropyABF(), [1, 1, 2]), (EntropyABF(trained=TRAINED**2), [1, 1, 1]),
    ):  # fmt: skip
        torch.testing.assert_close(
            method.query_scale(deep).factor(positions), torch.tensor(wanted).float()
        )


def test_layers_with_a_window_keep_their_logits() -> None:
    model = adapted_tiny("gemma3_text")
    sequence = Sequence(model, resolve([EntropyABF(base=1e7, exempt=0)], model))
    for layer in sequence.layers:
        assert (layer.query_scale is None) == layer.own_window
    assert {layer.own_window for layer in sequence.layers} == {True, False}


SHARP = EntropyABF(base=None, trained=4, exempt=1)


def _read(model: AdaptedModel, method: Method | None, ids: list[int]) -> Sequence:
    sequence = Sequence(model, resolve([method] if method else [], model))
    prefill(sequence, ids)
    sequence.end_prefill()
    return sequence


def test_rows_of_several_recipes_in_one_forward_get_their_own(deep: AdaptedModel) -> None:
    """Each row is what it is alone, whatever stands beside it."""
    ids = tokens(COUNT)
    lengths = (COUNT - 1, 20, 33)
    methods = (SHARP, None, EntropyABF(base=None, trained=30, exempt=0))
    rows = [_read(deep, m, ids[:n]) for m, n in zip(methods, lengths, strict=True)]
    found, _ = extend([(row, [ids[len(row)]], None) for row in rows])
    for method, length, logits in zip(methods, lengths, found, strict=True):
        alone = logits_of(deep, method, ids[: length + 1])[-1]
        torch.testing.assert_close(logits[0], alone, rtol=0, atol=1e-4)


def test_an_edited_text_is_computed_with_the_factor(deep: AdaptedModel) -> None:
    """The last token of an edited text is computed anew, among entries that stay."""
    ids = tokens(40)
    sequence = _read(deep, SHARP, ids)
    new, _ = replace_tokens(sequence, 39, 40, [7])
    again = _read(deep, SHARP, [*ids[:39], 7])
    torch.testing.assert_close(new.last_logits, again.last_logits, rtol=0, atol=1e-4)


def test_a_fork_under_another_plan_keeps_the_factor(deep: AdaptedModel) -> None:
    """What a drafter forks has read the prompt under it, and goes on so."""
    ids = tokens(40)
    sequence = Sequence(deep, resolve([SHARP], deep))
    prefill(sequence, ids)
    fork = sequence.fork(resolve("snapkv(budget=100%)", deep))
    fork.end_prefill()
    (logits,), _ = extend([(fork, [7], None)])
    torch.testing.assert_close(logits[0], logits_of(deep, SHARP, [*ids, 7])[-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("drafter", [Layers(skip="2"), Window(sinks=2, window=16), Recycling()],
                         ids=lambda drafter: drafter.name)  # fmt: skip
def test_drafts_change_no_token(deep: AdaptedModel, drafter: Method) -> None:
    check_drafting([SHARP, drafter], deep, seeds=1)


def test_guesses_of_all_layers_are_the_models_own(deep: AdaptedModel) -> None:
    """Layers that guess read the target's entries with queries that carry its factors."""
    ids = tokens(40)
    sequence = _read(deep, SHARP, ids)
    found = LayerSkipScorer(sequence, deep, range(4)).score([*ids, 7], Tree(7))
    torch.testing.assert_close(found[0], logits_of(deep, SHARP, [*ids, 7])[-1], rtol=0, atol=1e-4)


def test_a_prefix_read_under_another_factor_is_not_used_again(deep: AdaptedModel) -> None:
    from lengthwise.engine.prefix.cache import reading_of

    def reading(method: Method | None) -> object:
        return reading_of(Sequence(deep, resolve([method] if method else [], deep)), 30)

    assert reading(SHARP) == reading(copy.copy(SHARP))
    others = (None, EntropyABF(base=None, trained=5, exempt=1), EntropyABF(base=None, trained=4))
    assert len({reading(SHARP), *map(reading, others)}) == 4


class _Flat(Method):
    name: ClassVar[str] = "flat"
    question: ClassVar[str] = "positions"
    paper = None

    def query_scale(self, model: AdaptedModel) -> QueryScale:
        return QueryScale(lambda positions: torch.ones(len(positions)), 0, "flat")


def test_one_method_alone_scales_logits(deep: AdaptedModel) -> None:
    with pytest.raises(Refused, match="both decide how logits grow with the position"):
        resolve([EntropyABF(base=None), _Flat()], deep)
