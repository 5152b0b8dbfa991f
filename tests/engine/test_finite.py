"""Logits that are no numbers end a request by name, wherever they come up, and harm no other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import lengthwise
from lengthwise.errors import LengthwiseError, NotFinite
from lengthwise.testing.tiny import tiny_model, tokens

BAD = 100
PROMPT = [token for token in tokens(60) if token != BAD][:40]


def spoil(model: PreTrainedModel, value: float = math.nan) -> PreTrainedModel:
    """Token BAD makes numbers that are none."""
    model.get_input_embeddings().weight.data[BAD] = value
    return model


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(spoil(tiny_model("llama", tie_word_embeddings=False)))


def test_an_overflow_in_half_precision_is_named_with_what_to_try() -> None:
    stock = tiny_model("gemma", vocab_size=512, tie_word_embeddings=False).half()
    stock.model.embed_tokens.weight.data[500] = 20000
    with lengthwise.wrap(stock) as wrapped:
        ids = [*tokens(40), 500]
        for temperature in (0.0, 1.0):
            with pytest.raises(NotFinite, match="bfloat16 or float32") as error:
                wrapped.generate(ids, max_new_tokens=6, stop_ids=[], temperature=temperature)
        assert error.value.position == 41 and "position 41" in str(error.value)
        assert "\n" not in str(error.value)
        assert len(wrapped.generate(ids[:-1], max_new_tokens=6, stop_ids=[]).token_ids) == 6


@pytest.mark.parametrize(
    "asked",
    [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 5, "top_p": 0.9, "min_p": 0.1},
     {"repetition_penalty": 1.3}],
)  # fmt: skip
@pytest.mark.parametrize("recipe", ["full", "recycling + fixed", "superposed", "sirllm(budget=32)"])
def test_prompts_end_by_name_under_every_way_of_choosing(
    model: lengthwise.Model, recipe: str, asked: dict[str, Any]
) -> None:
    if recipe == "superposed" and asked:
        pytest.skip("it samples nothing")
    with pytest.raises(NotFinite) as error:
        model.generate([*PROMPT, BAD], recipe, max_new_tokens=4, stop_ids=[], **asked)
    # What asks for the losses of a prompt meets it earlier: nothing times NaN is NaN in attention.
    assert error.value.position == (1 if recipe.startswith("sirllm") else 41)


def test_a_row_of_a_batch_whose_prompt_gives_no_numbers_ends_alone(
    model: lengthwise.Model,
) -> None:
    prompts = [PROMPT, [*PROMPT[:9], BAD], PROMPT[:5]]
    found = model.generate_batch(prompts, max_new_tokens=4, stop_ids=[])
    assert isinstance(found[1].failed, NotFinite) and found[1].token_ids == []
    assert "of prompt 2 of 3" in str(found[1].failed)
    assert found[1].metrics.finish_reason == "not_finite"
    for number in (0, 2):
        alone = model.generate(prompts[number], max_new_tokens=4, stop_ids=[])
        assert found[number].failed is None and found[number].token_ids == alone.token_ids
    # A batch of one is a batch.
    assert model.generate_batch([prompts[1]], max_new_tokens=4)[0].failed is not None


@pytest.mark.parametrize("recipe", ["full", "recycling + fixed"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_decoding_meets_is_named_at_its_position(recipe: str, temperature: float) -> None:
    """The token that spoils everything is one that the model itself says after five others."""
    stock = tiny_model("llama", tie_word_embeddings=False)
    with lengthwise.wrap(stock) as clean:
        text = clean.generate(PROMPT, max_new_tokens=12, stop_ids=[], temperature=temperature)
    said = next(t for t in text.token_ids[5:] if t not in PROMPT)
    at = text.token_ids.index(said)
    with lengthwise.wrap(stock) as wrapped:
        stock.get_input_embeddings().weight.data[said] = math.nan
        asked = {"max_new_tokens": 12, "stop_ids": [], "temperature": temperature}
        found, other = wrapped.generate_batch([PROMPT, PROMPT[:2]], recipe, **asked)
        assert found.failed is not None and "of prompt 1 of 2" in str(found.failed)
        assert found.failed.position == len(PROMPT) + at + 1
        # What was said before it stays, and the other row is what it is alone.
        assert found.token_ids == text.token_ids[: at + 1]
        if said not in other.token_ids[:-1]:
            assert other.token_ids == wrapped.generate(PROMPT[:2], recipe, **asked).token_ids
        with pytest.raises(NotFinite) as error:
            wrapped.generate(PROMPT, recipe, **asked)
        assert error.value.position == len(PROMPT) + at + 1


def test_a_row_that_writes_mixtures_ends_alone_too() -> None:
    """The spoiled token is in the mixtures of one row, and the other never says it."""
    stock = tiny_model("llama", tie_word_embeddings=False)
    asked = {"max_new_tokens": 4, "stop_ids": []}
    with lengthwise.wrap(stock) as wrapped:
        whole = wrapped.generate(PROMPT, "superposed", **asked)
        plain = wrapped.generate(PROMPT, **asked)
        mixed = {t for draft in whole.drafts for t in draft.token_ids[:-1]}
        said = min(mixed - {*plain.token_ids, *PROMPT})
        stock.get_input_embeddings().weight.data[said] = math.nan
        found = wrapped.generate_batch([PROMPT, PROMPT], ["superposed", "full"], **asked)
        with pytest.raises(NotFinite):
            wrapped.generate(PROMPT, "superposed", **asked)
    assert isinstance(found[0].failed, NotFinite) and not found[0].drafts
    assert found[1].failed is None and found[1].token_ids == plain.token_ids


def test_the_door_of_transformers_raises_for_any_row() -> None:
    stock = spoil(tiny_model("llama", tie_word_embeddings=False))
    ids = torch.tensor([PROMPT[:6], [*PROMPT[:5], BAD]])
    with pytest.raises(NotFinite, match="of prompt 2 of 2"):
        stock.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=3,
                       custom_generate=lengthwise.custom_generate())  # fmt: skip


def test_guesses_that_are_no_part_of_the_text_may_lead_to_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only rows that are chosen from are looked at: a wrong guess of BAD is not said."""
    from lengthwise.engine.speculative.tree import Tree
    from lengthwise.methods.drafting.lookup import LookupDrafter

    guessed: list[int] = []
    stock = spoil(tiny_model("llama", tie_word_embeddings=False))
    with lengthwise.wrap(stock) as wrapped:
        plain = wrapped.generate(PROMPT, max_new_tokens=12, stop_ids=[])
        assert BAD not in plain.token_ids

        def propose(self: LookupDrafter, seen: Any, tree: Tree, limit: int) -> None:
            guessed.append(tree.add(0, BAD, self.name))
            if limit > 1:
                tree.add(guessed[-1], 5, self.name)

        monkeypatch.setattr(LookupDrafter, "propose", propose)
        drafted = wrapped.generate(PROMPT, "lookup + fixed", max_new_tokens=12, stop_ids=[])
    assert drafted.token_ids == plain.token_ids and len(guessed) > 8
    assert not drafted.metrics.notes


def test_a_drafter_that_reads_states_is_given_none_that_a_guess_has_spoiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lengthwise.engine.speculative.tree import Tree
    from lengthwise.methods.drafting.lookup import LookupDrafter

    noted: list[torch.Tensor] = []
    stock = spoil(tiny_model("llama", tie_word_embeddings=False))
    with lengthwise.wrap(stock) as wrapped:

        def propose(self: LookupDrafter, seen: Any, tree: Tree, limit: int) -> None:
            tree.add(0, BAD, self.name)

        def learn(self: LookupDrafter, seen: Any, tree: Tree, *_: Any) -> None:
            assert self.states is not None and len(self.states) == len(tree)
            noted.append(self.states)

        monkeypatch.setattr(LookupDrafter, "wants_states", True, raising=False)
        monkeypatch.setattr(LookupDrafter, "propose", propose)
        monkeypatch.setattr(LookupDrafter, "learn", learn)
        found = wrapped.generate(PROMPT, "lookup + fixed", max_new_tokens=12, stop_ids=[])
    assert not found.metrics.notes and len(noted) > 8
    assert all(bool(states.isfinite().all()) for states in noted)


def test_processors_may_forbid_tokens_but_not_all_of_them() -> None:
    stock = tiny_model("llama")
    stock.generation_config.suppress_tokens = list(range(1, 128))
    with lengthwise.wrap(stock) as wrapped:
        found = wrapped.generate(PROMPT, max_new_tokens=3, stop_ids=[], temperature=1.0)
        assert found.token_ids == [0, 0, 0]
        stock.generation_config.suppress_tokens = list(range(128))
        for temperature in (0.0, 1.0):
            with pytest.raises(NotFinite, match="forbid all of them"):
                wrapped.generate(PROMPT, max_new_tokens=3, temperature=temperature)


def score_all(model: lengthwise.Model, ids: list[int], chunk: int = 8) -> torch.Tensor:
    return model.score(ids, chunk=chunk)


def score_rest(model: lengthwise.Model, ids: list[int], chunk: int = 8) -> torch.Tensor:
    return model.score(ids, prompt=5, chunk=chunk)


@pytest.mark.parametrize("score", [score_all, score_rest])
def test_scores_that_are_no_numbers_are_an_error_at_their_position(
    model: lengthwise.Model, score: Callable[..., torch.Tensor]
) -> None:
    for chunk in (8, 1024):
        with pytest.raises(NotFinite) as error:
            score(model, [*PROMPT[:30], BAD, *PROMPT[30:]], chunk)
        # The whole chunk is spoiled: in attention nothing times NaN is NaN.
        assert error.value.position == (31 if score is score_rest else 25 if chunk == 8 else 1)
    assert score(model, PROMPT).isfinite().all()


def _without(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
    """The logits with none for BAD."""
    return logits.index_fill(-1, torch.tensor([BAD]), -torch.inf)


@pytest.mark.parametrize("chunk", [7, 1024])
def test_a_token_without_a_chance_scores_minus_infinity_in_its_place(chunk: int) -> None:
    """Its logit is minus infinity: a law without it is a law, and every place is kept."""
    stock = tiny_model("llama", tie_word_embeddings=False)
    ids = [*PROMPT[:20], BAD, *PROMPT[20:], BAD]
    with lengthwise.wrap(stock, fuse=False) as wrapped:
        stock.lm_head.register_forward_hook(_without)
        with torch.no_grad():
            logits = stock(torch.tensor([ids])).logits[0, :-1].float()
        wanted = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[1:, None])[:, 0]
        found = wrapped.score(ids, chunk=chunk)
        rest = wrapped.score(ids, prompt=10)
    assert len(found) == len(ids) - 1 and len(rest) == len(ids) - 10
    assert found.isinf().nonzero()[:, 0].tolist() == [19, len(ids) - 2]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rest, wanted[9:], atol=1e-4, rtol=1e-4)


def test_it_is_an_error_of_the_users_to_mend() -> None:
    assert issubclass(NotFinite, LengthwiseError)
    assert "float32" in str(NotFinite(3, dtype="bfloat16"))
    assert "load" not in str(NotFinite(3, dtype="float32"))
