"""Cartridges as sessions: what they hold, what they refuse, how they are put together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lengthwise
from lengthwise.api.cartridge import cartridge_session, initial_session
from lengthwise.api.prefixes import prefix_cache_of
from lengthwise.api.session_prompt import TrainedSource
from lengthwise.engine.given import entries_of, put_entries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import LengthwiseError, Refused, SessionError
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import TEMPLATE, chat_model

CORPUS = "Ada Brun signed the paper on Monday, in the garden. Ivo Castell was late."
ASKED = "Who signed?"
# As Gemma's: what the system says goes before what the user says.
JOINED = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise('no system') }}{% endif %}"
SHUFFLED = "{% for m in messages | reverse %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made.cartridge"


def whole(model: lengthwise.Model, asked: str = ASKED) -> list[int]:
    """Ids of the question with the corpus in the prompt."""
    return model.encode([{"role": "system", "content": CORPUS}, {"role": "user", "content": asked}])


@pytest.mark.parametrize("template", [TEMPLATE, None], ids=["template", "text"])
def test_all_tokens_without_training_are_the_corpus_in_the_prompt(template: str | None) -> None:
    model = chat_model(template)
    session = initial_session(model, CORPUS, 10**6)
    ids = whole(model) if template else model.encode(f"{CORPUS}\n\n{ASKED}")
    assert ids[: len(session)] == session.tokens
    asked = ids[len(session) :]
    wanted = model.score(ids)[len(session) - 1 :]
    assert torch.allclose(session.score(asked), wanted, atol=1e-4)
    said = session.ask(ASKED, max_new_tokens=12)
    assert said.token_ids == model.generate(ids, max_new_tokens=12).token_ids
    assert said.metrics.reused_tokens == len(session)


@pytest.mark.parametrize("family", ["gemma3_text", "deepseek_v3", "gpt_oss", "gpt2"])
def test_given_entries_are_what_was_read(family: str) -> None:
    model = lengthwise.wrap(tiny_model(family))
    ids, after = tokens(6), tokens(20, seed=3)
    read = model.read(ids)
    session = cartridge_session(model, "full", ids, entries_of(read.held), {})
    assert torch.allclose(session.score(after), read.score(after), atol=1e-5)
    assert session.ask(after, max_new_tokens=4).token_ids == model.generate(
        ids + after, max_new_tokens=4
    ).token_ids  # fmt: skip


def test_a_shorter_one_ends_as_the_template_ends_a_turn(model: lengthwise.Model) -> None:
    session = initial_session(model, CORPUS, 20)
    assert model.tokenizer is not None
    assert model.tokenizer.decode(session.tokens) == "<system>Ada Brun si<|endoftext|>"
    asked = session.ask(ASKED, max_new_tokens=4)
    assert asked.metrics.prompt_tokens - asked.metrics.reused_tokens == len(
        model.encode([{"role": "user", "content": ASKED}])
    )


def test_a_file_says_how_it_was_trained_and_comes_back(model: lengthwise.Model, path: Path) -> None:
    about = {"method": "cartridge", "tokens": 20, "steps": 7, "pairs": 3}
    begun = initial_session(model, CORPUS, 20)
    entries = entries_of(begun.held)
    session = cartridge_session(model, "full", begun.tokens, entries, about)
    session.save(path)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["lengthwise"])["trained"] == about
    other = lengthwise.open_session(path, model)
    assert isinstance(other.source, TrainedSource) and other.source.trained == about
    assert other.tokens == session.tokens
    after = tokens(9)
    assert torch.equal(other.score(after), session.score(after))
    mine, theirs = (each.ask(ASKED, max_new_tokens=6) for each in (session, other))
    assert mine.token_ids == theirs.token_ids
    other.save(path)
    assert torch.equal(lengthwise.open_session(path, model).score(after), session.score(after))


def test_messages_are_said_behind_it(model: lengthwise.Model, path: Path) -> None:
    session = initial_session(model, CORPUS, 10**6)
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes"}]
    session.append(said)
    session.save(path)
    ids = model.encode([{"role": "system", "content": CORPUS}, *said,
                        {"role": "user", "content": ASKED}])  # fmt: skip
    wanted = model.generate(ids, max_new_tokens=8).token_ids
    for each in (session, lengthwise.open_session(path, model)):
        assert each.ask(ASKED, max_new_tokens=8).token_ids == wanted
    with pytest.raises(LengthwiseError, match="takes a string"):
        session.ask([1, 2])
    with pytest.raises(LengthwiseError, match="append takes a message"):
        session.append("text")


@pytest.mark.parametrize("recipe", ["lookup", "kivi(group=8, residual=16) + lookup", "int8"])
def test_drafters_and_codecs_go_with_it(model: lengthwise.Model, path: Path, recipe: str) -> None:
    session = initial_session(model, CORPUS, 40, recipe)
    session.save(path)
    said = session.ask(ASKED, max_new_tokens=8)
    assert said.token_ids == lengthwise.open_session(path, model).ask(
        ASKED, max_new_tokens=8
    ).token_ids  # fmt: skip
    if recipe == "lookup":
        plain = initial_session(model, CORPUS, 40)
        assert said.token_ids == plain.ask(ASKED, max_new_tokens=8).token_ids
    session.compress()
    assert session.ask(ASKED, max_new_tokens=4).token_ids


@pytest.mark.parametrize("recipe", ["yarn(factor=2)", "snapkv", "quest", "streaming", "h2o"])
def test_what_moves_or_leaves_out_entries_is_refused(model: lengthwise.Model, recipe: str) -> None:
    with pytest.raises(Refused, match="were trained where they stand.*drafters and codecs"):
        initial_session(model, CORPUS, 20, recipe)


def test_what_cannot_hold_one_is_refused_by_name() -> None:
    windowed = lengthwise.wrap(tiny_model("mistral"))
    ids = tokens(8)
    entries = entries_of(windowed.read(ids[:7]).held)
    with pytest.raises(Refused, match="layers that see 8 tokens.*train fewer than 8"):
        cartridge_session(windowed, "full", ids, entries, {})
    bare = lengthwise.wrap(tiny_model("llama"))
    with pytest.raises(LengthwiseError, match="without a tokenizer"):
        initial_session(bare, CORPUS, 8)
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    growing = lengthwise.wrap(tiny_model("llama", rope_parameters=rope))
    read = growing.read(ids)
    with pytest.raises(Refused, match="changes its rotary frequencies at 256 tokens"):
        cartridge_session(growing, "full", ids, entries_of(read.held), {})


@pytest.mark.parametrize("template", [JOINED, SHUFFLED], ids=["none", "behind"])
def test_a_template_without_a_system_turn_is_refused(template: str) -> None:
    model = chat_model(template)
    with pytest.raises(LengthwiseError, match="chat template"):
        initial_session(model, CORPUS, 10**6).ask(ASKED, max_new_tokens=1)


def test_an_empty_corpus_and_too_few_tokens_are_refused(model: lengthwise.Model) -> None:
    with pytest.raises(LengthwiseError, match="the corpus is empty"):
        initial_session(model, " \n", 8)
    with pytest.raises(LengthwiseError, match="takes 9 of them for itself; give at least 10"):
        initial_session(model, CORPUS, 9)


def test_trained_entries_are_no_other_texts() -> None:
    """The ids in whose place they stand are the corpus's, which others may ask for too."""
    model = chat_model()
    model.prefix_cache = prefix_cache_of(model.adapted, "64MiB")
    begun = initial_session(model, CORPUS, 40)
    session = cartridge_session(model, "full", begun.tokens, entries_of(begun.held), {})
    session.ask(ASKED, max_new_tokens=2)
    found = model.generate([*session.tokens, *tokens(4)], max_new_tokens=2)
    assert found.metrics.reused_tokens == 0
    with pytest.raises(LengthwiseError, match="entries are not those of its token ids"):
        lengthwise.Pieces(model).add(session)


# Composition.


def test_entries_of_several_stand_one_behind_the_other(model: lengthwise.Model) -> None:
    one, two = (initial_session(model, text, 30) for text in (CORPUS, CORPUS[::-1]))
    both = lengthwise.compose([one, two])
    assert both.tokens == one.tokens + two.tokens
    for mine, first, second in zip(*(entries_of(s.held) for s in (both, one, two)), strict=True):
        assert torch.equal(mine.key, torch.cat([first.key, second.key], 1))
        assert torch.equal(mine.value, torch.cat([first.value, second.value], 1))
        assert mine.index.tolist() == [list(range(len(both)))]
    assert both.source.trained is not None and len(both.source.trained["composed"]) == 2
    said = both.ask(ASKED, max_new_tokens=4)
    assert said.metrics.reused_tokens == len(one) + len(two)
    alone = lengthwise.compose([one])
    after = tokens(9)
    assert torch.equal(alone.score(after), one.score(after))


@pytest.mark.parametrize("family", ["llama", "glm", "gemma3_text", "smollm3"])
def test_turned_keys_are_those_read_further_behind(family: str) -> None:
    """What the first layer keeps depends on a token and its position alone."""
    model = lengthwise.wrap(tiny_model(family))
    first, second = tokens(3), tokens(4, seed=1)
    one, two = (
        cartridge_session(model, "full", ids, entries_of(model.read(ids).held), {})
        for ids in (first, second)
    )
    read = entries_of(model.read(first + second).held)[0]
    turned = entries_of(lengthwise.compose([one, two], rotate=True).held)[0]
    plain = entries_of(lengthwise.compose([one, two]).held)[0]
    assert torch.allclose(turned.key, read.key, atol=1e-5)
    assert not torch.allclose(plain.key, read.key, atol=1e-3)
    assert torch.allclose(plain.value, read.value, atol=1e-6)


def test_what_cannot_be_composed_is_refused(model: lengthwise.Model) -> None:
    one = initial_session(model, CORPUS, 30)
    with pytest.raises(SessionError, match="nothing to compose"):
        lengthwise.compose([])
    with pytest.raises(SessionError, match="is no cartridge"):
        lengthwise.compose([one, model.read(CORPUS)])
    with pytest.raises(SessionError, match="of one model and one recipe"):
        lengthwise.compose([one, initial_session(model, CORPUS, 30, "lookup")])
    with pytest.raises(SessionError, match="of one model and one recipe"):
        lengthwise.compose([one, initial_session(chat_model(), CORPUS, 30)])
    learned = lengthwise.wrap(tiny_model("gpt2"))
    ids = tokens(4)
    each = cartridge_session(learned, "full", ids, entries_of(learned.read(ids).held), {})
    with pytest.raises(Refused, match="no rotary positions"):
        lengthwise.compose([each, each], rotate=True)
    said = initial_session(model, CORPUS, 30)
    said.append([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}])
    with pytest.raises(SessionError, match="is no cartridge"):
        lengthwise.compose([said])


# Files that are wrong.


def changed(path: Path, change: str) -> None:
    held = {name: tensor.clone() for name, tensor in load_file(path).items()}
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    state = json.loads(bytes(held["state"].tolist()))
    source = state["source"]
    if change == "count":
        source["count"] = 3
    elif change == "trained":
        source["trained"] = 5
    elif change == "messages":
        source["messages"] = [7]
    elif change == "entries":
        name = next(n for n, t in held.items() if t.dim() == 3)
        held[name] = held[name][:, :-1].contiguous()
    held["state"] = torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)
    save_file(held, path, metadata=metadata)


@pytest.mark.parametrize("change", ["count", "trained", "messages", "entries"])
def test_a_hostile_file_is_one_line(model: lengthwise.Model, path: Path, change: str) -> None:
    initial_session(model, CORPUS, 20).save(path)
    changed(path, change)
    with pytest.raises(SessionError, match="is no session, or a damaged one"):
        lengthwise.open_session(path, model)


def test_other_tokens_than_the_entries_are_never_read_again(
    model: lengthwise.Model, path: Path
) -> None:
    session = initial_session(model, CORPUS, 20)
    session.append([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}])
    session.save(path)
    changed(path, "count")
    with pytest.raises(SessionError, match="cannot be read again"):
        lengthwise.open_session(path, model).ask(ASKED, max_new_tokens=1)


def test_a_torn_file_is_one_line(model: lengthwise.Model, path: Path) -> None:
    initial_session(model, CORPUS, 20).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SessionError, match="damaged"):
        lengthwise.open_session(path, model)


def test_entries_that_do_not_fit_are_refused(model: lengthwise.Model) -> None:
    session = initial_session(model, CORPUS, 20)
    entries = entries_of(session.held)
    fresh = Sequence(model.adapted)
    with pytest.raises(ValueError, match="entries for"):
        put_entries(fresh, session.tokens[:-1], entries)
    with pytest.raises(ValueError, match="empty sequence"):
        put_entries(fresh, session.tokens, entries[:-1])
    with pytest.raises(ValueError, match="empty sequence"):
        put_entries(session.held.fork(), session.tokens, entries)
    windowed = lengthwise.wrap(tiny_model("mistral"))
    with pytest.raises(ValueError, match="does not hold all 30 tokens"):
        entries_of(windowed.read(tokens(30)).held)
