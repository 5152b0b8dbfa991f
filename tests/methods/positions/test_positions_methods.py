"""Position methods do what their papers say, pair by pair and channel by channel."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill, teacher_force
from lengthwise.engine.plan import FULL
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
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import RopeFacts
from lengthwise.recipes import resolve
from lengthwise.testing import check_method
from lengthwise.testing.tiny import tiny_model, tokens

TRAINED = 32
COUNT = 61
# Query and key position of a pair (i, j), or None where j is not seen.
Pair = Callable[[int, int], tuple[int, int] | None]


def _adapted(family: str = "llama", **changes: object) -> AdaptedModel:
    changes = {"max_position_embeddings": TRAINED, "initializer_range": 0.15, **changes}
    return adapt(tiny_model(family, **changes))


@pytest.fixture(scope="module")
def llama() -> AdaptedModel:
    return _adapted()


def _logits(
    model: AdaptedModel, method: Method | None, ids: list[int], cut: int = 0, chunk: int = 0
) -> Tensor:
    """Logits of every token: ids[:cut] read in chunks (all of them where cut is 0), the rest fed
    one by one."""
    plan = FULL if method is None else resolve([method], model)
    sequence = Sequence(model, plan)
    cut = cut or len(ids)
    sequence.reading = cut
    step = min(chunk or cut, sequence.max_block() or cut)
    found = []
    for start in range(0, len(ids), step):
        if start >= cut:
            break
        part = ids[start : min(start + step, cut)]
        (logits,), (block,) = extend([(sequence, part, None)], "all")
        sequence.commit(block, part)
        found.append(logits)
    sequence.end_prefill()
    for token in ids[cut:]:
        (logits,), (block,) = extend([(sequence, [token], None)], "all")
        sequence.commit(block, [token])
        found.append(logits)
    return torch.cat(found)


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
    ours = _logits(llama, method, ids, cut, chunk)
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
    ours = _logits(llama, method, ids, cut, chunk)
    expected = _readmitting(llama, ids, method, cut)
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-4)
    plain = LMInfinite(sinks=method.sinks, window=method.window, cap=method.cap)
    assert (ours - _logits(llama, plain, ids, cut, chunk))[cut:].abs().max() > 1e-2


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
    model = _adapted(family)
    ids = tokens(COUNT)
    method = cls.identity(COUNT)
    full = _logits(model, None, ids, 40, 16)
    torch.testing.assert_close(_logits(model, method, ids, 40, 16), full, rtol=0, atol=1e-4)


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.name)
def test_default_setting_is_not_full_attention(llama: AdaptedModel, cls: type[Method]) -> None:
    small = {"window": 8} if hasattr(cls, "window") else {}
    ids = tokens(COUNT)
    difference = _logits(llama, cls(**small), ids) - _logits(llama, None, ids)
    assert difference.abs().max() > 1e-2


@pytest.mark.parametrize(
    "method",
    [PI(), NTK(), YaRN(), Giraffe(truncate=20, power=0.3), DynamicNTK(length=100),
     SelfExtend(window=12), LMInfinite(window=12), Streaming(window=12), YaRN(attention=1.3)],
    ids=str,
)  # fmt: skip
def test_steps_equal_chunks_equal_one_pass(llama: AdaptedModel, method: Method) -> None:
    ids = tokens(COUNT)
    whole = _logits(llama, method, ids)
    torch.testing.assert_close(_logits(llama, method, ids, 30, 7), whole, rtol=0, atol=1e-4)


def _config(rope: dict[str, object]) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=576, num_attention_heads=9, max_position_embeddings=8192,
        rope_parameters={"rope_theta": 100000.0, **rope},
    )  # fmt: skip


SMOL = RopeFacts(theta=100000.0, rotary_dim=64, trained_length=8192)
PLAIN = 100000.0 ** -(torch.arange(0, 64, 2).float() / 64)


@pytest.mark.parametrize("factor", [1.0, 2.0, 4.0, 16.0])
@pytest.mark.parametrize("asked", [{}, {"attention": 1.0}, {"attention": 0.7},
                                   {"beta_fast": 16.0, "beta_slow": 2.0}])  # fmt: skip
def test_yarn_frequencies_equal_transformers(
    llama: AdaptedModel, factor: float, asked: dict[str, float]
) -> None:
    theirs_asked = {k.replace("attention", "attention_factor"): v for k, v in asked.items()}
    rope = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": 8192}
    theirs, amplitude = ROPE_INIT_FUNCTIONS["yarn"](_config(rope | theirs_asked), "cpu")
    ours, own = YaRN(factor=factor, **asked).frequencies(llama).scale(PLAIN, SMOL, 0)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert own == pytest.approx(amplitude, abs=1e-6)


def test_yarn_attention_reaches_the_logits(llama: AdaptedModel) -> None:
    """cos and sin carry it, for queries and keys: one is as if the scale of logits were squared."""
    ids = tokens(COUNT)
    plain, sharp = (_logits(llama, YaRN(factor=1.0, attention=a), ids) for a in (1.0, 2.0))
    scaled = dataclasses.replace(
        llama, layers=[dataclasses.replace(x, scaling=4 * x.scaling) for x in llama.layers]
    )
    torch.testing.assert_close(plain, _logits(llama, None, ids), rtol=0, atol=1e-4)
    torch.testing.assert_close(sharp, _logits(scaled, None, ids), rtol=0, atol=1e-3)


def test_yarn_ramp_of_smollm2_goes_from_pair_10_to_pair_20() -> None:
    ramp = YaRN().ramp(SMOL, 32)
    assert ramp[:11].max() == 0 and ramp[20:].min() == 1 and 0 < ramp[11] < ramp[19] < 1


@pytest.mark.parametrize(("length", "theta"), [(8192, 1e5), (16384, 310822), (32768, 745348)])
def test_dynamic_ntk_frequencies_equal_transformers(
    llama: AdaptedModel, length: int, theta: float
) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0}
    theirs, _ = ROPE_INIT_FUNCTIONS["dynamic"](_config(rope), "cpu", seq_len=length)
    for method in (DynamicNTK(factor=2.0), DynamicNTK(factor=2.0, length=length)):
        ours, amplitude = method.frequencies(llama).scale(PLAIN, SMOL, length)
        torch.testing.assert_close(ours, theirs)
        assert amplitude == 1.0
        assert float(ours[16]) ** -2 == pytest.approx(theta, rel=1e-3)


@pytest.mark.parametrize(("factor", "theta"), [(2.0, 204522), (4.0, 418294)])
def test_ntk_raises_the_base(llama: AdaptedModel, factor: float, theta: float) -> None:
    ours, _ = NTK(factor=factor).frequencies(llama).scale(PLAIN, SMOL, 0)
    torch.testing.assert_close(
        ours, theta ** -(torch.arange(0, 64, 2).float() / 64), rtol=1e-4, atol=0
    )
    assert ours[0] == PLAIN[0] and float(PLAIN[-1] / ours[-1]) == pytest.approx(factor)


def test_pi_equals_linear_scaling_of_transformers(llama: AdaptedModel) -> None:
    theirs, _ = ROPE_INIT_FUNCTIONS["linear"](
        _config({"rope_type": "linear", "factor": 4.0}), "cpu"
    )
    ours, _ = PI(factor=4.0).frequencies(llama).scale(PLAIN, SMOL, 0)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("scale", [None, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("power", [0.0, 0.5])
@pytest.mark.parametrize("truncate", [None, 500])
def test_giraffe_basis_is_the_formula(
    scale: float | None, power: float, truncate: int | None
) -> None:
    """By hand, in the order of the authors' code: scaled, then the power, then truncated."""
    found = Giraffe(scale=scale, power=power, truncate=truncate).basis(PLAIN).tolist()
    divisor = scale or (1.0 if power or truncate else 4.0)
    expected = [f / divisor * (1 - i / 32) ** power for i, f in enumerate(PLAIN.tolist())]
    if truncate:
        high = 2 * math.pi / truncate
        expected = [f if f >= high else high / 16 if f >= high / 8 else 0.0 for f in expected]
        assert 0.0 in found and pytest.approx(high / 16) in found
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("prompt", [20, TRAINED])
def test_dynamic_ntk_within_the_trained_length_is_exactly_full(
    llama: AdaptedModel, prompt: int
) -> None:
    ids = tokens(TRAINED)
    ours = _logits(llama, DynamicNTK(), ids, prompt, 7)
    torch.testing.assert_close(ours, _logits(llama, None, ids, prompt, 7), rtol=0, atol=1e-5)


def test_dynamic_ntk_moves_old_keys_when_the_base_grows() -> None:
    """With one layer, decoding past the trained length is a prefill of the same text."""
    model = _adapted(num_hidden_layers=1)
    ids = tokens(TRAINED * 3)
    whole = _logits(model, DynamicNTK(), ids)
    stepped = _logits(model, DynamicNTK(), ids, TRAINED - 5, 8)
    torch.testing.assert_close(stepped[-1], whole[-1], rtol=0, atol=1e-4)


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


@pytest.mark.parametrize("cls", [PI, NTK, DynamicNTK, YaRN, Giraffe], ids=lambda cls: cls.name)
def test_a_model_whose_own_frequencies_move_is_refused(cls: type[Method]) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    model = _adapted(rope_parameters=rope)
    with pytest.raises(Refused, match="already changes them with the length.*self_extend"):
        resolve([cls()], model)


@pytest.mark.parametrize(
    "cls", [c for c in METHODS if c is not Streaming], ids=lambda cls: cls.name
)
def test_a_model_without_rotary_positions_is_refused(cls: type[Method]) -> None:
    with pytest.raises(Refused, match="gpt2"):
        resolve([cls()], _adapted("gpt2"))


def test_factor_one_keeps_a_scaling_of_the_models_own() -> None:
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
            "original_max_position_embeddings": 16}  # fmt: skip
    model = _adapted(rope_parameters=rope)
    ids = tokens(COUNT)
    full = _logits(model, None, ids)
    for cls in (PI, NTK, YaRN, Giraffe):
        torch.testing.assert_close(
            _logits(model, cls.identity(COUNT), ids), full, rtol=0, atol=1e-4
        )
