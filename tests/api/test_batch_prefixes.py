"""Rows of a batch that begin alike: one reads for all, the others together what is left."""

from __future__ import annotations

from typing import Any

import pytest

import lengthwise
from lengthwise.api import batch
from lengthwise.api.model import Model
from lengthwise.engine import loop
from lengthwise.testing.tiny import tiny_model, tokens

TEXT = tokens(400)
SYSTEM = TEXT[:100]
ASKED: dict[str, Any] = {"max_new_tokens": 6, "stop_ids": []}


@pytest.fixture
def model() -> Model:
    return lengthwise.wrap(tiny_model("llama"), cache_bytes=1 << 24)


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Tokens of every row of every forward."""
    found: list[list[int]] = []
    extend = loop.extend

    def counted(items: Any, *rest: Any, **more: Any) -> Any:
        found.append([len(text) for _, text, _ in items])
        return extend(items, *rest, **more)

    monkeypatch.setattr(loop, "extend", counted)
    return found


def plain(prompts: list[list[int]], recipe: str) -> list[list[int]]:
    with lengthwise.wrap(tiny_model("llama")) as other:
        return [other.generate(prompt, recipe, **ASKED).token_ids for prompt in prompts]


@pytest.mark.parametrize("recipe", ["full", "snapkv(budget=32, window=8) + lookup"])
def test_a_common_beginning_is_read_once(
    model: Model, forwards: list[list[int]], recipe: str
) -> None:
    prompts = [[*SYSTEM, *TEXT[start : start + 20]] for start in (120, 150, 180)]
    prompts.append(TEXT[200:230])
    right = plain(prompts, recipe)
    forwards.clear()
    found = model.generate_batch(prompts, recipe, **ASKED)
    assert [row.token_ids for row in found] == right
    assert [row.metrics.reused_tokens for row in found] == [0, 100, 100, 0]
    # The first reads for those that begin as it does, beside one that does not.
    assert forwards[:2] == [[120, 30], [20, 20]]


def test_what_is_shorter_is_read_again_rather_than_waited_for(
    model: Model, forwards: list[list[int]]
) -> None:
    few = SYSTEM[: batch.SHARED - 10]
    prompts = [[*few, *TEXT[start : start + 20]] for start in (120, 150)]
    found = model.generate_batch(prompts, **ASKED)
    assert [row.metrics.reused_tokens for row in found] == [0, 0]
    assert forwards[0] == [len(few) + 20] * 2


def test_recipes_that_reuse_nothing_wait_for_nobody(
    model: Model, forwards: list[list[int]]
) -> None:
    prompts = [[*SYSTEM, *TEXT[start : start + 20]] for start in (120, 150)]
    model.generate_batch(prompts, "h2o(budget=64)", **ASKED)
    assert forwards[0] == [120, 120]


def test_equal_prompts_are_read_once(model: Model, forwards: list[list[int]]) -> None:
    found = model.generate_batch([SYSTEM] * 5, seed=range(5), temperature=1.0, **ASKED)
    assert [row.metrics.reused_tokens for row in found] == [0, 99, 99, 99, 99]
    assert forwards[:2] == [[100], [1] * 4]


def test_what_left_meanwhile_is_read_again(
    model: Model, forwards: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [[*SYSTEM, *TEXT[start : start + 20]] for start in (120, 150, 180)]
    right = plain(prompts, "full")
    model.generate(prompts[0], **ASKED)
    bins = batch.packed_prefill.bins

    def evicting(*given: Any) -> list[list[int]]:
        found = bins(*given)
        assert model.prefix_cache is not None
        model.prefix_cache.clear()
        return found

    monkeypatch.setattr(batch.packed_prefill, "bins", evicting)
    forwards.clear()
    found = model.generate_batch(prompts, chunk=70, **ASKED)
    assert [row.token_ids for row in found] == right
    assert [row.metrics.reused_tokens for row in found] == [0, 100, 100]
    assert all(max(each) <= 70 for each in forwards)
