"""Texts longer than a model can read, or was trained to."""

from __future__ import annotations

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.models.limits import position_limit
from lengthwise.testing.tiny import tiny_model, tokens

LEARNED = ["gpt2", "opt", "gpt_bigcode", "biogpt", "ctrl"]


def small(family: str, length: int = 64) -> lengthwise.Model:
    return lengthwise.wrap(tiny_model(family, max_position_embeddings=length))


@pytest.mark.parametrize("family", LEARNED)
def test_what_learned_positions_do_not_reach_is_refused_before_the_run(family: str) -> None:
    model = small(family)
    read: list[int] = []
    for recipe in ("full", "lookup + fixed"):
        with pytest.raises(LengthwiseError, match="prompt has 65 tokens.* positions for 64"):
            model.generate(tokens(65), recipe, max_new_tokens=1, progress=read.append)
        with pytest.raises(LengthwiseError, match="max_new_tokens=25 at most"):
            model.generate(tokens(40), recipe, max_new_tokens=26, progress=read.append)
    with pytest.raises(LengthwiseError, match="65 tokens .* positions for 64"):
        model.score(tokens(65), prompt=10)
    assert not read
    # To the very end of the table it runs: the last token is said and not read.
    found = model.generate(tokens(40), max_new_tokens=25, stop_ids=[])
    drafted = model.generate(tokens(40), "lookup + fixed", max_new_tokens=25, stop_ids=[])
    assert len(found.token_ids) == 25 and drafted.token_ids == found.token_ids
    assert len(model.score(tokens(64))) == 63
    stock = model.adapted.model
    made = stock.generate(torch.tensor([tokens(40)]), max_new_tokens=25, eos_token_id=None,
                          do_sample=False)  # fmt: skip
    assert made[0, 40:].tolist() == found.token_ids


def test_a_recipe_that_drops_far_tokens_adds_no_positions() -> None:
    """StreamingLLM places keys anew, which learned positions do not allow."""
    model = small("gpt2")
    try:
        model.plan("streaming")
    except LengthwiseError:
        return
    with pytest.raises(LengthwiseError, match="no recipe can add to"):
        model.generate(tokens(65), "streaming", max_new_tokens=1)


@pytest.mark.parametrize(("family", "limit"), [("llama", None), ("gpt_neox", None), ("gpt2", 64)])
def test_the_limit_is_found_by_asking(family: str, limit: int | None) -> None:
    assert position_limit(small(family).adapted) == limit


def notes(recipe: str, length: int, family: str = "llama", **settings: object) -> list[str]:
    model = lengthwise.wrap(tiny_model(family, max_position_embeddings=64, **settings))
    found = model.generate(tokens(length), recipe, max_new_tokens=2, stop_ids=[])
    return [note for note in found.metrics.notes if "trained" in note]


@pytest.mark.parametrize(
    "recipe", ["full", "snapkv(budget=32)", "kivi", "lookup", "quest(budget=160)", "yarn(factor=2)",
               "pi(factor=2)"],
)  # fmt: skip
def test_what_reads_beyond_the_trained_length_says_so(recipe: str) -> None:
    (note,) = notes(recipe, 200)
    known = 128 if "factor" in recipe else 64
    assert f"reads 201 tokens, {201 - known} beyond the {known}" in note and "64 trained" in note
    assert not notes(recipe, 50)


@pytest.mark.parametrize(
    "recipe",
    [
        "yarn(factor=4)", "pi(factor=4)", "ntk(factor=4)", "dynamic_ntk", "giraffe",
        "streaming(window=32)", "lm_infinite(window=32)", "self_extend(group=8, window=32)",
        "infllm(window=32, budget=240)", "token_select(window=32, budget=176)",
        "sirllm(budget=48)",
    ],
)  # fmt: skip
def test_what_keeps_to_distances_the_model_knows_says_nothing(recipe: str) -> None:
    assert notes(recipe, 200) == []


def test_a_window_of_the_models_own_keeps_to_what_it_knows() -> None:
    assert notes("full", 200, "mistral", sliding_window=16) == []
    assert len(notes("full", 200, "gemma2")) == 1


def test_self_extend_beyond_its_own_reach_says_so() -> None:
    (note,) = notes("self_extend(group=2, window=32)", 200)
    assert "beyond the 64" in note


def test_a_prompt_beyond_the_positions_leaves_the_other_rows_alone() -> None:
    model = lengthwise.wrap(tiny_model("gpt2", max_position_embeddings=64))
    alone = model.generate(tokens(20), max_new_tokens=3, stop_ids=[])
    short, long = model.generate_batch([tokens(20), tokens(90)], max_new_tokens=3, stop_ids=[])
    assert short.token_ids == alone.token_ids and short.refused is None
    assert "learned positions for 64" in str(long.refused) and long.token_ids == []


def test_a_drafter_with_too_few_positions_is_found_before_the_run() -> None:
    target = lengthwise.wrap(tiny_model("llama"))
    small = lengthwise.wrap(tiny_model("gpt2", max_position_embeddings=64))
    with pytest.raises(Refused, match="second model has learned positions for 64"):
        target.generate(tokens(90), max_new_tokens=3, assistant_model=small)
