"""Rows of one batch with recipes and seeds of their own: each is what it is alone."""

from __future__ import annotations

import pytest

import lengthwise
from lengthwise.engine import loop
from lengthwise.errors import LengthwiseError
from lengthwise.testing.tiny import tiny_model, tokens

PROMPTS = [tokens(60)[start : start + length] for start, length in
           ((0, 50), (3, 20), (0, 50), (10, 45), (1, 33), (0, 50))]  # fmt: skip
RECIPES = [
    "full", "snapkv(budget=16, window=8) + lookup", "kivi(bits=4)", "yarn(factor=2) + recycling",
    "lookup + fixed", "streaming(window=24)",
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama"))


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_every_row_is_what_it_is_alone(model: lengthwise.Model, temperature: float) -> None:
    asked = {"max_new_tokens": 16, "stop_ids": [], "temperature": temperature}
    seeds = [5, 5, 6, 7, 8, 9]
    together = model.generate_batch(PROMPTS, RECIPES, seed=seeds, **asked)
    alone = [
        model.generate(prompt, recipe, seed=seed, **asked)
        for prompt, recipe, seed in zip(PROMPTS, RECIPES, seeds, strict=True)
    ]
    assert [g.token_ids for g in together] == [g.token_ids for g in alone]
    assert [g.metrics.kv_bytes for g in together] == [g.metrics.kv_bytes for g in alone]
    texts = {tuple(g.token_ids) for g in together}
    assert len(texts) > 3


def test_stop_ids_that_can_be_gone_through_once_stop(model: lengthwise.Model) -> None:
    said = model.generate(PROMPTS[0], max_new_tokens=8, stop_ids=[]).token_ids
    for ids in (iter(said[3:4]), (token for token in said[3:4])):
        found = model.generate_batch([PROMPTS[0]] * 2, max_new_tokens=8, stop_ids=ids)
        assert {g.metrics.finish_reason for g in found} == {"stop"}
        assert all(g.token_ids == said[: said.index(said[3])] for g in found)


def test_one_prompt_with_several_seeds_gives_several_texts(model: lengthwise.Model) -> None:
    asked = {"max_new_tokens": 12, "stop_ids": [], "temperature": 1.0}
    found = model.generate_batch([PROMPTS[0]] * 4, seed=range(4), **asked)
    assert len({tuple(g.token_ids) for g in found}) == 4
    alone = [model.generate(PROMPTS[0], seed=seed, **asked).token_ids for seed in range(4)]
    assert [g.token_ids for g in found] == alone


def test_a_recipe_that_cannot_serve_its_row_refuses_that_row_alone(model: lengthwise.Model) -> None:
    found = model.generate_batch(
        PROMPTS[:3], ["full", "snapkv(budget=8B)", "superposed"], max_new_tokens=4, stop_ids=[]
    )
    assert [g.refused is not None for g in found] == [False, True, False]
    assert found[2].drafts and len(found[0].token_ids) == 4


def test_rows_without_a_policy_of_their_own_share_a_forward(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What docs/python.md says of the cost: one forward a round, one more for each own policy."""
    rows: list[int] = []
    extend = loop.extend

    def counted(items, *rest, **more):
        rows.append(len(items))
        return extend(items, *rest, **more)

    monkeypatch.setattr(loop, "extend", counted)
    asked = {"max_new_tokens": 3, "stop_ids": [], "chunk": 64}
    model.generate_batch(PROMPTS[:3], ["full", "snapkv(budget=16, window=8)", "kivi"], **asked)
    assert rows == [1, 1, 1, 3, 3]
    rows.clear()
    model.generate_batch(PROMPTS[:3], ["full", "lookup + fixed", "kivi"], **asked)
    assert rows[3:5] in ([2, 1], [1, 2])


def test_one_each_or_one_for_all(model: lengthwise.Model) -> None:
    for given, words in [
        ({"recipe": ["full", "kivi"]}, "2 of recipe for 3 prompts"),
        ({"seed": [1]}, "1 of seed for 3 prompts"),
        ({"seed": [1, 2, "x"]}, "seed='x'"),
    ]:
        with pytest.raises(LengthwiseError, match=words):
            model.generate_batch(PROMPTS[:3], max_new_tokens=2, **given)
    with pytest.raises(LengthwiseError, match=r"a list of recipes \(2\) for one prompt"):
        model.generate(PROMPTS[0], ["full", "kivi"])
    from lengthwise.recipes import parse

    methods = list(parse("snapkv(budget=16, window=8) + lookup").methods)
    one = model.generate(PROMPTS[0], methods, max_new_tokens=4, stop_ids=[])
    two = model.generate_batch(PROMPTS[:2], [methods, parse("kivi")], max_new_tokens=4, stop_ids=[])
    assert two[0].token_ids == one.token_ids
