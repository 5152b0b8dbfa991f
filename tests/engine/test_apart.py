"""Documents read apart: one is reading in order, and their order is nothing."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from lengthwise.engine import apart
from lengthwise.engine.kv_cache.contexts import ContextWeights
from lengthwise.engine.kv_cache.saved import pack_sequence, unpack_sequence
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill, teacher_force
from lengthwise.engine.plan import Plan
from lengthwise.engine.reach import distance, positions
from lengthwise.engine.static.rooms import open_rooms
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tokens

PREFIX, QUESTION, ANSWER = tokens(6, 1), tokens(11, 5), tokens(9, 6)
DOCUMENTS = [tokens(30, 2), tokens(17, 3), tokens(22, 4)]
# Long enough for every codec to encode some of each.
LONG = [tokens(90, 2), tokens(57, 3), tokens(72, 4)]
PLAIN = "ape(temperature=1, scale=1)"
# All ways to rotate: halves, pairs, some channels, latent keys, layers without.
SERVED = ("llama", "gpt_neox", "glm", "deepseek_v3", "smollm3", "phi", "stablelm")


def plan_of(recipe: str, model: AdaptedModel) -> Plan:
    return resolve(recipe, model)


def joined(
    model: AdaptedModel, recipe: str, documents: list[list[int]], chunk: int | None = None
) -> Sequence:
    plan = plan_of(recipe, model)
    prefix = Sequence(model, plan)
    prefill(prefix, PREFIX, chunk)
    return apart.join([apart.read_apart(prefix, each, chunk) for each in documents])


def asked(sequence: Sequence, chunk: int | None = None) -> Tensor:
    """Logits that predict the answer behind the question; one token at a time."""
    prefill(sequence, QUESTION, chunk)
    sequence.end_prefill()
    return teacher_force(sequence, ANSWER)


@pytest.mark.parametrize("family", SERVED)
def test_one_document_at_one_and_one_is_reading_in_order(family: str) -> None:
    model = tiny(family)
    found = asked(joined(model, PLAIN, DOCUMENTS[:1]))
    whole = Sequence(model)
    prefill(whole, [*PREFIX, *DOCUMENTS[0], *QUESTION])
    whole.end_prefill()
    right = teacher_force(whole, ANSWER)
    assert float((found - right).abs().max()) < 1e-4
    sharper = asked(joined(model, "ape", DOCUMENTS[:1]))
    assert float((sharper - right).abs().max()) > 1e-3


@pytest.mark.parametrize("recipe", ["ape", PLAIN, "yarn(factor=2) + ape", "ape + int8(residual=8)"])
def test_the_order_of_documents_is_nothing(recipe: str) -> None:
    model = tiny("llama")
    found = asked(joined(model, recipe, LONG))
    for order in ((2, 0, 1), (1, 0, 2)):
        other = asked(joined(model, recipe, [LONG[n] for n in order]))
        assert float((found - other).abs().max()) < 1e-5


@pytest.mark.parametrize("last", [True, False])
def test_states_of_documents_are_put_together_as_far_as_they_were_noted(last: bool) -> None:
    model = tiny("llama")
    prefix = Sequence(model, plan_of("ape", model))
    prefix.noted, prefix.notes_last = [], last
    prefill(prefix, PREFIX)
    read = [apart.read_apart(prefix, each) for each in DOCUMENTS]
    found = apart.join(read)
    own = [torch.cat(each.noted or [])[len(PREFIX) - len(each) :] for each in read]
    tail = torch.cat((found.noted or [])[-2:])
    assert torch.equal(tail, torch.cat(own[1:]))
    assert [len(each) for each in own] == [1 if last else len(each) for each in DOCUMENTS]
    prefill(found, QUESTION)
    assert sum(map(len, found.noted or [])) == (1 if last else len(found))


def twin(model: AdaptedModel, weights: ContextWeights) -> Tensor:
    """All of it in one stock forward, with a mask and positions, and the equations written out."""
    texts = [*DOCUMENTS, [*QUESTION, *ANSWER]]
    ids = [*PREFIX, *(token for each in texts for token in each)]
    start, longest = len(PREFIX), max(map(len, DOCUMENTS))
    owner = torch.tensor([-1] * start + [n for n, each in enumerate(texts) for _ in each])
    where = [*range(start)]
    for number, each in enumerate(texts):
        begin = start + (longest if number == len(DOCUMENTS) else 0)
        where += range(begin, begin + len(each))
    positions, last = torch.tensor(where), len(DOCUMENTS)
    order = torch.arange(len(ids))
    sees = (order[None] <= order[:, None]) & (
        (owner[None] == owner[:, None]) | (owner[None] < 0) | (owner[:, None] == last)
    )
    asks, told = owner == last, (owner >= 0) & (owner < last)

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts, rope = model.layers[layer], model.rope
        assert facts.layout is not None and rope is not None
        angles = rope.angles(facts.layout, facts.rotary_type, positions, None, 0)
        query, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        each = facts.num_heads // facts.num_kv_heads
        key, value = (x.repeat_interleave(each, 0) for x in (key, value))
        score = (query @ key.transpose(1, 2) * facts.scaling).masked_fill(~sees, -torch.inf)
        apart = asks[:, None] & told[None]
        cold = score / weights.temperature
        lse = torch.logsumexp(cold.masked_fill(~apart, -torch.inf)[:, asks], -1)
        factor = weights.scale * weights.temperature
        shifted = cold.clone()
        shifted[:, asks] += ((factor - 1) * lse)[..., None]
        return torch.softmax(torch.where(apart, shifted, score), -1) @ value

    logits = model.forward(torch.tensor(ids), positions, attention)
    first = len(ids) - len(ANSWER) - 1
    return logits[first:-1]


@pytest.mark.parametrize(("temperature", "scale"), [(1.0, 1.0), (0.9, 0.9), (0.5, 1.2)])
@pytest.mark.parametrize("chunk", [None, 5])
def test_it_is_the_equations_written_out(
    temperature: float, scale: float, chunk: int | None
) -> None:
    model = tiny("llama")
    recipe = f"ape(temperature={temperature}, scale={scale})"
    found = asked(joined(model, recipe, DOCUMENTS, chunk), chunk)
    with torch.no_grad():
        right = twin(model, ContextWeights(temperature, scale))
    assert float((found - right).abs().max()) < 1e-4


def test_documents_may_be_joined_from_joined_ones_and_keep_their_own() -> None:
    model = tiny("llama")
    one, two = joined(model, "ape", DOCUMENTS[:1]), joined(model, "ape", DOCUMENTS[1:])
    before = [x.clone() for x in one.head_groups(0)[0].contexts.stores[0].shared[0].tensors()]  # type: ignore[union-attr]
    both = apart.join([two, one])
    found = asked(both.fork())
    assert float((found - asked(joined(model, "ape", DOCUMENTS))).abs().max()) < 1e-5
    assert both.apart is not None and both.apart.lengths == (17, 22, 30)
    assert len(both) == both.apart.stop == 75
    after = one.head_groups(0)[0].contexts.stores[0].shared[0].tensors()  # type: ignore[union-attr]
    assert all(map(torch.equal, before, after))
    # A fork reads the documents where its original has them.
    fork = both.fork()
    mine, theirs = (s.head_groups(0)[0].contexts.stores[0].shared[0] for s in (both, fork))  # type: ignore[union-attr]
    assert mine.key.data_ptr() == theirs.key.data_ptr()
    assert fork.head_groups(0)[0].near.tail.key.data_ptr() != (  # type: ignore[union-attr]
        both.head_groups(0)[0].near.tail.key.data_ptr()  # type: ignore[union-attr]
    )


def test_what_follows_stands_behind_the_longest_and_lengths_are_positions() -> None:
    model = tiny("llama")
    sequence = joined(model, "ape", DOCUMENTS)
    assert sequence.offset == -(17 + 22)
    assert positions(sequence) == len(PREFIX) + 30
    assert distance(sequence) == len(PREFIX) + 30 - 1
    assert not sequence.dropped()


@pytest.mark.parametrize("recipe", ["ape", "ape + kivi(bits=4, group=8, residual=8)"])
def test_rows_of_a_batch_are_what_they_are_alone(recipe: str) -> None:
    model = tiny("llama")
    rows = [joined(model, recipe, DOCUMENTS[:n]) for n in (1, 2, 3)]
    rows.append(Sequence(model))
    alone = [row.fork() for row in rows]
    steps = [QUESTION[: 4 + n] for n in range(len(rows))]
    for part in (steps, [[token] for token in ANSWER[:4]]):
        together, metadata = extend([(r, p, None) for r, p in zip(rows, part, strict=True)], "all")
        for row, new, step in zip(rows, part, metadata, strict=True):
            row.commit(step, new)
            row.end_prefill()
        for sequence, new, found in zip(alone, part, together, strict=True):
            (right,), (step,) = extend([(sequence, new, None)], "all")
            sequence.commit(step, new)
            sequence.end_prefill()
            assert float((right - found).abs().max()) < 1e-5


@pytest.mark.parametrize("recipe", ["int8(residual=8)", "kivi(bits=4, group=8, residual=8)",
                                    "think(ratio=0.5, recent=8, window=8)"])  # fmt: skip
def test_codecs_encode_the_documents_too(recipe: str) -> None:
    model = tiny("llama")
    session = joined(model, f"ape + {recipe}", LONG)
    found, plain = session.fork(), joined(model, "ape", LONG)
    ours, theirs = asked(found), asked(plain)
    assert found.nbytes() < 0.9 * plain.nbytes()
    for _, group in found.groups():
        assert group.contexts is not None and all(store.closed for store in group.contexts.stores)
    assert float((ours - theirs).abs().max()) > 1e-5
    # What was joined is as it was: a question encodes a copy.
    assert all(g.contexts and not g.contexts.stores[0].closed for _, g in session.groups())
    assert float((asked(session) - ours).abs().max()) < 1e-6


def test_fast_paths_are_not_taken_and_would_be_wrong() -> None:
    model = tiny("llama")
    sequence = joined(model, "ape", DOCUMENTS)
    right = asked(sequence.fork())
    prefill(sequence, QUESTION)
    sequence.end_prefill()
    assert not any(layer.steps_plainly(1) for layer in sequence.layers)
    assert open_rooms([sequence], [1]) is None
    for layer in sequence.layers:
        layer.groups[0].contexts = None
    assert all(layer.steps_plainly(1) for layer in sequence.layers)
    assert float((teacher_force(sequence, ANSWER) - right).abs().max()) > 1e-3


@pytest.mark.parametrize("recipe", ["ape", "ape + int8(residual=8)"])
def test_it_comes_back_from_plain_data(recipe: str) -> None:
    model = tiny("llama")
    sequence = joined(model, recipe, LONG)
    if "int8" in recipe:
        sequence.end_prefill()
    data, tensors = pack_sequence(sequence)
    plan = plan_of(recipe, model)
    again = unpack_sequence(data, tensors.__getitem__, model, plan)
    assert again.apart == sequence.apart and again.offset == sequence.offset
    assert again.nbytes() == sequence.nbytes()
    found, right = (s.fork() for s in (again, sequence))
    if "int8" not in recipe:
        assert torch.equal(asked(found), asked(right))
        return
    ours, theirs = (extend([(s, QUESTION, None)], "all")[0][0] for s in (found, right))
    assert torch.equal(ours, theirs)


def test_other_weights_serve_what_is_joined_already() -> None:
    model = tiny("llama")
    sequence = joined(model, "ape", DOCUMENTS)
    other = dataclasses.replace(plan_of(PLAIN, model))
    found = asked(apart.join([sequence], other))
    assert float((found - asked(joined(model, PLAIN, DOCUMENTS))).abs().max()) < 1e-5
