"""TOVA keeps what the newest query attends to: as kvpress does at a prompt's end, and after it."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.saved import pack_sequence, unpack_sequence
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.plan import FULL, Plan
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.codecs.int8 import Int8
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.retention.tova import TOVA, NewestVotes, newest_votes
from lengthwise.models.adapt import adapt
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens
from tests.methods.retention.kvpress_case import LENGTH, PROMPT, adapted, read, recorded

LATER = tokens(90, seed=3)


class Watched(NewestVotes):
    """Notes what was there, what it was worth, and what is left, at each call."""

    def __init__(self, method: TOVA) -> None:
        super().__init__(method)
        self.seen: list[tuple[CacheUpdate, Tensor, Tensor, Tensor]] = []

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        if update.phase is Phase.CHUNK:
            return super().retain(group, update)
        before, votes = group.near.index()[0].clone(), newest_votes(group, update)
        keys = group.near.read()
        assert keys is not None
        super().retain(group, update)
        self.seen.append((update, votes, before, group.near.index()[0].clone()))
        assert update.queries is not None
        torch.testing.assert_close(votes, by_hand(update.queries[:, -1], keys.key, update))
        return None


def by_hand(query: Tensor, key: Tensor, update: CacheUpdate) -> Tensor:
    """The mean over heads of the softmax of one query `[heads, head_dim]` over all keys."""
    each = key.repeat_interleave(len(query) // len(key), 0)
    logits = torch.einsum("hd,hnd->hn", query, each) * update.layer.scaling
    return logits.softmax(-1).mean(0)


def watched(budget: int) -> Plan:
    return replace(FULL, retention=lambda: Watched(TOVA(budget=Budget(budget))))


def seen(sequence: Sequence, layer: int) -> list[tuple[CacheUpdate, Tensor, Tensor, Tensor]]:
    assert isinstance(sequence.retention, Watched)
    return [found for found in sequence.retention.seen if found[0].layer.index == layer]


def test_votes_of_a_prompt_are_those_of_kvpress() -> None:
    sequence = read(watched(LENGTH - 1))
    for layer, theirs in enumerate(recorded()["tova"]["scores"]):
        _, votes, _, _ = seen(sequence, layer)[0]
        # Its last score is no attention: it is there so that the last token stays.
        torch.testing.assert_close(votes[:-1], torch.tensor(theirs[0][:-1]), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [LENGTH, 7])
def test_what_stays_of_a_prompt_is_what_kvpress_keeps(chunk: int) -> None:
    # The index of a token costs 4 bytes beside 256, and one entry is dropped ahead.
    sequence = read(resolve([TOVA(budget=Budget(26))], adapted()), chunk)
    for layer, theirs in enumerate(recorded()["tova"]["kept"]):
        ours = sequence.layers[layer].groups[0].near.index()
        assert ours.shape[0] == 1, "one set for all heads"
        # kvpress keeps the last token always, and so one fewer of the others.
        assert theirs[0][-1] == LENGTH - 1 and len(ours[0]) == len(theirs[0])
        assert set(theirs[0][:-1]) <= set(ours[0].tolist())


@pytest.mark.parametrize("steps", [[1] * 60, [2, 1, 3] * 10])
def test_every_deletion_takes_what_the_newest_query_attends_to_least(steps: Seq[int]) -> None:
    sequence, at, deletions = read(watched(24)), 0, 0
    for count in steps:
        count = min(count, sequence.tokens_until_change() or count)
        teacher_force(sequence, LATER[at : at + count], count)
        at += count
    for _, votes, before, after in seen(sequence, 1):
        if len(after) < len(before):
            stay = votes.topk(len(after)).indices.sort().values
            assert torch.equal(after, before[stay])
            deletions += 1
    assert deletions > 20


@pytest.mark.parametrize("count", [1, 2])
def test_the_query_while_decoding_is_that_of_the_newest_token(count: int) -> None:
    """In the first layer, where nothing that was dropped has changed it yet."""
    sequence = read(watched(24))
    teacher_force(sequence, LATER[:count], count)
    update = seen(sequence, 0)[-1][0]
    assert update.queries is not None and update.query_index is not None
    assert int(update.query_index[-1]) == LENGTH + count - 1
    whole = Sequence(adapted(), watched(200))
    prefill(whole, [*PROMPT, *LATER[:count]])
    whole.end_prefill()
    theirs = seen(whole, 0)[0][0].queries
    assert theirs is not None
    torch.testing.assert_close(update.queries[:, -1:], theirs, rtol=1e-4, atol=1e-5)


def test_the_budget_holds_at_all_times_and_drops_come_in_runs() -> None:
    model = adapt(tiny_model("llama", hidden_size=128, head_dim=64).to(torch.bfloat16))
    sequence = Sequence(model, resolve([TOVA(budget=Budget(256))], model))
    prefill(sequence, tokens(600), 200)
    sequence.end_prefill()
    asked, sizes = 256 * model.bytes_per_token, []
    for token in tokens(24, seed=2):
        teacher_force(sequence, [token])
        sizes.append(len(sequence.layers[0].groups[0].near))
        assert abs(sequence.nbytes() / asked - 1) < 0.03
    assert max(sizes) < 256 and min(sizes) >= 256 - 8
    assert sum(b < a for a, b in zip(sizes, sizes[1:], strict=False)) in (5, 6)


def test_a_saved_sequence_goes_on_as_the_original() -> None:
    plan = resolve([TOVA(budget=Budget(24))], adapted())
    sequence = read(plan)
    teacher_force(sequence, LATER[:3])
    data, tensors = pack_sequence(sequence)
    again = unpack_sequence(data, tensors.__getitem__, adapted(), plan)
    assert torch.equal(*(teacher_force(each, LATER[3:40]) for each in (sequence, again)))
    assert sequence.layers[1].groups[0].near.index().shape == (
        1,
        len(again.layers[1].groups[0].near),
    )


def test_entries_that_are_encoded_one_by_one_are_dropped_too() -> None:
    model = tiny("llama")
    sequence = Sequence(model, resolve([TOVA(budget=Budget(40)), Int8()], model))
    prefill(sequence, tokens(120))
    sequence.end_prefill()
    for token in LATER[:20]:
        teacher_force(sequence, [token])
        assert sequence.layers[0].groups[0].kept() <= 40
    assert sequence.dropped()


def test_defaults_and_refusals() -> None:
    assert TOVA() == TOVA(budget=Budget(512), floor=128)
    model = tiny("llama")
    with pytest.raises(Refused, match="do not pay for one entry"):
        TOVA(budget=Budget(2)).check_prompt(model, 50, FULL.placement)
    with pytest.raises(Refused, match="every key near"):
        resolve([TOVA(), SelfExtend()], model)
