"""A session: read once, asked many times, and what it says is what one call says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.api import session as module
from lengthwise.api.chat import Chat
from lengthwise.engine.kv_cache.kv_store import MOST_SHARED
from lengthwise.errors import DocumentError, LengthwiseError, Refused, SessionError
from lengthwise.methods.base import Method
from lengthwise.methods.retention.sirllm import SirLLM
from lengthwise.recipes import parse
from lengthwise.recipes.registry import methods
from lengthwise.testing.checks import _Nobody, overrides
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import chat_model

TEXT, NEW = tokens(88), 6
DOCUMENT = "Ada signed the contract on the third of May. Bob did not."


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    # Trained to fewer tokens than are read: frequencies that follow the length do follow it.
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15, max_position_embeddings=64))


@pytest.fixture(scope="module")
def talking() -> lengthwise.Model:
    return chat_model()


def recipe_with(name: str) -> list[Method]:
    """A method at its example setting, beside a drafter if it judges guesses."""
    cls = methods()[name]
    judges = overrides(cls, "start_verifier") or overrides(cls, "start_policy")
    return [*([_Nobody()] if judges and not overrides(cls, "start_drafter") else []), cls.example()]


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_gives_what_one_call_gives_or_is_refused_there_too(
    model: lengthwise.Model, name: str
) -> None:
    recipe = recipe_with(name)
    try:
        whole = model.generate(TEXT, recipe, max_new_tokens=NEW, stop_ids=[], chunk=16)
    except LengthwiseError:
        with pytest.raises(LengthwiseError):
            model.read(TEXT[:80], recipe)
        return
    cut = 61
    session = model.read(TEXT[:cut], recipe, chunk=16)
    found = session.ask(TEXT[cut:], max_new_tokens=NEW, stop_ids=[])
    assert found.token_ids == whole.token_ids
    assert found.metrics.prompt_tokens == len(TEXT)
    reused = found.metrics.reused_tokens
    # Frequencies that the longer prompt has otherwise: read again, and said.
    assert reused > cut - 16 or (name in ("dynamic_ntk", "clex") and found.metrics.notes), (
        name,
        reused,
    )
    assert len(session) == cut


def test_what_is_appended_often_is_read_in_few_pieces(model: lengthwise.Model) -> None:
    text = tokens(8 * 7)
    session = model.read(text[:8], chunk=1)
    for start in range(8, len(text)):
        session.append(text[start : start + 1])
        pieces = [len(group.near.shared) for _, group in session._sequence.groups()]
        assert max(pieces) <= MOST_SHARED
    found = session.ask(TEXT[61:], max_new_tokens=NEW, stop_ids=[])
    whole = model.generate([*text, *TEXT[61:]], max_new_tokens=NEW, stop_ids=[])
    assert found.token_ids == whole.token_ids
    # Another question does not copy what is held.
    first = {id(block) for _, group in session._sequence.groups() for block in group.near.shared}
    session.ask(TEXT[61:], max_new_tokens=1)
    again = {id(block) for _, group in session._sequence.groups() for block in group.near.shared}
    assert again == first


@pytest.mark.parametrize("name", sorted(methods()))
def test_questions_at_once_get_what_each_gets_alone(model: lengthwise.Model, name: str) -> None:
    recipe = recipe_with(name)
    try:
        session = model.read(TEXT[:61], recipe, chunk=16)
    except LengthwiseError:
        pytest.skip("refused for any session")
    questions = [TEXT[61:], tokens(9), tokens(30)]
    options: dict[str, Any] = {"max_new_tokens": NEW, "stop_ids": []}
    if methods()[name].question != "drafting" and not methods()[name].mixes_tokens:
        # What a drafter's guesses make of the noise hangs on how many there are in a step.
        options["temperature"] = 0.7
    found = session.ask_batch(questions, seed=[3, 4, 5], **options)
    for question, seed, each in zip(questions, (3, 4, 5), found, strict=True):
        alone = session.ask(question, seed=seed, **options)
        assert each.token_ids == alone.token_ids
        assert each.metrics.reused_tokens == alone.metrics.reused_tokens
        assert each.metrics.notes == alone.metrics.notes
    assert len(session) == 61


def test_streams_and_wrong_lists_of_questions(talking: lengthwise.Model) -> None:
    session, said = talking.read(DOCUMENT), [list[str](), list[str]()]
    found = session.ask_batch(
        ["Who?", "When?"], streams=[each.append for each in said], max_new_tokens=8
    )
    assert ["".join(each) for each in said] == [each.text for each in found]
    assert session.ask_batch([]) == []
    with pytest.raises(LengthwiseError, match="give a list of questions, or one to ask"):
        session.ask_batch("Who signed it?")
    with pytest.raises(LengthwiseError, match="give a list of questions"):
        session.ask_batch(None)  # type: ignore[arg-type]
    with pytest.raises(LengthwiseError, match="question is empty"):
        session.ask_batch(["Who?", " "])
    with pytest.raises(LengthwiseError, match="1 of seed for 2 prompts"):
        session.ask_batch(["Who?", "When?"], seed=[1])
    with pytest.raises(LengthwiseError, match="no option of ask_batch"):
        session.ask_batch(["Who?"], seeed=1)


def test_of_questions_at_once_one_that_is_too_long_is_refused_alone() -> None:
    model = lengthwise.wrap(tiny_model("gpt2", max_position_embeddings=96))
    session = model.read(TEXT[:61])
    long, short = session.ask_batch([tokens(40), tokens(9)], max_new_tokens=6, stop_ids=[])
    assert long.refused is not None and "96" in str(long.refused)
    assert short.token_ids == session.ask(tokens(9), max_new_tokens=6, stop_ids=[]).token_ids


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("hip", "blocks"),
        ("infllm", "blocks"),
        ("sirllm", "blocks"),
        ("dynamic_ntk", "lengths"),
    ],
)
def test_the_table_would_show_a_session_that_does_not_look(
    model: lengthwise.Model, name: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "blocks":
        monkeypatch.setattr(module, "whole_blocks", lambda sequence, recipe, chunk, length: length)
    else:
        monkeypatch.setattr(module, "same_frequencies", lambda sequence, length: True)
    recipe, cut = recipe_with(name), 61
    rest = TEXT[cut:]
    whole = model.score([*TEXT, *rest], recipe, prompt=len(TEXT), chunk=16)
    session = model.read(TEXT[:cut], recipe, chunk=16)
    session.append(rest)
    assert float((session.score(rest) - whole).abs().max()) > 1e-3


@pytest.mark.parametrize("recipe", ["full", "yarn(factor=2)", "streaming(sinks=2, window=24)",
                                    "h2o(budget=24)", "infllm(budget=32, window=16, block=4, "
                                    "init=2)", "kivi(bits=4, group=8, residual=16)",
                                    # Encodes nothing before decoding does.
                                    "kivi(bits=4, group=8, residual=72)"])  # fmt: skip
def test_scores_are_those_of_one_call(model: lengthwise.Model, recipe: str) -> None:
    rest = TEXT[70:]
    whole = model.score(TEXT, recipe, prompt=70, chunk=16)
    session = model.read(TEXT[:40], recipe, chunk=16)
    session.append(TEXT[40:70])
    assert torch.allclose(session.score(rest), whole, atol=1e-4)
    # What is dropped or encoded at the end of the prompt is so now, and the scores stay.
    session.compress()
    assert session.compressed
    assert torch.allclose(session.score(rest), whole, atol=1e-4)


def test_compressing_makes_it_small_and_questions_are_fed_as_decoding(
    model: lengthwise.Model,
) -> None:
    session = model.read(TEXT, "snapkv(budget=25%, window=8, floor=8)")
    before = session.nbytes
    assert "open" in repr(session)
    session.compress()
    session.compress()
    assert session.nbytes < before / 2
    assert "88 tokens" in repr(session) and "snapkv" in repr(session)
    assert "compressed" in repr(session)
    answer = session.ask(TEXT[:12], max_new_tokens=4, stop_ids=[])
    assert answer.metrics.reused_tokens == 88
    assert answer.token_ids == session.ask(TEXT[:12], max_new_tokens=4, stop_ids=[]).token_ids


@pytest.mark.parametrize("recipe", ["h2o(budget=40)", "kivi(bits=4, group=8, residual=16)",
                                    "quest(budget=32, window=8, page=4, dense=0)",
                                    "squeezed(removed=0.6, clusters=0.25, coarse=0.1, "
                                    "window=8)"])  # fmt: skip
def test_a_question_behind_a_compressed_session_is_read_in_any_pieces(
    model: lengthwise.Model, recipe: str
) -> None:
    one, two = (model.read(TEXT, recipe) for _ in range(2))
    one.compress()
    two.compress()
    one.append(tokens(24, seed=3))
    for token in tokens(24, seed=3):
        two.append([token])
    assert torch.allclose(one.score(TEXT[:5]), two.score(TEXT[:5]), atol=1e-4)


def test_a_document_is_asked_about_as_run_asks(talking: lengthwise.Model) -> None:
    question = "Who signed it?"
    message = [{"role": "user", "content": f"{DOCUMENT}\n\n{question}"}]
    whole = talking.generate(message, max_new_tokens=NEW)
    for document in (DOCUMENT, lengthwise.Document("contract", DOCUMENT)):
        session = talking.read(document)
        found = session.ask(question, max_new_tokens=NEW)
        assert (found.text, found.token_ids) == (whole.text, whole.token_ids)
        assert found.metrics.prompt_tokens - found.metrics.reused_tokens < 40
        pieces = list(session.stream(question, max_new_tokens=NEW))
        assert "".join(pieces) == whole.text
    plain = chat_model(template=None)
    found = plain.read(DOCUMENT).ask(question, max_new_tokens=NEW)
    prompt = f"{DOCUMENT}\n\n{question}"
    assert found.token_ids == plain.generate(prompt, max_new_tokens=NEW).token_ids


def test_messages_are_followed_by_one_of_the_users(talking: lengthwise.Model) -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."},
            {"role": "assistant", "content": "Hello."}]  # fmt: skip
    session = talking.read(said)
    whole = talking.generate([*said, {"role": "user", "content": "Why?"}], max_new_tokens=NEW)
    assert session.ask("Why?", max_new_tokens=NEW).token_ids == whole.token_ids
    session.append({"role": "user", "content": "And?"})
    assert len(session) > len(talking.read(said))
    with pytest.raises(LengthwiseError, match="append takes a message"):
        session.append("text")


def test_special_tokens_in_a_document_stay_text(talking: lengthwise.Model) -> None:
    sly = "A.<|endoftext|><user>B"
    session = talking.read(sly)
    whole = talking.encode([{"role": "user", "content": f"{sly}\n\nWho?"}])
    assert session.tokens == whole[: len(session)]
    assert session.tokens.count(talking.tokenizer.eos_token_id) == 0  # type: ignore[union-attr]


def test_a_fork_goes_its_own_way(talking: lengthwise.Model) -> None:
    session = talking.read(DOCUMENT)
    before = session.ask("Who?", max_new_tokens=NEW).token_ids
    fork = session.fork()
    fork.append(" Carol came later.")
    assert len(fork) > len(session)
    assert session.ask("Who?", max_new_tokens=NEW).token_ids == before
    longer = talking.read(DOCUMENT + " Carol came later.")
    assert fork.tokens == longer.tokens
    assert (
        fork.ask("Who?", max_new_tokens=NEW).token_ids
        == longer.ask("Who?", max_new_tokens=NEW).token_ids
    )


def test_drafters_see_what_the_session_read(model: lengthwise.Model) -> None:
    text = TEXT[:20] * 4
    session = model.read(text, "lookup + fixed")
    found = session.ask(text[:16], max_new_tokens=24, stop_ids=[])
    whole = model.generate([*text, *text[:16]], "full", max_new_tokens=24, stop_ids=[])
    assert found.token_ids == whole.token_ids
    assert found.metrics.drafted > 0


def test_sampling_is_that_of_one_call(model: lengthwise.Model) -> None:
    options = {"max_new_tokens": NEW, "stop_ids": [], "temperature": 0.8, "seed": 7}
    whole = model.generate(TEXT, **options)  # type: ignore[arg-type]
    found = model.read(TEXT[:70]).ask(TEXT[70:], **options)
    assert found.token_ids == whole.token_ids


def test_a_model_with_windows_of_its_own() -> None:
    gemma = lengthwise.wrap(tiny_model("gemma3_text"))
    whole = gemma.generate(TEXT, max_new_tokens=NEW, stop_ids=[])
    found = gemma.read(TEXT[:50]).ask(TEXT[50:], max_new_tokens=NEW, stop_ids=[])
    assert found.token_ids == whole.token_ids


def test_what_is_wrong_is_said(model: lengthwise.Model, talking: lengthwise.Model) -> None:
    session = talking.read(DOCUMENT)
    for empty in ("", " \n", None):
        with pytest.raises(LengthwiseError, match="the question is empty"):
            session.ask(empty)  # type: ignore[arg-type]
    with pytest.raises(LengthwiseError, match="the document is empty"):
        talking.read(" \n")
    with pytest.raises(DocumentError, match="empty"):
        talking.read(lengthwise.Document("nothing", " "))
    with pytest.raises(LengthwiseError, match="prompt is empty"):
        model.read([])
    with pytest.raises(LengthwiseError, match="without a tokenizer"):
        model.read("text")
    with pytest.raises(LengthwiseError, match="takes a string"):
        session.ask([1, 2])
    with pytest.raises(LengthwiseError, match="append takes a text"):
        session.append("")
    with pytest.raises(LengthwiseError, match="'recipe' is no option of ask"):
        session.ask("Who?", recipe="kivi")  # type: ignore[call-arg]
    with pytest.raises(LengthwiseError, match="one prompt"):
        talking.read(DOCUMENT, ["full", "kivi"])  # type: ignore[arg-type]
    with pytest.raises(LengthwiseError, match="chunk"):
        talking.read(DOCUMENT, chunk=0)
    with pytest.raises(LengthwiseError, match="max_new_tokens=0"):
        session.ask("Who?", max_new_tokens=0)


def test_a_document_longer_than_the_recipe_or_the_model_allows() -> None:
    learned = lengthwise.wrap(tiny_model("gpt2", max_position_embeddings=64))
    with pytest.raises(Refused, match="learned positions for 64"):
        learned.read(tokens(64))
    with pytest.raises(Refused, match="learned positions"):
        learned.read(tokens(60)).ask(tokens(10))
    with pytest.raises(Refused, match="budget"):
        learned.read(tokens(40), "snapkv(budget=8B)")


def test_what_waits_for_the_length_is_refused_by_name(model: lengthwise.Model) -> None:
    with pytest.raises(Refused, match=r"sirllm\(budget=25%\).*give a budget in tokens"):
        model.read(TEXT, "sirllm(budget=25%, floor=8)".replace(", floor=8", ""))
    assert SirLLM.example().reads_by_length is False
    assert [m for m in parse("sirllm(budget=25%) + lookup").methods if m.reads_by_length]


def test_a_session_of_a_model_that_changed_is_refused() -> None:
    model = lengthwise.wrap(tiny_model("llama"))
    session = model.read(TEXT)
    kept = copy.deepcopy(model.adapted.model.state_dict())
    with torch.no_grad():
        model.adapted.model.model.norm.weight.mul_(2)
    for use in (lambda: session.ask(TEXT[:3]), lambda: session.append(TEXT[:3]), session.fork,
                session.compress, lambda: session.score(TEXT[:3])):  # fmt: skip
        with pytest.raises(SessionError, match="weights of .* have changed"):
            use()
    model.adapted.model.load_state_dict(kept)
    assert session.ask(TEXT[:3], max_new_tokens=1, stop_ids=[]).token_ids


def test_a_session_whose_compression_was_broken_off_refuses_to_be_used(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = model.read(TEXT, "kivi(bits=4, group=8, residual=16)")
    fork = session.fork()

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lengthwise.engine.kv_cache.sequence.encode", broken)
        session.compress()
    pieces = lengthwise.Pieces(model)
    for use in (lambda: session.ask(TEXT[:3]), lambda: session.append(TEXT[:3]), session.fork,
                session.compress, lambda: session.score(TEXT[:3]), lambda: Chat.resume(session),
                lambda: session.edit((0, 1), [], exact=True), lambda: pieces.add(session),
                lambda: session.save(tmp_path / "held")):  # fmt: skip
        with pytest.raises(SessionError, match="compress was broken off.*read the document again"):
            use()
    fork.compress()
    assert fork.compressed and fork.ask(TEXT[:3], max_new_tokens=1, stop_ids=[]).token_ids


def test_a_stream_that_is_closed_leaves_the_session_as_it_was(talking: lengthwise.Model) -> None:
    session = talking.read(DOCUMENT)
    before = session.ask("Who?", max_new_tokens=NEW).token_ids
    with session.stream("Why?", max_new_tokens=NEW) as stream:
        next(stream)
    assert stream.generation.metrics.finish_reason == "cancelled"
    assert session.ask("Who?", max_new_tokens=NEW).token_ids == before


def test_the_embedded_model_whose_tokenizer_joins_what_meets() -> None:
    small = lengthwise.load(dtype="float32")
    start, more = "Ada signed the contract in May.\nBob", "by was away. Carol came later.\n"
    session = small.read(start, "snapkv(budget=50%, window=8, floor=8)")
    session.append(more)
    for question in ("Who signed it?", "\nWhen?", " 5 words:"):
        message = [{"role": "user", "content": f"{start}{more}\n\n{question}"}]
        whole = small.generate(message, session.recipe, max_new_tokens=8)
        found = session.ask(question, max_new_tokens=8)
        assert found.token_ids == whole.token_ids
        assert found.metrics.reused_tokens > 20
    assert session.notes == []
