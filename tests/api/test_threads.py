"""Several threads on one model: each gets what it gets alone, and the model stays as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import lengthwise
from lengthwise.models import attention_hook
from lengthwise.testing.tiny import tiny_model, tokens

RECIPES = ("full", "yarn(factor=4)", "ntk(factor=4)", "pi(factor=2)")
TIMES = 50
LONGROPE = {
    "rope_type": "longrope", "short_factor": [1.0] * 8, "rope_theta": 1e4,
    "long_factor": [1.0 + 3 * i for i in range(8)], "original_max_position_embeddings": 64,
}  # fmt: skip


def together(jobs: list[Callable[[], Any]]) -> list[Any]:
    """What the jobs give, each in a thread of its own, all begun at one moment."""
    found: list[Any] = [None] * len(jobs)
    failed: list[BaseException] = []
    gate = threading.Barrier(len(jobs))

    def run(index: int) -> None:
        gate.wait()
        try:
            found[index] = jobs[index]()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return found


def state(model: PreTrainedModel) -> list[Any]:
    """What the hook could leave behind: buffers, attention by name, forwards of instances."""
    found: list[Any] = [config._attn_implementation for config in attention_hook._configs(model)]
    for module in attention_hook.rotary_modules(model):
        found += [b.tolist() for b in module.buffers()]
        found += [sorted(vars(module)), getattr(module, "attention_scaling", None)]
    return found


@torch.no_grad()
def stock(model: PreTrainedModel, text: list[int], padding: int = 0) -> torch.Tensor:
    """Log-probabilities of the text behind some padding, by the stock model."""
    ids = torch.tensor([[0] * padding + text])
    mask = (torch.arange(ids.shape[1]) >= padding).long()[None]
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[0, padding:]
    return logits.log_softmax(-1)[:-1].gather(1, torch.tensor(text)[1:, None])[:, 0]


# qwen2 runs the fused forward, qwen3 and gemma 3 the plain one, which engages the model itself.
@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gemma3_text"])
def test_four_recipes_at_once_give_what_each_gives_alone(family: str) -> None:
    model = tiny_model(family)
    before = state(model)
    wrapped = lengthwise.wrap(model)
    text = tokens(60)
    alone = [wrapped.score(text, recipe) for recipe in RECIPES]
    fresh = lengthwise.wrap(tiny_model(family))

    def scores(recipe: str) -> Callable[[], list[torch.Tensor]]:
        return lambda: [fresh.score(text, recipe) for _ in range(TIMES)]

    found = together([scores(recipe) for recipe in RECIPES])
    for expected, many in zip(alone, found, strict=True):
        assert all(torch.allclose(each, expected, rtol=0, atol=1e-6) for each in many)
    wrapped.close()
    assert state(model) == before
    assert state(fresh.adapted.model) == before


def test_texts_before_and_beyond_a_switch_at_once() -> None:
    def build() -> PreTrainedModel:
        return tiny_model(
            "phi3", rope_parameters=LONGROPE, max_position_embeddings=4096,
            original_max_position_embeddings=64,
        )  # fmt: skip

    wrapped, untouched = lengthwise.wrap(build()), build()
    texts = [tokens(length, length) for length in (20, 100, 64, 65)]
    jobs = [lambda text=text: [wrapped.score(text) for _ in range(20)] for text in texts]
    for text, many in zip(texts, together(jobs), strict=True):
        expected = stock(untouched, text)
        assert all(torch.allclose(each, expected, rtol=0, atol=2e-5) for each in many)


@pytest.mark.parametrize(
    ("family", "attention"),
    [("qwen3", "sdpa"), ("qwen3", "eager"), ("gemma2", "eager"), ("gpt_oss", "eager"),
     ("gpt2", "sdpa"), ("mistral", "sdpa")],
)  # fmt: skip
def test_the_users_own_forwards_run_beside_ours(family: str, attention: str) -> None:
    model, untouched = tiny_model(family), tiny_model(family)
    for each in (model, untouched):
        each.set_attn_implementation(attention)
    wrapped, text = lengthwise.wrap(model), tokens(40)
    ours, padded = wrapped.score(text), stock(untouched, text, 5)
    before = state(model)
    found = together([
        lambda: [wrapped.score(text) for _ in range(TIMES)],
        lambda: [stock(model, text) for _ in range(TIMES)],
        lambda: [stock(model, text, 5) for _ in range(TIMES)],
    ])  # fmt: skip
    for expected, many in zip((ours, stock(untouched, text), padded), found, strict=True):
        assert all(torch.allclose(each, expected, rtol=0, atol=1e-5) for each in many)
    assert state(model) == before


def test_two_models_over_one_share_it_and_leave_it_as_it_was() -> None:
    model = tiny_model("qwen3")
    before = state(model)
    first, second = lengthwise.wrap(model), lengthwise.wrap(model)
    text = tokens(40)
    expected = first.score(text)
    found = together([
        lambda: [first.score(text) for _ in range(TIMES)],
        lambda: [second.score(text, "pi(factor=2)") for _ in range(TIMES)],
        lambda: [lengthwise.wrap(model).score(text) for _ in range(5)],
    ])  # fmt: skip
    assert all(torch.allclose(each, expected, rtol=0, atol=1e-6) for each in found[0] + found[2])
    assert state(model) == before


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_texts_written_at_once_are_those_written_alone(family: str) -> None:
    recipes = ("full", "lookup", "ntk(factor=2) + recycling", "snapkv(budget=24, window=8)")
    prompt = tokens(9) * 5
    alone = [
        lengthwise.wrap(tiny_model(family)).generate(prompt, recipe, max_new_tokens=20).token_ids
        for recipe in recipes
    ]
    wrapped = lengthwise.wrap(tiny_model(family))
    jobs = [
        lambda recipe=recipe: [
            wrapped.generate(prompt, recipe, max_new_tokens=20).token_ids for _ in range(3)
        ]
        for recipe in recipes
    ]
    for expected, many in zip(alone, together(jobs), strict=True):
        assert many == [expected] * 3


def test_a_nested_engagement_gives_the_outer_one_back() -> None:
    model = tiny_model("qwen3")
    before = state(model)

    def one(module: Any, query: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return query.transpose(1, 2)

    def none(module: Any, query: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.zeros_like(query.transpose(1, 2))

    ids = torch.tensor([tokens(8)])
    with torch.no_grad(), attention_hook.engaged(model, one):
        outer = model(ids).logits
        with attention_hook.engaged(model, none):
            inner = model(ids).logits
        again = model(ids).logits
    assert torch.equal(outer, again)
    assert not torch.equal(outer, inner)
    assert state(model) == before


def test_a_rule_that_is_gone_leaves_no_table_to_the_next() -> None:
    wrapped = lengthwise.wrap(tiny_model("llama"))
    text = tokens(40)
    alone = {
        factor: lengthwise.wrap(tiny_model("llama")).score(text, f"pi(factor={factor})")
        for factor in (2, 3)
    }
    for _ in range(30):
        for factor, expected in alone.items():
            assert torch.equal(wrapped.score(text, f"pi(factor={factor})"), expected)
    assert wrapped.adapted.rope is not None
    assert len(wrapped.adapted.rope._ruled) <= 1
