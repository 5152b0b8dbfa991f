"""A function of the user's says what may follow, as `generate` of transformers takes one."""

from __future__ import annotations

import pytest
import torch

import lengthwise
from lengthwise.errors import ConstraintError, RecipeError, Refused
from lengthwise.methods.decoding.prefix_allowed import prefix_allowed_tokens
from lengthwise.recipes import parse
from lengthwise.testing.tiny import tiny_model, tokens
from tests.knows import knowing


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15))


def near(row: int, ids: torch.Tensor) -> list[int]:
    """The sixteen tokens from the newest one on."""
    assert row == 0
    return [(int(ids[-1]) + step) % 128 for step in range(1, 17)]


def test_it_chooses_what_transformers_does(model) -> None:
    prompt = tokens(30)
    found = model.generate(prompt, [prefix_allowed_tokens(near)], max_new_tokens=12, stop_ids=[])
    stock = tiny_model("llama", initializer_range=0.15).generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None,
        prefix_allowed_tokens_fn=near,
    )  # fmt: skip
    assert found.token_ids == stock[0, 30:].tolist()
    both = [*parse("lookup").methods, prefix_allowed_tokens(near)]
    assert model.generate(prompt, both, max_new_tokens=12, stop_ids=[]).token_ids == found.token_ids


def test_what_cannot_be_followed_is_refused(model) -> None:
    with pytest.raises(RecipeError, match="give a function"):
        prefix_allowed_tokens([1])  # type: ignore[arg-type]
    with pytest.raises(Refused, match="depends on when it is asked"):
        model.plan([*parse("lookup").methods, prefix_allowed_tokens(near, by_path=False)])
    for wrong in (lambda row, ids: [], lambda row, ids: [-1], lambda row, ids: [128]):
        with pytest.raises(ConstraintError, match="its function gave"):
            model.generate(tokens(9), [prefix_allowed_tokens(wrong)], max_new_tokens=2)
    with pytest.raises(ConstraintError, match="its function failed: integer division"):
        model.generate(tokens(9), [prefix_allowed_tokens(lambda row, ids: [1 // 0])])


def test_a_trie_that_has_nothing_behind_its_texts_serves_under_guesses(model) -> None:
    prompt, text = tokens(30), [9, 3, 77, 5]
    after = {tuple(text[:count]): [text[count]] for count in range(4)}
    shown: list[tuple[torch.Tensor, list[int]]] = []

    def allowed(row: int, ids: torch.Tensor) -> list[int]:
        shown.append((ids, ids.tolist()))
        return after.get(tuple(ids[30:].tolist()), [])

    trie, asked = prefix_allowed_tokens(allowed), {"max_new_tokens": 12, "stop_ids": [5]}
    plain = model.generate(prompt, [trie], **asked)
    drafted = model.generate(prompt, knowing([*text, 1, 2], trie), **asked)
    assert plain.token_ids == drafted.token_ids == text[:3]
    assert plain.metrics.finish_reason == drafted.metrics.finish_reason == "stop"
    assert drafted.metrics.steps < plain.metrics.steps
    # What it is shown is its own.
    assert all(ids.tolist() == then and then[:30] == prompt for ids, then in shown)
    found = model.generate(prompt, knowing([*text, 1, 2], trie), max_new_tokens=4, stop_ids=[])
    assert found.token_ids == text and found.metrics.finish_reason == "length"
