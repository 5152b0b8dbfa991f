"""Where a prompt goes on otherwise than what was read: rolled back, or read again, and right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.api.cartridge import initial_session
from tests.chat_models import TEMPLATE, chat_model

NEW, NEXT = 6, [70, 71, 72]
DOCUMENT = "Ada signed the contract on the third of May, and so did Bob"
USER = {"role": "user", "content": f"{DOCUMENT}."}
ANSWER = {"role": "assistant", "content": "Hello."}
# What was read, what is appended, both. With "bb" the last token of the first text is another one.
GIVEN: dict[str, tuple[Any, Any, Any]] = {
    "messages": ([USER], ANSWER, [USER, ANSWER]),
    "two": ([USER], [ANSWER, USER], [USER, ANSWER, USER]),
    "text": (DOCUMENT, " Carol.", f"{DOCUMENT} Carol."),
    "joined": (DOCUMENT, "by was away.", f"{DOCUMENT}by was away."),
}
SNAPKV, KIVI = "snapkv(budget=50%, window=8, floor=8)", "kivi(bits=4, group=8, residual=16)"


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model(TEMPLATE, (("b", "b"), ("Ċ", "b")))


@pytest.mark.parametrize("recipe", ["full", KIVI, SNAPKV, "h2o(budget=40)"])
@pytest.mark.parametrize("kind", GIVEN)
def test_a_compressed_session_holds_what_was_appended_and_comes_back(
    model: lengthwise.Model, tmp_path: Path, kind: str, recipe: str
) -> None:
    first, more, both = GIVEN[kind]
    session, whole = model.read(first, recipe), model.read(both, recipe)
    session.compress()
    session.append(more)
    whole.compress()
    assert session.compressed and session.tokens == whole.tokens
    assert session.held.tokens == whole.tokens
    assert torch.allclose(session.score(NEXT), whole.score(NEXT), atol=1e-4)
    assert ["all of it was read again" in note for note in session.notes] == [True]
    session.save(tmp_path / "held")
    again = lengthwise.open_session(tmp_path / "held", model)
    assert torch.allclose(again.score(NEXT), whole.score(NEXT), atol=1e-4)


@pytest.mark.parametrize("recipe", ["full", KIVI, SNAPKV])
def test_a_question_that_joins_what_a_compressed_session_holds(
    model: lengthwise.Model, recipe: str
) -> None:
    session = model.read(DOCUMENT, recipe)
    session.compress()
    plain = session.ask("Who?", max_new_tokens=NEW)
    assert plain.metrics.reused_tokens == len(session)
    joined, other = session.ask_batch(["by whom?", "Who?"], max_new_tokens=NEW)
    message = [{"role": "user", "content": f"{DOCUMENT}\n\nby whom?"}]
    assert joined.token_ids == model.generate(message, recipe, max_new_tokens=NEW).token_ids
    assert joined.metrics.reused_tokens == 0
    assert any("all of it was read again" in note for note in joined.metrics.notes)
    assert other.token_ids == plain.token_ids and session.compressed


@pytest.mark.parametrize(
    ("recipe", "again"),
    [("full", False), ("lookup", False), ("yarn(factor=2)", False), (KIVI, False), (SNAPKV, True),
     ("h2o(budget=40)", True)],
)  # fmt: skip
@pytest.mark.parametrize("kind", GIVEN)
def test_an_open_session_is_rolled_back_where_that_can_be(
    model: lengthwise.Model, kind: str, recipe: str, again: bool
) -> None:
    first, more, both = GIVEN[kind]
    session, read = model.read(first, recipe), list[int]()
    before = session.fork()
    session.append(more, progress=read.append)
    again &= kind != "text"
    assert session.tokens == model.read(both, recipe).tokens
    assert (sum(read) == len(session.held)) == again == bool(session.notes)
    asked = [*both, {"role": "user", "content": "Why?"}]
    if isinstance(both, str):
        asked = [{"role": "user", "content": f"{both}\n\nWhy?"}]
    found = session.ask("Why?", max_new_tokens=NEW)
    whole = model.generate(asked, recipe, max_new_tokens=NEW)
    assert found.token_ids == whole.token_ids
    # What was not appended to is as it was.
    assert torch.allclose(before.score(NEXT), model.read(first, recipe).score(NEXT), atol=1e-5)


def test_an_answer_goes_behind_a_cartridge(model: lengthwise.Model) -> None:
    one, two = (initial_session(model, DOCUMENT, 10**6) for _ in range(2))
    for said in (USER, ANSWER):
        one.append(said)
    two.append([USER, ANSWER])
    assert one.tokens == two.tokens and not one.notes
    assert torch.allclose(one.score(NEXT), two.score(NEXT), atol=1e-5)


def test_an_edited_session_is_read_again_and_says_until_then_that_it_was_edited(
    model: lengthwise.Model,
) -> None:
    session = model.read(DOCUMENT)
    session.edit((0, 3), "Carol")

    def stopped(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.append("by was away.", progress=stopped)
    assert "edited" in session.lossy and not session.notes
    session.append("by was away.")
    assert not session.lossy and "all of it was read again" in session.notes[0]
    whole = model.read(DOCUMENT.replace("Ada", "Carol") + "by was away.")
    assert session.tokens == whole.tokens
    assert torch.allclose(session.score(NEXT), whole.score(NEXT), atol=1e-5)
