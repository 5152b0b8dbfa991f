"""Ada-KV shares a layer's budget among its heads, as the paper and as kvpress say, and stores just
what each keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.saved import pack_sequence, unpack_sequence
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.plan import FULL
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.codecs.kivi import Kivi
from lengthwise.methods.positions.dynamic_ntk import DynamicNTK
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.retention.adakv import AdaKV, SharedVotes
from lengthwise.methods.retention.head_budgets import best_by_head, head_counts
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens
from tests.methods.retention.kvpress_case import LENGTH, adapted, read, recorded
from tests.methods.retention.kvpress_record import KERNEL, RATIO, WINDOW

PROMPT = 150


def kept(sequence: Sequence) -> list[list[list[int]]]:
    """Birth ids by layer and key head."""
    found = []
    for layer in sequence.layers:
        heads: dict[int, list[int]] = {}
        for group in layer.groups:
            index = group.near.index()
            for row, head in enumerate(group.head_numbers or range(layer.facts.num_kv_heads)):
                heads[head] = index[row if len(index) > 1 else 0].tolist()
        found.append([heads[head] for head in sorted(heads)])
    return found


def of(model: AdaptedModel, *methods: Method, length: int = PROMPT, chunk: int = 64) -> Sequence:
    sequence = Sequence(model, resolve(methods, model))
    prefill(sequence, tokens(length), chunk)
    sequence.end_prefill()
    return sequence


# Against kvpress.


class Watched(SharedVotes):
    def __init__(self, method: AdaKV) -> None:
        super().__init__(method)
        self.scores: list[Tensor] = []

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        if update.phase is Phase.PREFILL:
            self.scores.append(self.votes(group, update, self.window))


def test_votes_and_what_heads_keep_are_those_of_kvpress() -> None:
    method = AdaKV(window=WINDOW, kernel=KERNEL, pooling="avg", safeguard="floor")
    sequence = read(replace(FULL, retention=lambda: Watched(method)))
    assert isinstance(sequence.retention, Watched)
    theirs = recorded()["snapkv"]["scores"]
    count = int(LENGTH * RATIO)
    for layer, ours in enumerate(sequence.retention.scores):
        wanted = torch.tensor(theirs[layer])
        # Theirs is a mean over the queries of the window, ours a sum.
        torch.testing.assert_close(ours / WINDOW, wanted[:, :-WINDOW], rtol=2e-5, atol=1e-7)
        # Theirs counts the window among what a head is to keep at least.
        whole = torch.cat([ours, torch.full((2, WINDOW), torch.inf)], 1)
        ids = best_by_head(whole, head_counts(whole, count, 0.2, "floor"))
        assert [each.tolist() for each in ids] == recorded()["adakv_snapkv"]["kept"][layer]


def test_a_recipe_keeps_what_kvpress_keeps() -> None:
    # 25 tokens pay for 24 entries and their indices. A fifth of these is less than the window.
    method = AdaKV(Budget(25), alpha=0.0, window=WINDOW, kernel=KERNEL, pooling="avg")
    ours = kept(read(resolve([method], adapted())))
    sizes = [[len(head) for head in layer] for layer in ours]
    assert all(sum(layer) == 2 * 24 for layer in sizes), "the record's is half of 48 tokens"
    assert ours == recorded()["adakv_snapkv"]["kept"]


# Shares.


def test_shares_are_the_papers() -> None:
    scores = torch.tensor([[9.0, 8, 7, 6, 5], [4, 3, 2, 1, 0]])
    assert head_counts(scores, 3, 0.0, "mix") == [5, 1]
    # 0.8 x 5 + 0.2 x 3 = 4.6 and 0.8 x 1 + 0.2 x 3 = 1.4; the larger rest is rounded up.
    assert head_counts(scores, 3, 0.2, "mix") == [5, 1]
    assert head_counts(scores, 3, 0.5, "mix") == [4, 2]
    assert head_counts(scores, 3, 1.0, "mix") == [3, 3]
    assert head_counts(scores, 3, 0.2, "floor") == [5, 1]
    assert head_counts(scores, 3, 0.7, "floor") == [4, 2]
    assert head_counts(scores, 0, 0.2, "floor") == [0, 0]


@pytest.mark.parametrize("safeguard", ["mix", "floor"])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.37, 1.0])
def test_shares_sum_to_the_budget_and_safeguards_hold(safeguard: str, alpha: float) -> None:
    generator = torch.Generator().manual_seed(7)
    for heads, entries, count in ((2, 9, 4), (8, 50, 11), (3, 5, 5), (5, 40, 1)):
        scale = torch.rand(heads, 1, generator=generator) ** 4
        scores = torch.rand(heads, entries, generator=generator) * scale
        counts = head_counts(scores, count, alpha, safeguard)
        assert sum(counts) == heads * count and max(counts) <= entries
        assert min(counts) >= int(alpha * count + 1e-6)


def test_all_alike_is_snapkv() -> None:
    model = tiny("llama")
    ours = of(model, AdaKV(Budget(60), alpha=1.0, window=8))
    theirs = of(model, SnapKV(Budget(60), window=8))
    assert kept(ours) == kept(theirs)
    assert len(ours.layers[0].groups) == 1
    text = tokens(20, seed=1)
    assert torch.equal(teacher_force(ours, text), teacher_force(theirs, text))


# Storage.


@pytest.fixture(scope="module")
def wide() -> AdaptedModel:
    """Eight key heads as wide as SmolLM2's, in bf16: side tensors weigh what they weigh there."""
    model = tiny_model(
        "llama", hidden_size=512, num_attention_heads=8, num_key_value_heads=8, head_dim=64,
        max_position_embeddings=2048, initializer_range=0.15,
    )  # fmt: skip
    return adapt(model.to(torch.bfloat16), verify=False)


@pytest.mark.parametrize("budget", ["400", "25%", "1MB"])
def test_heads_are_stored_ragged_and_bytes_are_the_budgets(budget: str, wide: AdaptedModel) -> None:
    sequence = of(wide, AdaKV(Budget.parse(budget)), length=1600, chunk=256)
    asked = {"1MB": 1_000_000}.get(budget, 400 * wide.bytes_per_token)
    assert abs(sequence.nbytes() / asked - 1) < 0.03
    sizes = [[len(head) for head in layer] for layer in kept(sequence)]
    assert all(len(set(layer)) >= 4 for layer in sizes), "heads of many lengths"
    plain = 2 * 64 * 2 + 4
    assert sequence.nbytes() == plain * sum(map(sum, sizes)), "and nothing is padded"
    teacher_force(sequence, tokens(40, seed=1))
    # Each head grows by 16 entries at a time, and notes its own birth ids.
    more = 2 * 8 * 48 * plain
    assert abs(sequence.nbytes() - asked - more) < 0.03 * asked


def test_decoding_sees_what_every_head_kept() -> None:
    """In the first layer, whose queries and keys depend on the newest token alone."""
    model = tiny("llama")
    sequence, text = of(model, AdaKV(Budget(60), window=8)), tokens(PROMPT)
    whole = Sequence(model, FULL)
    prefill(whole, [*text, 5])
    entries = whole.layers[0].groups[0].near.read()
    assert entries is not None
    layer, ids = model.layers[0], kept(sequence)[0]
    assert len(ids[0]) != len(ids[1])
    found: list[Tensor] = []
    attend = sequence.layers[0].attend

    def watch(query: Tensor, key: Tensor, value: Tensor, metadata: object) -> Tensor:
        out = attend(query, key, value, metadata)  # type: ignore[arg-type]
        angles = metadata.angles.at(layer.layout, None, None)  # type: ignore[attr-defined]
        assert layer.layout is not None
        found.extend([out, layer.layout.rotate(query, angles)])
        return out

    sequence.layers[0].attend = watch  # type: ignore[method-assign]
    teacher_force(sequence, [5])
    out, query = found
    for head in range(layer.num_heads):
        key_head = head // (layer.num_heads // layer.num_kv_heads)
        seen = [*ids[key_head], PROMPT]
        weights = (entries.key[key_head, seen] @ query[head, 0] * layer.scaling).softmax(0)
        torch.testing.assert_close(
            out[head, 0], weights @ entries.value[key_head, seen], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    "beside", [Kivi(bits=4, group=8, residual=16), SelfExtend(group=4, window=32), DynamicNTK()],
    ids=str,
)  # fmt: skip
def test_heads_of_many_lengths_go_with_other_methods(beside: Method) -> None:
    model, text = tiny("llama"), tokens(30, seed=1)
    ours = of(model, beside, AdaKV(Budget(80), window=8))
    assert len(ours.layers[0].groups) == 2
    logits = teacher_force(ours.fork(), text)
    stepwise = torch.cat([teacher_force(ours, [token]) for token in text])
    torch.testing.assert_close(logits, stepwise, rtol=1e-3, atol=1e-3)
    everything = of(model, beside, AdaKV.identity(PROMPT))
    plain = of(model, beside)
    torch.testing.assert_close(
        teacher_force(everything, text), teacher_force(plain, text), rtol=1e-4, atol=1e-4
    )


def test_a_saved_sequence_goes_on_as_the_original() -> None:
    model = tiny("llama")
    sequence = of(model, AdaKV(Budget(60), window=8))
    data, tensors = pack_sequence(sequence)
    again = unpack_sequence(data, tensors.__getitem__, model, sequence.plan)
    assert kept(again) == kept(sequence)
    text = tokens(20, seed=1)
    assert torch.equal(*(teacher_force(each, text) for each in (sequence, again)))


def test_defaults_and_refusals() -> None:
    assert AdaKV() == AdaKV(Budget(512), alpha=0.2, safeguard="mix", window=32, kernel=7)
    with pytest.raises(RecipeError, match="without alpha above 0"):
        AdaKV(alpha=0.0, safeguard="floor")
    with pytest.raises(Refused, match="odd"):
        resolve([AdaKV(kernel=6)], tiny("llama"))
    with pytest.raises(Refused, match="the window alone"):
        resolve([AdaKV(budget=Budget(16))], tiny("llama"))
