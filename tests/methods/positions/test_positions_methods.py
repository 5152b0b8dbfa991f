"""Position methods do what their papers say, pair by pair and channel by channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill, teacher_force
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import Refused
from lengthwise.methods.base import Method
from lengthwise.methods.positions.dynamic_ntk import DynamicNTK
from lengthwise.methods.positions.giraffe import Giraffe
from lengthwise.methods.positions.lm_infinite import LMInfinite
from lengthwise.methods.positions.ntk import NTK
from lengthwise.methods.positions.pi import PI
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.positions.yarn import YaRN
from lengthwise.methods.retention.streaming import Streaming
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing import check_method
from lengthwise.testing.tiny import tokens
from tests.methods.positions.position_runs import COUNT, TRAINED, adapted_tiny, logits_of

# Query and key position of a pair (i, j), or None where j is not seen.
Pair = Callable[[int, int], tuple[int, int] | None]


def _by_pairs(model: AdaptedModel, ids: list[int], pair: Pair) -> Tensor:
    """The same logits with every pair of tokens rotated for itself."""
    count = len(ids)
    pairs = [(i, j, pair(i, j)) for i in range(count) for j in range(i + 1)]
    seen = [(i, j, where) for i, j, where in pairs if where is not None]
    row, column = (torch.tensor([x[k] for x in seen]) for k in (0, 1))
    at_query, at_key = (torch.tensor([x[2][k] for x in seen]) for k in (0, 1))

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts = model.layers[layer]
        each = facts.num_heads // facts.num_kv_heads
        key, value = (x.repeat_interleave(each, 0) for x in (key, value))
        rotated_query, rotated_key = (
            facts.layout.rotate(x, model.rope.angles(facts.layout, None, where))
            for x, where in ((query[:, row], at_query), (key[:, column], at_key))
        )
        scores = torch.full((facts.num_heads, count, count), -math.inf)
        scores[:, row, column] = (rotated_query * rotated_key).sum(-1) * facts.scaling
        return scores.softmax(-1) @ value

    return model.forward(torch.tensor(ids), torch.arange(count), attention)


def _self_extend(group: int, window: int) -> Pair:
    def pair(i: int, j: int) -> tuple[int, int]:
        if i - j < window:
            return i, j
        return i // group + window - window // group, j // group

    return pair


def _lm_infinite(sinks: int, window: int, cap: int) -> Pair:
    def pair(i: int, j: int) -> tuple[int, int] | None:
        if i - j < window:
            return i, j
        return (min(i, cap), 0) if j < sinks else None

    return pair


def _streaming(sinks: int, window: int) -> Pair:
    def pair(i: int, j: int) -> tuple[int, int] | None:
        cache = [k for k in range(i + 1) if k < sinks or i - k < window]
        return (len(cache) - 1, cache.index(j)) if j in cache else None

    return pair


PAIRED: list[tuple[Method, Pair]] = [
    (SelfExtend(group=4, window=16), _self_extend(4, 16)),
    (SelfExtend(group=3, window=10), _self_extend(3, 10)),
    (LMInfinite(sinks=3, window=16, cap=20), _lm_infinite(3, 16, 20)),
    (LMInfinite(sinks=2, window=9), _lm_infinite(2, 9, TRAINED)),
    (LMInfinite(sinks=0, window=9), _lm_infinite(0, 9, 1)),
    (Streaming(sinks=4, window=12), _streaming(4, 12)),
    (Streaming(sinks=0, window=12), _streaming(0, 12)),
]


@pytest.mark.parametrize(
    ("method", "pair"), PAIRED, ids=lambda x: str(x) if isinstance(x, Method) else ""
)
@pytest.mark.parametrize(("cut", "chunk"), [(0, 0), (0, 7), (45, 16), (1, 1)])
def test_parts_equal_the_formula_of_the_paper_for_every_pair(
    llama: AdaptedModel, method: Method, pair: Pair, cut: int, chunk: int
) -> None:
    ids = tokens(COUNT)
    ours = logits_of(llama, method, ids, cut, chunk)
    torch.testing.assert_close(ours, _by_pairs(llama, ids, pair), rtol=0, atol=2e-4)


def _readmitting(model: AdaptedModel, ids: list[int], method: LMInfinite, cut: int) -> Tensor:
    """Logits of LM-Infinite by its formula: queries from `cut` - 1 on re-admit middle tokens."""
    count, rope = len(ids), model.rope
    assert rope is not None

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts = model.layers[layer]
        each = facts.num_heads // facts.num_kv_heads
        key, value = (x.repeat_interleave(each, 0) for x in (key, value))

        def turned(x: Tensor, at: list[int]) -> Tensor:
            return facts.layout.rotate(x, rope.angles(facts.layout, None, torch.tensor(at)))

        places = list(range(count))
        near = turned(query, places) @ turned(key, places).mT
        cap = method.cap or model.trained_length
        far = turned(query, [min(i, cap) for i in places]) @ key.mT
        middle = turned(query, [method.top_k_at] * count) @ key.mT
        scores = torch.full((facts.num_heads, count, count), -math.inf)
        for i in range(count):
            first = max(0, i - method.window + 1)
            scores[:, i, first : i + 1] = near[:, i, first : i + 1]
            sinks = min(method.sinks, first)
            scores[:, i, :sinks] = far[:, i, :sinks]
            if i < cut - 1 or layer < method.top_k_from or first - sinks < method.top_k:
                continue
            best = middle[:, i, sinks:first].topk(method.top_k, -1).indices + sinks
            scores[:, i].scatter_(1, best, middle[:, i].gather(1, best))
        return (scores * facts.scaling).softmax(-1) @ value

    return model.forward(torch.tensor(ids), torch.arange(count), attention)


@pytest.mark.parametrize(("cut", "chunk"), [(40, 0), (40, 7), (31, 16), (60, 5)])
@pytest.mark.parametrize(
    "method",
    [LMInfinite(sinks=3, window=7, cap=20, top_k=3, top_k_at=10, top_k_from=0),
     LMInfinite(sinks=2, window=5, top_k=2, top_k_at=50, top_k_from=1),
     LMInfinite(sinks=0, window=6, cap=9, top_k=4, top_k_at=4, top_k_from=0)],
    ids=str,
)  # fmt: skip
def test_the_best_middle_tokens_are_readmitted(
    llama: AdaptedModel, method: LMInfinite, cut: int, chunk: int
) -> None:
    """Windows below 8 do not overhang, so that candidates are the formula's."""
    ids = tokens(COUNT)
    ours = logits_of(llama, method, ids, cut, chunk)
    expected = _readmitting(llama, ids, method, cut)
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-4)
    plain = LMInfinite(sinks=method.sinks, window=method.window, cap=method.cap)
    assert (ours - logits_of(llama, plain, ids, cut, chunk))[cut:].abs().max() > 1e-2


class Readmitting(LMInfinite):
    """LM-Infinite with what it can do beside its default, for the laws."""

    name: ClassVar[str] = "lm_infinite"
    # Decoding re-admits and a prompt does not, by design.
    chunking_exact: ClassVar[bool] = False
    decoding_exact: ClassVar[bool] = False

    @classmethod
    def example(cls) -> Readmitting:
        return cls(sinks=2, window=16, cap=24, top_k=3, top_k_at=12, top_k_from=0)


def test_readmission_keeps_the_laws() -> None:
    assert not check_method(Readmitting, ("llama", "phi")).require().refused


METHODS: list[type[Method]] = [
    PI, NTK, DynamicNTK, YaRN, Giraffe, SelfExtend, LMInfinite, Streaming
]  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen3", "stablelm", "smollm3"])
@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.name)
def test_identity_setting_is_full_attention(family: str, cls: type[Method]) -> None:
    model = adapted_tiny(family)
    ids = tokens(COUNT)
    method = cls.identity(COUNT)
    full = logits_of(model, None, ids, 40, 16)
    torch.testing.assert_close(logits_of(model, method, ids, 40, 16), full, rtol=0, atol=1e-4)


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.name)
def test_default_setting_is_not_full_attention(llama: AdaptedModel, cls: type[Method]) -> None:
    small = {"window": 8} if hasattr(cls, "window") else {}
    ids = tokens(COUNT)
    difference = logits_of(llama, cls(**small), ids) - logits_of(llama, None, ids)
    assert difference.abs().max() > 1e-2


@pytest.mark.parametrize(
    "method",
    [PI(), NTK(), YaRN(), Giraffe(truncate=20, power=0.3), DynamicNTK(length=100),
     SelfExtend(window=12), LMInfinite(window=12), Streaming(window=12), YaRN(attention=1.3)],
    ids=str,
)  # fmt: skip
def test_steps_equal_chunks_equal_one_pass(llama: AdaptedModel, method: Method) -> None:
    ids = tokens(COUNT)
    whole = logits_of(llama, method, ids)
    torch.testing.assert_close(logits_of(llama, method, ids, 30, 7), whole, rtol=0, atol=1e-4)


def test_dynamic_ntk_reads_a_prompt_the_same_in_chunks_of_any_size(llama: AdaptedModel) -> None:
    plan = resolve([DynamicNTK()], llama)
    found = [prefill(Sequence(llama, plan), tokens(COUNT), chunk) for chunk in (COUNT, 16, 7)]
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[2], found[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "method",
    [YaRN(), DynamicNTK(), SelfExtend(window=12), LMInfinite(window=12), Streaming(window=12)],
    ids=str,
)
def test_a_verified_draft_equals_steps(llama: AdaptedModel, method: Method) -> None:
    ids = tokens(COUNT)
    plan = resolve([method], llama)
    sequence = Sequence(llama, plan)
    prefill(sequence, ids[:37])
    sequence.end_prefill()
    plain, drafted = sequence.fork(), sequence.fork()
    tree = Tree(ids[37])
    tree.add(0, 5)
    first = tree.add(0, ids[38])
    tree.add(first, 9)
    second = tree.add(first, ids[39])
    assert len(tree) <= (drafted.tokens_until_change() or 99)
    (scores,), (block,) = extend([(drafted, tree.tokens, tree)], "all")
    drafted.commit(block, ids[37:40], [0, first, second])
    steps = torch.cat([teacher_force(plain, ids[37:40])[1:], plain.last_logits[None]])
    torch.testing.assert_close(scores[[0, first, second]], steps, rtol=0, atol=1e-4)
    (after,), _ = extend([(drafted, [ids[40]], None)])
    (expected,), _ = extend([(plain, [ids[40]], None)])
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-4)


def test_lm_infinite_holds_constant_bytes(llama: AdaptedModel) -> None:
    sequence = Sequence(llama, resolve([LMInfinite(sinks=4, window=16)], llama))
    prefill(sequence, tokens(200))
    sequence.end_prefill()
    before = sequence.nbytes()
    teacher_force(sequence, tokens(100))
    assert sequence.nbytes() <= before + 2 * llama.bytes_per_token
    assert all(len(g.far) == 4 for layer in sequence.layers for g in layer.groups)


@pytest.mark.parametrize(
    "cls", [c for c in METHODS if c is not Streaming], ids=lambda cls: cls.name
)
def test_a_model_without_rotary_positions_is_refused(cls: type[Method]) -> None:
    with pytest.raises(Refused, match="gpt2"):
        resolve([cls()], adapted_tiny("gpt2"))
