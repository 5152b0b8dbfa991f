"""A chat keeps its cache: what it answers is what one call with the whole conversation answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.api.chat import Chat
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.errors import LengthwiseError, Refused, SessionError
from tests.chat_models import FORGETFUL, chat_model

TURNS = ("Hello there.", "Who are you?", "And why?")
NEW = 12
RECIPES = [
    "full",
    "yarn(factor=2)",
    "lookup",
    "streaming(sinks=2, window=48)",
    "snapkv(budget=50%, window=8, floor=8)",
    "kivi(bits=4, group=8, residual=16)",
    "infllm(budget=32, window=16, block=4, init=2)",
    "h2o(budget=40)",
    "dynamic_ntk",
]


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_turn_is_what_one_call_gives(model: lengthwise.Model, recipe: str) -> None:
    chat = model.chat(recipe, system="Be brief.")
    said = [{"role": "system", "content": "Be brief."}]
    for number, text in enumerate(TURNS):
        said.append({"role": "user", "content": text})
        whole = model.generate(said, recipe, max_new_tokens=NEW)
        found = chat.say(text, max_new_tokens=NEW)
        assert (found.text, found.token_ids) == (whole.text, whole.token_ids)
        said.append({"role": "assistant", "content": found.text})
        reused = found.metrics.reused_tokens
        assert found.metrics.prompt_tokens == whole.metrics.prompt_tokens
        assert reused > 0 if number else reused == 0
    assert chat.messages == said
    assert chat.cost.turns == 3 and chat.cost.new_tokens == 3 * NEW
    assert 0 < chat.cost.reused_tokens < chat.cost.prompt_tokens
    assert chat.cost.kv_bytes > 0 and "3 turns" in str(chat.cost)
    assert "3 turns under" in repr(chat)


def test_a_turn_reads_what_is_new_and_not_the_answer_before_it(model: lengthwise.Model) -> None:
    chat = model.chat()
    chat.say("Hello there.", max_new_tokens=NEW)
    found = chat.say("Why?", max_new_tokens=NEW).metrics
    # The last token of the answer was said and not read; two ends of messages are the template's.
    assert found.prompt_tokens - found.reused_tokens == 3 + len("<user>Why?<assistant>")


def test_a_template_that_takes_something_back_is_followed() -> None:
    forgetful = chat_model(FORGETFUL)
    for recipe in ("full", "streaming(sinks=2, window=24)"):
        chat = forgetful.chat(recipe)
        told = []
        for text in ("Think azb.", "Why zcd?", "Ozef", "Pzgh"):
            before = chat.messages
            whole = forgetful.generate(
                [*before, {"role": "user", "content": text}], recipe, max_new_tokens=NEW
            )
            found = chat.say(text, max_new_tokens=NEW)
            assert found.token_ids == whole.token_ids
            told += [note for note in found.metrics.notes if "read again" in note]
        assert len(told) <= 1


def test_undo_takes_a_turn_back_and_the_cache_with_it(model: lengthwise.Model) -> None:
    for recipe, notes in (("full", 0), ("streaming(sinks=2, window=32)", 1)):
        chat = model.chat(recipe)
        first = chat.say(TURNS[0] * 3, max_new_tokens=NEW)
        second = chat.say(TURNS[1] * 4, max_new_tokens=NEW)
        chat.undo()
        assert [each["content"] for each in chat.messages] == [TURNS[0] * 3, first.text]
        other = chat.say("Else.", max_new_tokens=NEW)
        told = [note for note in other.metrics.notes if "cannot be rolled back" in note]
        assert len(told) == notes
        assert (other.metrics.reused_tokens == 0) == bool(notes)
        chat.undo()
        again = chat.say(TURNS[1] * 4, max_new_tokens=NEW)
        assert again.token_ids == second.token_ids
        assert not [note for note in again.metrics.notes if "cannot be rolled back" in note]
        chat.undo()
        chat.say(TURNS[1] * 4, max_new_tokens=NEW)
        chat.undo()
        chat.undo()
        assert chat.messages == []
        with pytest.raises(LengthwiseError, match="no turn to take back"):
            chat.undo()


def test_another_recipe_goes_on_with_what_was_said(model: lengthwise.Model) -> None:
    chat = model.chat()
    chat.say(TURNS[0], max_new_tokens=NEW)
    chat.use("streaming(sinks=2, window=24)")
    said = [*chat.messages, {"role": "user", "content": TURNS[1]}]
    whole = model.generate(said, chat.recipe, max_new_tokens=NEW)
    assert chat.say(TURNS[1], max_new_tokens=NEW).token_ids == whole.token_ids
    with pytest.raises(LengthwiseError, match="streamin"):
        chat.use("streamin")
    assert chat.recipe == "streaming(sinks=2, window=24)"


def test_a_saved_chat_goes_on(model: lengthwise.Model, tmp_path: Path) -> None:
    for recipe in ("full", "snapkv(budget=50%, window=8, floor=8)"):
        chat = model.chat(recipe)
        with pytest.raises(LengthwiseError, match="nothing was said yet"):
            chat.save(tmp_path / "none")
        chat.say(TURNS[0], max_new_tokens=NEW)
        chat.save(tmp_path / "chat.safetensors")
        session = lengthwise.open_session(tmp_path / "chat.safetensors", model)
        other = Chat.resume(session)
        assert other.messages == chat.messages and other.recipe == chat.recipe
        mine, theirs = (each.say(TURNS[1], max_new_tokens=NEW) for each in (chat, other))
        assert mine.token_ids == theirs.token_ids
        assert theirs.metrics.reused_tokens > 0
    with pytest.raises(LengthwiseError, match="has read chat messages"):
        Chat.resume(model.read("Some text."))


def test_a_stream_that_is_closed_stays_as_far_as_it_was_said(model: lengthwise.Model) -> None:
    chat = model.chat()
    with chat.stream(TURNS[0], max_new_tokens=NEW) as stream:
        next(stream)
    said = stream.generation.text
    assert chat.messages[-1] == {"role": "assistant", "content": said}
    whole = model.generate([*chat.messages, {"role": "user", "content": "Why?"}], max_new_tokens=4)
    assert list(chat.stream("Why?", max_new_tokens=4)) is not None
    assert chat.messages[-1]["content"] == whole.text


def test_what_is_wrong_is_said_and_nothing_was_said_then(model: lengthwise.Model) -> None:
    chat = model.chat()
    for empty in ("", "  \n"):
        with pytest.raises(LengthwiseError, match="what is said is empty"):
            chat.say(empty)
    with pytest.raises(LengthwiseError, match="max_new_tokens=0"):
        chat.say("Hi", max_new_tokens=0)
    with pytest.raises(LengthwiseError, match="no option of say"):
        chat.say("Hi", max_length=4)  # type: ignore[call-arg]
    assert chat.messages == []
    with pytest.raises(LengthwiseError, match="no chat template"):
        chat_model(template=None).chat()
    with pytest.raises(Refused, match="give a budget in tokens"):
        model.chat("sirllm(budget=50%)")


def test_a_failure_in_mid_turn_leaves_the_chat_usable(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = model.chat()
    chat.say(TURNS[0], max_new_tokens=4)
    before = chat.messages

    def broken(tokens: int) -> None:
        raise RuntimeError("of the caller's")

    with pytest.raises(RuntimeError, match="of the caller's"):
        chat.say(TURNS[1], max_new_tokens=4, progress=broken)
    assert chat.messages == before
    whole = model.generate([*before, {"role": "user", "content": "Why?"}], max_new_tokens=4)
    assert chat.say("Why?", max_new_tokens=4).token_ids == whole.token_ids


@pytest.mark.parametrize("recipe", ["full", "kivi(bits=4, group=8, residual=16)", RECIPES[3]])
@pytest.mark.parametrize("when", ["attend", "commit"])
@pytest.mark.parametrize("streamed", [False, True])
def test_ctrl_c_amid_a_forward_leaves_nothing_that_is_half_done(
    model: lengthwise.Model, recipe: str, when: str, streamed: bool
) -> None:
    chat = model.chat(recipe)
    chat.say(TURNS[0], max_new_tokens=4)
    before, real = chat.messages, getattr(LayerCache, when)

    def stopped(self: LayerCache, *given: Any, **more: Any) -> Any:
        # Layers before it have done it.
        if self.facts.index == 1:
            raise KeyboardInterrupt
        return real(self, *given, **more)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LayerCache, when, stopped)
        if streamed:
            list(chat.stream(TURNS[1], max_new_tokens=4))
        else:
            chat.say(TURNS[1], max_new_tokens=4)
    assert chat.messages[: len(before)] == before and chat.cost.kv_bytes == 0
    with pytest.raises(LengthwiseError, match="since a turn was broken off"):
        chat.save("nowhere")
    said = [*chat.messages, {"role": "user", "content": TURNS[1]}]
    whole = model.generate(said, recipe, max_new_tokens=NEW)
    found = chat.say(TURNS[1], max_new_tokens=NEW)
    assert found.token_ids == whole.token_ids and found.metrics.reused_tokens == 0


def test_wrong_options_cost_nothing_that_was_read(model: lengthwise.Model) -> None:
    for recipe in ("full", RECIPES[5]):
        chat = model.chat(recipe)
        chat.say(TURNS[0], max_new_tokens=4)
        with pytest.raises(LengthwiseError, match="temperature"):
            chat.say(TURNS[1], temperature=-1.0)
        assert chat.say(TURNS[1], max_new_tokens=4).metrics.reused_tokens > 0


def test_a_chat_that_goes_on_from_pieces_says_so(tmp_path: Path) -> None:
    model, text = chat_model(num_hidden_layers=4), "The tenant pays on the first day of a month."
    pieces = lengthwise.Pieces(model)
    pieces.add(text)
    session = pieces.read([{"role": "user", "content": f"Listen. {text}"}], recompute="0%")
    why = session.lossy
    assert why and why in Chat.resume(session).say("Who?", max_new_tokens=4).metrics.notes
    session = pieces.read([{"role": "user", "content": f"Listen. {text}"}], recompute="0%")
    chat = Chat.resume(session)
    for _ in range(2):
        chat.say("Who?", max_new_tokens=4)
        chat.save(tmp_path / "chat.session")
        again = lengthwise.open_session(tmp_path / "chat.session", model)
        assert again.lossy == why and again.held.stale
        chat = Chat.resume(again)
    # Read again, it is what one call gives.
    chat.use("lookup")
    assert why not in chat.say("Who?", max_new_tokens=4).metrics.notes
    chat.save(tmp_path / "chat.session")
    assert not lengthwise.open_session(tmp_path / "chat.session", model).lossy


def test_a_chat_of_a_model_that_changed_is_refused() -> None:
    model = chat_model()
    chat = model.chat()
    chat.say("Hi.", max_new_tokens=2)
    with torch.no_grad():
        model.adapted.model.model.norm.weight.mul_(2)
    with pytest.raises(SessionError, match="have changed since this chat began"):
        chat.say("Hi.")
