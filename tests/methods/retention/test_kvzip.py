"""KVzip scores as its authors do, shares one budget among all heads, and is refused by name."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from functools import partial

import pytest
import torch
from torch import Tensor

import lengthwise
from lengthwise.documents.files import read_document
from lengthwise.engine.kv_cache.aside import read_aside
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.codecs.int8 import Int8
from lengthwise.methods.codecs.kivi import Kivi
from lengthwise.methods.codecs.think import Think
from lengthwise.methods.positions.dynamic_ntk import DynamicNTK
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.retention.counting import full_layers, layer_tokens
from lengthwise.methods.retention.kvzip import KVzip, Request, best, chosen, repeated
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens

PROMPT = 150
BARE = partial(KVzip, instruct=False)


def read(model: AdaptedModel, methods: Seq[Method], prompt: Seq[int]) -> Sequence:
    sequence = Sequence(model, resolve(methods, model))
    prefill(sequence, prompt, 64)
    sequence.end_prefill()
    return sequence


def kept(sequence: Sequence, layer: int) -> list[list[int]]:
    """Birth ids by key head."""
    heads: dict[int, list[int]] = {}
    count = sequence.model.layers[layer].num_kv_heads
    for group in sequence.layers[layer].groups:
        own = range(count) if group.heads is None else group.heads.tolist()
        index = group.near.index().expand(len(own), -1).tolist()
        heads |= dict(zip(own, index, strict=True))
    return [heads[head] for head in range(count)]


# Scores of kvpress 0.5.5 (KVzipPress, n_sink=4, chunk_size=128, float32), summed over the tokens of
# 260 but the first four, by head. Its prompt of later chunks was given the authors' space at its
# end, and the tokens behind the first four were its context.
THEIRS = {
    0: [8.500, 5.978, 5.859],
    7: [3.446, 5.455, 89.641],
    15: [3.433, 7.286, 59.725],
    29: [7.271, 4.795, 6.499],
}
# The best entry of each head.
PEAKS = {0: [210, 259, 248], 7: [8, 8, 40], 15: [246, 33, 252], 29: [258, 258, 181]}


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.load(dtype="float32")


def test_scores_are_those_that_kvpress_gives_on_a_real_model(model: lengthwise.Model) -> None:
    assert model.tokenizer is not None
    ids = list(model.tokenizer.encode(read_document().text, add_special_tokens=False))[1000:1260]
    sequence = Sequence(model.adapted)
    prefill(sequence, ids)
    sequence.end_prefill()
    retention = KVzip(chunk=128).start_retention(model.adapted)
    scores = retention.scores(full_layers(model.adapted), sequence, partial(read_aside, sequence))
    for layer, sums in THEIRS.items():
        own = scores[layer][:, 4:]
        assert torch.allclose(own.sum(1), torch.tensor(sums), atol=2e-3)
        assert (own.argmax(1) + 4).tolist() == PEAKS[layer]
    assert all(not score[:, :4].any() for score in scores.values())


def test_the_request_names_what_stands_before_a_chunk(model: lengthwise.Model) -> None:
    tokenizer = model.tokenizer
    assert tokenizer is not None
    request = Request(KVzip(), model.adapted)
    before = list(tokenizer.encode("one two three four five six seven eight nine ten"))
    first, later = tokenizer.decode(request.words(0)), tokenizer.decode(request.words(5, before))
    end = "<|im_end|>\n<|im_start|>assistant\n"
    assert first == "\n\nRepeat the previous context exactly." + end
    named = tokenizer.decode(before[-8:])
    assert named.strip() == "three four five six seven eight nine ten"
    assert later == (
        f"\n\nRepeat the part of the previous context exactly, starting with {named}{end}"
    )
    assert Request(KVzip(instruct=False), model.adapted).words(0) == []


def test_a_score_is_the_largest_probability_of_one_softmax() -> None:
    layer = tiny("llama").layers[0]
    query, first, chunk = torch.randn(4, 7, 16), torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    new = torch.randn(2, 7, 16)
    keys = torch.cat([first, chunk, new], 1).repeat_interleave(2, 0)
    logits = query @ keys.transpose(1, 2) * layer.scaling
    ahead = torch.ones(7, 7, dtype=torch.bool).triu(1)
    logits[:, :, 8:] = logits[:, :, 8:].masked_fill(ahead, -torch.inf)
    wanted = logits.softmax(-1)[:, :, 3:8].amax(1).view(2, 2, 5).amax(1)
    assert torch.allclose(repeated(layer, query, first, chunk, new), wanted, atol=1e-6)


def test_the_best_are_taken_until_the_budget_is_spent() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7])
    costs = torch.tensor([1, 4, 2, 4])
    assert best(scores, costs, 9).tolist() == [False, True, False, True]
    assert best(scores, costs, 10).tolist() == [False, True, True, True]
    assert best(scores, costs, 11).all() and not best(scores, costs, 3).any()


def test_entries_of_all_layers_of_a_layer_or_of_a_head_compete() -> None:
    scores = {
        0: torch.tensor([[9.0, 8, 7, 6], [5.0, 1, 1, 1]]),
        3: torch.tensor([[4.0, 1, 1, 1], [3.0, 2, 1, 1]]),
    }
    each, budgets = {0: 2, 3: 2}, {0: 8, 3: 8}

    def counts(compete: str) -> list[list[int]]:
        return [keep.sum(1).tolist() for keep in chosen(scores, each, budgets, compete).values()]

    # Ties go to what comes first.
    assert counts("all") == [[4, 1], [1, 2]]
    assert counts("layer") == [[4, 0], [2, 2]]
    assert counts("head") == [[2, 2], [2, 2]]


@pytest.fixture(scope="module")
def wide() -> AdaptedModel:
    """Heads as wide as SmolLM2's, in bf16: side tensors weigh what they weigh there."""
    model = tiny_model("llama", hidden_size=128, head_dim=64, max_position_embeddings=2048)
    return adapt(model.to(torch.bfloat16), verify=False)


@pytest.mark.parametrize("budget", ["400", "25%", "300KB"])
@pytest.mark.parametrize("compete", ["all", "layer", "head"])
def test_bytes_held_are_within_three_percent_of_the_budget(
    compete: str, budget: str, wide: AdaptedModel
) -> None:
    method = BARE(budget=Budget.parse(budget), compete=compete)
    sequence = read(wide, [method], tokens(1600))
    asked = layer_tokens(Budget.parse(budget), wide, 1600) * wide.bytes_per_token
    assert 0.97 * asked < sequence.nbytes() <= asked
    teacher_force(sequence, tokens(40, seed=1))
    # Each head's store grows 16 entries at a time.
    more = 48 * wide.bytes_per_token
    assert abs(sequence.nbytes() / (asked + more) - 1) < 0.03


def test_heads_keep_unequal_numbers_only_where_they_compete() -> None:
    model = tiny("llama")
    counts = {}
    for compete in ("all", "layer", "head"):
        sequence = read(model, [BARE(budget=Budget(60), compete=compete)], tokens(PROMPT))
        counts[compete] = [len(ids) for layer in (0, 1) for ids in kept(sequence, layer)]
    assert len(set(counts["head"])) == 1
    assert sum(counts["layer"][:2]) == sum(counts["layer"][2:])
    assert counts["layer"][0] != counts["layer"][1]
    assert sum(counts["all"][:2]) != sum(counts["all"][2:])
    # One budget: nobody holds more in all.
    assert max(map(sum, counts.values())) - min(map(sum, counts.values())) <= 3


def test_sinks_and_recent_tokens_stay_and_later_ones_too() -> None:
    model = tiny("llama")
    sequence = read(model, [BARE(budget=Budget(40), sinks=3, recent=5)], tokens(PROMPT))
    before = [kept(sequence, layer) for layer in (0, 1)]
    for ids in (ids for layer in before for ids in layer):
        assert ids[:3] == [0, 1, 2] and ids[-5:] == list(range(PROMPT - 5, PROMPT))
        assert ids == sorted(set(ids))
    teacher_force(sequence, tokens(20, seed=1))
    for layer in (0, 1):
        for ids, was in zip(kept(sequence, layer), before[layer], strict=True):
            assert ids == [*was, *range(PROMPT, PROMPT + 20)]


def test_a_chunk_at_a_time_scores_each_entry_once() -> None:
    model = tiny("llama")
    sequence = Sequence(model)
    prefill(sequence, tokens(PROMPT), 64)
    sequence.end_prefill()
    asked: list[list[int]] = []

    def counted(given: Seq[int], watch: object) -> None:
        asked.append(list(given))
        read_aside(sequence, given, watch)  # type: ignore[arg-type]

    retention = BARE(chunk=50).start_retention(model)
    scores = retention.scores(full_layers(model), sequence, counted)
    assert [len(given) for given in asked] == [50, 50, 46]
    assert [token for given in asked for token in given] == tokens(PROMPT)[4:]
    assert all((score[:, 4:] > 0).all() for score in scores.values())


def test_a_prompt_within_the_budget_is_left_whole_and_not_read_again() -> None:
    model = tiny("llama")
    sequence = Sequence(model, resolve([BARE(budget=Budget(PROMPT))], model))
    prefill(sequence, tokens(PROMPT), 64)
    calls = []
    forward = model.forward
    model.forward = lambda *given, **more: calls.append(1) or forward(*given, **more)  # type: ignore
    try:
        sequence.end_prefill()
    finally:
        model.forward = forward
    assert not calls and not sequence.dropped()


@pytest.mark.parametrize("codec", [Int8(), Kivi(bits=4, residual=32), Think(ratio=0.1)], ids=str)
def test_unequal_heads_can_be_encoded(codec: Method) -> None:
    model, more = tiny("llama"), tokens(30, seed=1)
    alone = teacher_force(read(model, [BARE(budget=Budget(90))], tokens(PROMPT)), more)
    both = teacher_force(read(model, [BARE(budget=Budget(90)), codec], tokens(PROMPT)), more)
    assert 0 < float((both - alone).abs().mean()) < 0.2 * float(alone.abs().mean())


def test_frequencies_that_follow_the_length_go_with_it() -> None:
    model, more = tiny("llama"), tokens(30, seed=1)

    def forced(*methods: Method) -> Tensor:
        return teacher_force(read(model, methods, tokens(PROMPT)), more)

    whole = forced(DynamicNTK(), BARE(budget=Budget(PROMPT)))
    assert torch.allclose(whole, forced(DynamicNTK()), atol=1e-4)
    assert not torch.allclose(whole, forced(DynamicNTK(), BARE(budget=Budget(60))), atol=1e-3)


def test_what_cannot_be_served_is_refused_before_anything_is_read() -> None:
    model = tiny("llama")
    with pytest.raises(Refused, match="tokenizer"):
        resolve([KVzip()], model)
    with pytest.raises(Refused, match="more than the budget"):
        resolve([BARE(budget=Budget(8), sinks=4, recent=5)], model)
    with pytest.raises(Refused, match="kvzip needs every key near"):
        resolve([SelfExtend(group=4, window=32), BARE()], model)
    with pytest.raises(Refused, match="window"):
        resolve([BARE()], tiny("mistral"))
    with pytest.raises(Refused, match="always kept"):
        resolve([BARE(budget=Budget(20), recent=16)], model).check_prompt(PROMPT)
    learned = tiny("gpt2")
    plan = resolve([BARE(budget=Budget(20), chunk=80)], learned)
    plan.check_prompt(170)
    with pytest.raises(Refused, match="smaller chunk"):
        plan.check_prompt(180)
