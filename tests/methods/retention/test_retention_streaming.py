"""Streaming caches: what they hold, where it stands, and that drafting does not change it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill, teacher_force
from lengthwise.engine.plan import FULL
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.positions.lm_infinite import LMInfinite
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.retention.sirllm import SirLLM
from lengthwise.methods.retention.streaming import Streaming
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens


@pytest.fixture(scope="module")
def llama() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15))


def _read(
    model: AdaptedModel, method: Method | None, ids: list[int], chunk: int = 1024, **more: int
) -> Sequence:
    sequence = Sequence(model, FULL if method is None else resolve([method], model), **more)
    prefill(sequence, ids, chunk)
    sequence.end_prefill()
    return sequence


def _next(sequence: Sequence, token: int) -> Tensor:
    (logits,), _ = extend([(sequence, [token], None)])
    return logits[-1]


def _kept(sequence: Sequence) -> list[list[int]]:
    return [g.compressible.index()[0].tolist() for layer in sequence.layers for g in layer.groups]


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen3", "stablelm", "gpt2"])
def test_sirllm_with_room_for_everything_is_full_attention(family: str) -> None:
    model = adapt(tiny_model(family, initializer_range=0.15))
    ids = tokens(70)
    full = teacher_force(_read(model, None, ids[:50], 16), ids[50:])
    ours = teacher_force(_read(model, SirLLM.identity(70), ids[:50], 16), ids[50:])
    torch.testing.assert_close(ours, full, rtol=0, atol=1e-4)


def test_sirllm_positions_are_ranks_in_the_cache() -> None:
    """With one layer keys know no context: the cache is that of a text of the kept tokens."""
    model = adapt(tiny_model("llama", initializer_range=0.15, num_hidden_layers=1))
    ids = tokens(90)
    sequence = _read(model, SirLLM(budget=Budget(40)), ids, 16)
    (kept,) = _kept(sequence)
    assert len(kept) <= 40 and kept != list(range(kept[0], kept[0] + len(kept)))
    short = _read(model, None, [ids[i] for i in kept])
    torch.testing.assert_close(_next(sequence, 7), _next(short, 7), rtol=0, atol=1e-4)


def test_sirllm_keeps_the_same_surprising_tokens_in_every_layer(llama: AdaptedModel) -> None:
    ids = tokens(160)
    method = SirLLM(budget=Budget(64), start=4, recent=0.25, turn=8)
    sequence = _read(llama, method, ids, 160)
    first, second = _kept(sequence)
    assert first == second and first == sorted(set(first))
    # The score of a token is its loss, given by the logits one position before it.
    (scores,), _ = extend([(Sequence(llama), ids, None)], "all")
    token_nll = F.cross_entropy(scores[:-1], torch.tensor(ids[1:]), reduction="none")
    memory = [i for i in first if 4 <= i < 160 - 15]
    threshold = min(token_nll[i - 1] for i in memory)
    dropped = [i for i in range(4, 145) if i not in first]
    assert all(token_nll[i - 1] <= threshold + 1e-4 for i in dropped)
    assert first[:4] == [0, 1, 2, 3] and first[-15:] == list(range(145, 160))


def test_sirllm_with_a_decay_of_zero_keeps_the_recent(llama: AdaptedModel) -> None:
    sequence = _read(
        llama, SirLLM(budget=Budget(64), decay=0.0, turn=8, recent=0.2), tokens(161), 161
    )
    kept = _kept(sequence)[0]
    assert kept == [0, 1, 2, 3, *range(161 - 59, 161)]


@pytest.mark.parametrize("budget", ["128", "50%", "20KB"])
def test_sirllm_holds_the_bytes_it_was_given(llama: AdaptedModel, budget: str) -> None:
    asked = Budget.parse(budget)
    sequence = _read(llama, SirLLM(budget=asked), tokens(400), 64, expected=400)
    limit = asked.tokens(400, llama.bytes_per_token)
    for token in tokens(60, seed=1):
        teacher_force(sequence, [token])
        assert sequence.nbytes() == pytest.approx(limit * llama.bytes_per_token, rel=0.03)


def test_sirllm_counts_birth_ids_in_a_budget_of_bytes(llama: AdaptedModel) -> None:
    sequence = _read(llama, SirLLM(budget=Budget.parse("20KB")), tokens(400), 64)
    assert 19_400 <= sequence.nbytes() <= 20_000


@pytest.mark.parametrize(
    "method", [SirLLM(budget=Budget(64)), Streaming(sinks=4, window=60)], ids=str
)
def test_drafted_then_committed_equals_step_by_step(llama: AdaptedModel, method: Method) -> None:
    ids = tokens(200)
    drafted = _read(llama, method, ids[:100], 32)
    plain, at = drafted.fork(), 100
    while at < 190:
        count = min(drafted.tokens_until_change() or 5, 5)
        tree = Tree(ids[at])
        tree.add_chain(ids[at + 1 : at + count])
        if count < (drafted.tokens_until_change() or 6):
            tree.add(0, 3)
        (logits,), (block,) = extend([(drafted, tree.tokens, tree)], "all")
        drafted.token_nll += _surprise(drafted, logits[:count], ids[at : at + count])
        drafted.commit(block, ids[at : at + count], list(range(count)))
        drafted.last_logits = logits[count - 1].clone()
        teacher_force(plain, ids[at : at + count])
        torch.testing.assert_close(drafted.last_logits, plain.last_logits, rtol=0, atol=1e-4)
        at += count
    assert _kept(drafted) == _kept(plain)


def _surprise(sequence: Sequence, logits: Tensor, ids: list[int]) -> list[float]:
    rows = torch.cat([sequence.last_logits[None], logits[:-1]])
    return F.cross_entropy(rows, torch.tensor(ids), reduction="none").tolist()


def test_a_budget_that_only_holds_the_first_tokens_is_an_error(llama: AdaptedModel) -> None:
    with pytest.raises(RecipeError, match="budget 4 .*start=4"):
        _read(llama, SirLLM(budget=Budget(4)), tokens(40), 16)


def test_streaming_holds_sinks_and_window(llama: AdaptedModel) -> None:
    sequence = _read(llama, Streaming(sinks=4, window=124), tokens(300), 64)
    for token in tokens(40, seed=1):
        teacher_force(sequence, [token])
        assert sequence.nbytes() == pytest.approx(128 * (llama.bytes_per_token + 8), rel=0.03)


@pytest.mark.parametrize(
    "method",
    [Streaming(window=20), SelfExtend(window=20), LMInfinite(window=20), SirLLM(budget=Budget(32))],
    ids=str,
)
def test_a_constant_added_to_all_positions_changes_nothing(
    llama: AdaptedModel, method: Method
) -> None:
    ids = tokens(90)
    here = teacher_force(_read(llama, method, ids[:60], 16), ids[60:])
    there = teacher_force(_read(llama, method, ids[:60], 16, offset=1000), ids[60:])
    torch.testing.assert_close(there, here, rtol=0, atol=2e-4)
