"""Documents in no order (PINE) and in fractional steps (V2PE), against their equations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lengthwise.engine.documents import read_documents
from lengthwise.engine.kv_cache.contexts import FractionalSteps
from lengthwise.engine.kv_cache.order_free import shifts
from lengthwise.engine.kv_cache.saved import pack_sequence, unpack_sequence
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.reach import distance, positions
from lengthwise.errors import Refused
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens

PREFIX, QUESTION, ANSWER = tokens(6, 1), tokens(11, 5), tokens(9, 6)
DOCUMENTS = [tokens(30, 2), tokens(17, 3), tokens(22, 4), tokens(9, 7)]
# All ways to rotate: halves, pairs, some channels, latent keys, layers without.
SERVED = ("llama", "gpt_neox", "glm", "deepseek_v3", "smollm3", "phi", "stablelm")


def read(
    model: AdaptedModel, recipe: str, documents: list[list[int]], chunk: int | None = None,
    offset: int = 0,
) -> Sequence:  # fmt: skip
    prefix = Sequence(model, resolve(recipe, model), offset=offset)
    prefill(prefix, PREFIX, chunk)
    return read_documents(prefix, documents, chunk)


def asked(sequence: Sequence, chunk: int | None = None) -> Tensor:
    """Logits that predict the answer behind the question; one token at a time."""
    prefill(sequence, QUESTION, chunk)
    sequence.end_prefill()
    return teacher_force(sequence, ANSWER)


def in_order(model: AdaptedModel, documents: list[list[int]]) -> Tensor:
    whole = Sequence(model)
    prefill(whole, [*PREFIX, *(token for each in documents for token in each), *QUESTION])
    whole.end_prefill()
    return teacher_force(whole, ANSWER)


def close(ours: Tensor, theirs: Tensor, most: float = 1e-4) -> bool:
    return float((ours - theirs).abs().max() / theirs.std().clamp_min(1.0)) < most


def sharp(family: str) -> AdaptedModel:
    return adapt(tiny_model(family, initializer_range=0.15))


@pytest.mark.parametrize("family", SERVED)
def test_identity_is_reading_in_order(family: str) -> None:
    model = tiny(family)
    assert close(asked(read(model, "pine", DOCUMENTS[:1])), in_order(model, DOCUMENTS[:1]))
    assert close(asked(read(model, "v2pe(delta=1)", DOCUMENTS)), in_order(model, DOCUMENTS))


@pytest.mark.parametrize(
    "recipe", ["pine", "yarn(factor=2) + pine", "pine + kivi(bits=4, group=8, residual=8)"]
)
def test_the_order_of_documents_is_nothing(recipe: str) -> None:
    model = sharp("llama")
    found = asked(read(model, recipe, DOCUMENTS))
    for order in ((2, 0, 3, 1), (1, 0, 2, 3), (3, 2, 1, 0)):
        mixed = [DOCUMENTS[n] for n in order]
        assert close(asked(read(model, recipe, mixed)), found, 1e-5)
    # It is something else that this could not show: in order it is a matter of nats.
    assert not close(in_order(model, mixed), in_order(model, DOCUMENTS), 0.05)


def pine_twin(model: AdaptedModel, documents: list[list[int]]) -> Tensor:
    """All of it in one stock forward, the equations written out with keys moved for each query."""
    lengths = [len(each) for each in documents]
    ids = [*PREFIX, *(token for each in documents for token in each), *QUESTION, *ANSWER]
    start, stop = len(PREFIX), len(PREFIX) + sum(lengths)
    owner = torch.full((len(ids),), -1)
    where = torch.arange(len(ids))
    begin = start
    for number, length in enumerate(lengths):
        owner[begin : begin + length] = number
        where[begin : begin + length] = torch.arange(stop - length, stop)
        begin += length

    def order_of(score: Tensor, first: int) -> list[int]:
        """By how much each document is moved back, by its score `[documents]`."""
        score = score.clone()
        if first >= 0:
            score[first] = torch.inf
        order = score.argsort(descending=True).tolist()
        moved, total = [0] * len(lengths), 0
        for number in order:
            moved[number], total = total, total + lengths[number]
        return moved

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts, rope = model.layers[layer], model.rope
        assert facts.layout is not None and rope is not None
        each = facts.num_heads // facts.num_kv_heads
        key, value = (x.repeat_interleave(each, 0) for x in (key, value))
        raw = query @ key.transpose(1, 2) * facts.scaling
        turned = facts.layout.rotate(query, rope.angles(facts.layout, None, where, None, 0))
        out = torch.zeros(*query.shape[:2], value.shape[-1])
        for head in range(len(query)):
            shared: dict[int, Tensor] = {}
            for number in range(len(lengths)):
                own = owner == number
                seen = (owner >= 0) & ~own
                p = torch.softmax(raw[head, own].masked_fill(~seen, -torch.inf), -1).sum(0)
                shared[number] = torch.stack(
                    [p[owner == j].sum() / n for j, n in enumerate(lengths)]
                )
            for row in range(len(ids)):
                mine = int(owner[row])
                place = where.clone()
                visible = torch.arange(len(ids)) <= row
                if mine >= 0 or row >= stop:
                    if mine >= 0:
                        score = shared[mine]
                    else:
                        p = torch.softmax(raw[head, row].masked_fill(owner < 0, -torch.inf), -1)
                        score = torch.stack(
                            [p[owner == j].sum() / n for j, n in enumerate(lengths)]
                        )
                    moved = torch.tensor(order_of(score, mine))
                    place[owner >= 0] -= moved[owner[owner >= 0]]
                if mine >= 0:
                    visible = place <= where[row]
                angles = rope.angles(facts.layout, None, place, None, 0)
                keys = facts.layout.rotate(key[head : head + 1], angles)[0]
                logits = (keys @ turned[head, row] * facts.scaling).masked_fill(
                    ~visible, -torch.inf
                )
                out[head, row] = torch.softmax(logits, -1) @ value[head]
        return out

    logits = model.forward(torch.tensor(ids), where, attention)
    first = len(ids) - len(ANSWER) - 1
    return logits[first:-1]


@pytest.mark.parametrize("documents", [DOCUMENTS, DOCUMENTS[:2]])
def test_pine_is_its_equations_written_out(documents: list[list[int]]) -> None:
    model = sharp("llama")
    with torch.no_grad():
        right = pine_twin(model, documents)
    for chunk in (None, 4):
        assert close(asked(read(model, "pine", documents, chunk), chunk), right)
    assert not close(in_order(model, documents), right, 0.05)


def v2pe_twin(model: AdaptedModel, documents: list[list[int]], delta: float) -> Tensor:
    """One stock forward at the positions that the paper's walk gives."""
    where, last = [float(n) for n in range(len(PREFIX))], len(PREFIX) - 1.0
    for each in documents:
        for _ in each:
            last += delta
            where.append(last)
        last = float(-int(-last // 1))
    where += [last + n + 1 for n in range(len(QUESTION) + len(ANSWER))]
    ids = [*PREFIX, *(token for each in documents for token in each), *QUESTION, *ANSWER]

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts, rope = model.layers[layer], model.rope
        assert facts.layout is not None and rope is not None
        angles = rope.angles(facts.layout, facts.rotary_type, torch.tensor(where), None, 0)
        query, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        each = facts.num_heads // facts.num_kv_heads
        key, value = (x.repeat_interleave(each, 0) for x in (key, value))
        score = query @ key.transpose(1, 2) * facts.scaling
        hidden = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
        return torch.softmax(score.masked_fill(hidden, -torch.inf), -1) @ value

    logits = model.forward(torch.tensor(ids), torch.tensor(where), attention)
    first = len(ids) - len(ANSWER) - 1
    return logits[first:-1]


@pytest.mark.parametrize("delta", [0.5, 0.25, 1 / 16])
def test_v2pe_is_the_walk_of_the_paper(delta: float) -> None:
    model = sharp("llama")
    with torch.no_grad():
        right = v2pe_twin(model, DOCUMENTS, delta)
    for chunk in (None, 5):
        found = asked(read(model, f"v2pe(delta={delta})", DOCUMENTS, chunk), chunk)
        assert close(found, right)
    assert not close(in_order(model, DOCUMENTS), right, 0.05)


def test_text_stands_at_whole_positions_and_spans_take_few() -> None:
    places, behind = FractionalSteps(0.25).places(6, [5, 3, 8])
    assert places[:5].tolist() == [5.25, 5.5, 5.75, 6.0, 6.25]
    assert places[5:8].tolist() == [7.25, 7.5, 7.75]
    assert places[8:].tolist() == [8.25, 8.5, 8.75, 9.0, 9.25, 9.5, 9.75, 10.0]
    assert behind == 11 and bool((places.diff() >= 0.25).all())
    sequence = read(tiny("llama"), "v2pe", DOCUMENTS)
    taken = 6 + sum(-(-len(each) // 4) for each in DOCUMENTS)
    assert positions(sequence) == taken and distance(sequence) == taken - 1
    assert sequence.offset == taken - len(sequence)
    for _, group in sequence.groups():
        assert len(group.near) == len(sequence) and group.contexts is None


@pytest.mark.parametrize("recipe", ["pine", "v2pe"])
def test_adding_to_all_positions_changes_nothing(recipe: str) -> None:
    model = sharp("llama")
    found = asked(read(model, recipe, DOCUMENTS))
    assert close(asked(read(model, recipe, DOCUMENTS, offset=777)), found, 1e-3)


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize("recipe", ["pine", "v2pe"])
def test_decoding_is_prefill_and_a_fork_is_its_original(family: str, recipe: str) -> None:
    model = tiny(family)
    sequence = read(model, recipe, DOCUMENTS, 7)
    fork = sequence.fork()
    found = asked(sequence, 3)
    prefill(fork, [*QUESTION, *ANSWER[:-1]])
    last = fork.last_logits
    assert last is not None and close(found[-1:], last[None])
    assert fork.nbytes() > 0 and len(fork) == len(sequence) - 1


@pytest.mark.parametrize(
    "recipe", ["pine", "v2pe", "pine + int8(residual=8)", "v2pe + snapkv(budget=40)"]
)
def test_a_file_holds_what_the_sequence_held(recipe: str) -> None:
    model = sharp("llama")
    sequence = read(model, recipe, DOCUMENTS)
    data, tensors = pack_sequence(sequence)
    found = unpack_sequence(data, tensors.__getitem__, model, resolve(recipe, model))
    assert found.apart == sequence.apart and found.offset == sequence.offset
    assert torch.equal(asked(found), asked(sequence))


def test_documents_are_held_once_and_their_copies_count_for_the_peak() -> None:
    model = tiny("llama")
    sequence, whole = read(model, "pine", DOCUMENTS), Sequence(model)
    prefill(whole, [*PREFIX, *(token for each in DOCUMENTS for token in each)])
    # But for spare room: keys are held un-rotated alone.
    assert sequence.nbytes() <= whole.nbytes()
    fork = sequence.fork()
    assert all(
        mine.contexts.stores[0].shared[0].key.data_ptr()  # type: ignore[union-attr]
        == theirs.contexts.stores[0].shared[0].key.data_ptr()  # type: ignore[union-attr]
        for (_, mine), (_, theirs) in zip(sequence.groups(), fork.groups(), strict=True)
    )
    asked(fork)
    assert fork.peak_bytes > fork.nbytes()


def test_steps_that_float32_cannot_tell_apart_are_refused() -> None:
    model = tiny("llama")
    prefix = Sequence(model, resolve("v2pe(delta=0.00390625)", model))
    prefill(prefix, PREFIX)
    rule = FractionalSteps(1 / 256)
    assert (
        float((rule.places(6, [64])[0].float().double() - rule.places(6, [64])[0]).abs().max()) == 0
    )
    read_documents(prefix, DOCUMENTS)
    prefix._tokens.extend([1] * 70_000)
    with pytest.raises(Refused, match=r"steps of 0.00390625 are uneven at position 70,0"):
        read_documents(prefix, DOCUMENTS)


def test_the_most_important_document_is_nearest_and_equals_keep_their_order() -> None:
    importance = torch.tensor([[[0.1, 0.7, 0.2], [0.3, 0.3, 0.1]]])
    assert shifts(importance, [10, 20, 30]).tolist() == [[[50, 0, 20], [0, 10, 30]]]
