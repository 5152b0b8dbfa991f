"""Edited sessions (PIE): what stands before an edit is kept, what stands behind it is moved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import lengthwise
from lengthwise.api.session import Session
from lengthwise.api.session_editing import aligned
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import chat_model

TEXT = tokens(96)
NEW = tokens(7, seed=5)


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15))


@pytest.fixture(scope="module")
def talking() -> lengthwise.Model:
    return chat_model()


def entries(session: Session) -> list[tuple[Tensor, Tensor, Tensor]]:
    found = []
    for layer in session.held.layers:
        tail = layer.groups[0].near.tail
        assert tail is not None
        found.append((tail.key, tail.value, tail.index))
    return found


def law(session: Session) -> Tensor:
    """The next token's log-probabilities behind what was read."""
    logits = session.held.last_logits
    assert logits is not None
    return torch.log_softmax(logits.float(), -1)


SPANS = {"insert": (30, 30), "delete": (30, 41), "replace": (30, 35), "alike": (30, 37)}


@pytest.mark.parametrize("kind", SPANS)
def test_before_and_in_the_edit_all_is_as_if_read_again_and_behind_it_moved(
    model: lengthwise.Model, kind: str
) -> None:
    start, stop = SPANS[kind]
    new = [] if kind == "delete" else NEW
    session = model.read(TEXT)
    old = entries(session)
    session.edit((start, stop), new)
    whole = model.read([*TEXT[:start], *new, *TEXT[stop:]])
    assert session.tokens == whole.tokens and session.held.tokens == whole.tokens
    behind = start + len(new)
    for layer, (was, now, fresh) in enumerate(
        zip(old, entries(session), entries(whole), strict=True)
    ):
        for mine, theirs in zip(now, fresh, strict=True):
            assert torch.allclose(mine[:, :behind], theirs[:, :behind], atol=1e-5)
        assert torch.equal(now[2], fresh[2])
        # Values are not touched, but for the last token's, which is computed again.
        assert torch.equal(now[1][:, behind:-1], was[1][:, stop:-1])
        if layer == 0:
            # A key of the first layer depends on token and place alone.
            assert torch.allclose(now[0], fresh[0], atol=1e-5)
        else:
            assert not torch.allclose(now[0][:, behind:-1], fresh[0][:, behind:-1], atol=1e-3)
    assert "edited" in session.lossy and "lossy" in repr(session)
    assert not torch.allclose(law(session), law(whole), atol=1e-5)


def test_the_last_token_reads_what_was_moved(model: lengthwise.Model) -> None:
    """Its logits are those of a model that is given the moved entries as they are."""
    session = model.read(TEXT)
    session.edit((30, 33), NEW)
    mixed = session.held.fork()
    last = session.tokens[-1]
    for layer in mixed.layers:
        layer.groups[0].near.retract(1)
    del mixed._tokens[-1]
    from lengthwise.engine.loop import extend

    (logits,), _ = extend([(mixed, [last], None)])
    assert torch.allclose(logits[-1], session.held.last_logits, atol=1e-5)


def test_an_edit_that_changes_nothing_leaves_every_bit(model: lengthwise.Model) -> None:
    session = model.read(TEXT)
    old, before = entries(session), law(session)
    session.edit((10, 20), TEXT[10:20])
    session.edit((50, 50), [])
    for was, now in zip(old, entries(session), strict=True):
        assert all(a.data_ptr() == b.data_ptr() for a, b in zip(was, now, strict=True))
    assert torch.equal(law(session), before) and not session.lossy


def test_an_edit_at_the_end_is_what_reading_it_is(model: lengthwise.Model) -> None:
    for span, new in (((90, 96), NEW), ((90, 96), []), ((96, 96), NEW)):
        session = model.read(TEXT)
        session.edit(span, new)
        whole = model.read([*TEXT[: span[0]], *new])
        assert torch.allclose(law(session), law(whole), atol=1e-5)
        assert not session.lossy


def test_several_edits_and_reading_again_from_the_first_of_them(model: lengthwise.Model) -> None:
    session = model.read(TEXT)
    ids = list(TEXT)
    for (start, stop), new in (((60, 62), NEW), ((20, 20), NEW[:3]), ((70, 80), []), ((5, 6), [9])):
        session.edit((start, stop), new)
        ids[start:stop] = new
        assert session.tokens == ids and len(session) == len(ids)
        fresh = entries(model.read(ids))
        assert torch.allclose(entries(session)[0][0], fresh[0][0], atol=1e-5)
    session.edit((40, 41), [11, 12], exact=True)
    ids[40:41] = [11, 12]
    whole = model.read(ids)
    assert session.tokens == ids and not session.lossy
    assert torch.allclose(law(session), law(whole), atol=1e-5)


def test_sessions_that_were_asked_are_edited_too(model: lengthwise.Model) -> None:
    """What they hold is shared with those that were asked, in pieces."""
    session, plain = model.read(TEXT[:50]), model.read(TEXT)
    session.ask([7], max_new_tokens=2, stop_ids=[])
    session.append(TEXT[50:])
    session.ask([7], max_new_tokens=2, stop_ids=[])
    for each in (session, plain):
        each.edit((30, 33), NEW)
    for mine, theirs in zip(entries(session), entries(plain), strict=True):
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(mine, theirs, strict=True))
    session.ask([7], max_new_tokens=2, stop_ids=[])
    session.edit((60, 61), NEW, exact=True)
    ids = [*TEXT[:30], *NEW, *TEXT[33:]]
    assert torch.allclose(law(session), law(model.read([*ids[:60], *NEW, *ids[61:]])), atol=1e-5)


def test_exact_edits_keep_what_stands_before_them(model: lengthwise.Model) -> None:
    session = model.read(TEXT)
    kept = entries(session)[1][0][:, :50].clone()
    session.edit((50, 55), NEW, exact=True)
    assert torch.equal(entries(session)[1][0][:, :50], kept)
    ids = [*TEXT[:50], *NEW, *TEXT[55:]]
    whole = model.generate([*ids, 7], max_new_tokens=8, stop_ids=[])
    found = session.ask([7], max_new_tokens=8, stop_ids=[])
    assert found.token_ids == whole.token_ids and not found.metrics.notes


def test_rotation_is_what_keeps_the_answer_near(model: lengthwise.Model) -> None:
    """Positions alone: an insertion that the text behind hardly sees, with and without turning."""
    ids = [*TEXT[:8], *NEW, *TEXT[8:]]
    whole = law(model.read(ids))
    session = model.read(TEXT)
    session.edit((8, 8), NEW)
    turned = float((whole.exp() * (whole - law(session))).sum())
    still = model.read(TEXT)
    from lengthwise.engine import mixed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixed.Turner, "__call__", lambda self, layer, key: key)
        still.edit((8, 8), NEW)
    unturned = float((whole.exp() * (whole - law(still))).sum())
    assert 0 < turned < unturned


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_turning_a_hundred_times_does_not_drift(dtype: torch.dtype) -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15).to(dtype))
    session = model.read(TEXT)
    for step in range(50):
        session.edit((20, 20), [3 + step % 90])
        session.edit((20, 21), [])
    once = model.read(TEXT)
    assert session.tokens == TEXT
    # Back where they were computed, keys are what they were, but for the last token's.
    for (key, value, _), (first, same, _) in zip(entries(session), entries(once), strict=True):
        assert torch.equal(value[:, :-1], same[:, :-1])
        if dtype is torch.bfloat16:
            assert torch.equal(key[:, :-1], first[:, :-1])
        else:
            assert torch.allclose(key, first, atol=2e-5)
    assert (session.nbytes > session.held.nbytes()) == (dtype is torch.bfloat16)


def test_keys_of_several_edits_are_turned_once_each_from_the_first_version() -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15).to(torch.bfloat16))
    session, ids = model.read(TEXT), list(TEXT)
    for (start, stop), new in (((60, 60), NEW), ((20, 25), []), ((70, 70), [5, 6]), ((2, 2), [9])):
        session.edit((start, stop), new)
        ids[start:stop] = new
    one = model.read(TEXT)
    one.edit((2, 90), ids[2:-6])
    # The tail was turned four times here and once there, by as much in all.
    for (key, _, _), (same, _, _) in zip(entries(session), entries(one), strict=True):
        assert torch.equal(key[:, -5:-1], same[:, -5:-1])


def test_characters_of_a_document_are_edited(talking: lengthwise.Model) -> None:
    text = "Ada signed the contract on the third of May. Bob did not. It was raining."
    session = talking.read(text)
    start = text.index("Bob")
    session.edit((start, start + 3), "Charles Babbage")
    new = text.replace("Bob", "Charles Babbage")
    assert session.source.data()["text"] == new
    assert session.tokens == talking.read(new).tokens
    answer = session.ask("Who?", max_new_tokens=4, stop_ids=[])
    assert any("edited" in note for note in answer.metrics.notes)
    assert answer.metrics.reused_tokens == len(session.held)
    assert session.fork().lossy == session.lossy
    session.append(" And then?")
    assert session.lossy
    session.edit((0, 0), "So. ")
    assert session.tokens == talking.read("So. " + new + " And then?").tokens
    assert torch.allclose(
        entries(session)[0][0], entries(talking.read("So. " + new + " And then?"))[0][0], atol=1e-5
    )
    session.compress()
    with pytest.raises(Refused, match="compressed.*exact=True"):
        session.edit((0, 4), "")
    session.edit((0, 4), "", exact=True)
    assert session.compressed and not session.lossy
    whole = talking.read(new + " And then?")
    assert session.tokens == whole.tokens
    found = session.ask("Who?", max_new_tokens=6, stop_ids=[])
    assert found.token_ids == whole.ask("Who?", max_new_tokens=6, stop_ids=[]).token_ids


def test_a_saved_session_says_that_it_was_edited(model: lengthwise.Model, tmp_path: object) -> None:
    session = model.read(TEXT)
    session.edit((30, 33), NEW)
    path = f"{tmp_path}/edited.session"
    session.save(path)
    again = lengthwise.open_session(path, model)
    assert again.lossy == session.lossy and again.tokens == session.tokens
    assert torch.equal(law(again), law(session))
    again.edit((0, 0), [9], exact=True)
    assert torch.allclose(law(again), law(model.read(again.tokens)), atol=1e-5) and not again.lossy


def test_what_came_through_a_lossy_file_says_so_whatever_is_edited(
    model: lengthwise.Model, tmp_path: Path
) -> None:
    model.read(TEXT).save(tmp_path / "coded", "cachegen(level=1)")
    for span, edited in (((30, 33), True), ((90, 96), False)):
        session = lengthwise.open_session(tmp_path / "coded", model)
        session.edit(span, NEW)
        assert "cachegen level 1" in session.lossy and ("edited" in session.lossy) == edited
        notes = session.ask([7], max_new_tokens=2, stop_ids=[]).metrics.notes
        assert any("cachegen level 1" in note for note in notes)
    session.edit((0, 1), [9], exact=True)
    assert not session.lossy
    assert torch.allclose(law(session), law(model.read(session.tokens)), atol=1e-5)


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("snapkv(budget=25%, window=8, floor=8)", "which entries stay"),
        ("kivi(bits=4, group=8, residual=16)", "encodes"),
        ("streaming(sinks=2, window=24)", "places or chooses"),
        ("infllm(budget=32, window=16, block=4, init=2)", "places or chooses"),
        ("dynamic_ntk", "follow the length"),
        ("self_extend(group=4, window=16)", "places or chooses"),
    ],
)
def test_recipes_whose_entries_are_not_plain_are_refused_and_read_again(
    model: lengthwise.Model, recipe: str, reason: str
) -> None:
    session = model.read(TEXT, recipe)
    before = session.tokens
    with pytest.raises(Refused, match=reason):
        session.edit((30, 33), NEW)
    assert session.tokens == before
    session.edit((30, 33), NEW, exact=True)
    whole = model.read([*TEXT[:30], *NEW, *TEXT[33:]], recipe)
    asked = {"max_new_tokens": 6, "stop_ids": []}
    assert session.ask([7, 8], **asked).token_ids == whole.ask([7, 8], **asked).token_ids


@pytest.mark.parametrize("recipe", ["yarn(factor=2)", "pi(factor=2)", "ntk(factor=2)", "lookup"])
def test_positions_that_stay_and_drafters_go_with_it(model: lengthwise.Model, recipe: str) -> None:
    session = model.read(TEXT, recipe)
    session.edit((30, 33), NEW)
    whole = model.read([*TEXT[:30], *NEW, *TEXT[33:]], recipe)
    assert torch.allclose(entries(session)[0][0], entries(whole)[0][0], atol=1e-5)
    if recipe == "lookup":
        plain = model.read(TEXT)
        plain.edit((30, 33), NEW)
        asked = {"max_new_tokens": 12, "stop_ids": []}
        assert session.ask([7], **asked).token_ids == plain.ask([7], **asked).token_ids


@pytest.mark.parametrize("span", [(5, 4), (-1, 3), (0, 97), (1,), "ab", None, (0.5, 2), (1, 2, 3)])
def test_spans_outside_what_was_read_are_refused(model: lengthwise.Model, span: object) -> None:
    session = model.read(TEXT)
    with pytest.raises(LengthwiseError, match="span="):
        session.edit(span, NEW)  # type: ignore[arg-type]


def test_what_cannot_be_edited_is_said(model: lengthwise.Model, talking: lengthwise.Model) -> None:
    with pytest.raises(LengthwiseError, match="messages is not edited"):
        talking.read([{"role": "user", "content": "Hello"}]).edit((0, 1), "J")
    with pytest.raises(LengthwiseError, match="empty document"):
        talking.read("Hello").edit((0, 5), " ")
    with pytest.raises(LengthwiseError, match="no token"):
        model.read(TEXT).edit((0, 96), [])
    with pytest.raises(LengthwiseError, match="edit takes a text"):
        talking.read("Hello").edit((0, 5), [1, 2])
    with pytest.raises(LengthwiseError, match="outside the vocabulary"):
        model.read(TEXT).edit((0, 5), [10**6])


def test_texts_are_aligned_by_what_they_begin_and_end_with() -> None:
    assert aligned([1, 2, 3, 4], [1, 2, 9, 3, 4]) == (2, 2, 3)
    assert aligned([1, 2, 3, 4], [1, 4]) == (1, 3, 1)
    assert aligned([1, 1, 1], [1, 1, 1, 1]) == (3, 3, 4)
    assert aligned([1, 2], [3, 4, 5]) == (0, 2, 3)
    assert aligned([], [3]) == (0, 0, 1)
    assert aligned([1, 2], [1, 2]) == (2, 2, 2)
