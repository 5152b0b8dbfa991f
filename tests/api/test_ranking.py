"""Candidates behind one prompt: what each has alone, in one forward."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.engine import branches
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import tokenizer

PROMPT = tokens(60)
CANDIDATES = [tokens(6, 1), tokens(1, 2), [*tokens(3, 1), 9, 9], tokens(12, 4), tokens(6, 1)]


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    made = tokenizer()
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15, vocab_size=len(made)), made)


@pytest.mark.parametrize("recipe", ["full", "snapkv(budget=25%, window=8, floor=8)", "lookup"])
def test_each_has_what_it_has_alone(model: lengthwise.Model, recipe: str) -> None:
    found = model.rank(PROMPT, CANDIDATES, recipe)
    assert sorted(each.index for each in found) == list(range(len(CANDIDATES)))
    assert [each.score for each in found] == sorted((each.total for each in found), reverse=True)
    for each in found:
        alone = model.score([*PROMPT, *CANDIDATES[each.index]], recipe, prompt=len(PROMPT))
        assert torch.allclose(torch.tensor(each.logprobs), alone, atol=1e-5)
        assert each.total == pytest.approx(float(alone.double().sum()), abs=1e-5)
        assert each.mean == pytest.approx(each.total / len(alone))
        assert list(each.token_ids) == CANDIDATES[each.index]
    # Of equals the one that was given first.
    equal = [each.index for each in found if each.index in (0, 4)]
    assert equal == [0, 4]


def test_one_forward_behind_the_prompt(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    extend = branches.extend

    def counting(items: Any, *more: Any, **options: Any) -> Any:
        counts.append(sum(len(fed) for _, fed, _ in items))
        return extend(items, *more, **options)

    monkeypatch.setattr(branches, "extend", counting)
    whole = model.rank(PROMPT, CANDIDATES)
    assert len(counts) == 1
    counts.clear()
    parts = model.rank(PROMPT, CANDIDATES, most=12)
    assert len(counts) > 1 and max(counts) <= 12
    for one, other in zip(whole, parts, strict=True):
        assert one.index == other.index and one.score == pytest.approx(other.score, abs=1e-5)


def test_by_mean_and_against_a_prompt_that_stands_for_none(model: lengthwise.Model) -> None:
    found = model.rank(PROMPT, CANDIDATES, normalise="mean")
    assert [each.score for each in found] == sorted((each.mean for each in found), reverse=True)
    found = model.rank(PROMPT, CANDIDATES, against=[5, 6])
    alone = {each.index: each.total for each in model.rank([5, 6], CANDIDATES)}
    for each in found:
        assert each.without == pytest.approx(alone[each.index], abs=1e-5)
        assert each.score == pytest.approx(each.total - alone[each.index], abs=1e-4)


def test_a_text_is_read_on_with_its_candidates(model: lengthwise.Model) -> None:
    prompt, texts = "Ada keeps bees at", [" gate 5", "", " home"]
    found = model.rank(prompt, [texts[0], texts[2]])
    for each in found:
        whole = model.encode(prompt + each.text)
        assert whole == [*model.encode(prompt), *each.token_ids]
    with pytest.raises(LengthwiseError, match="candidate 1 is empty"):
        model.rank(prompt, texts)
    # Behind ids, and behind messages, by themselves.
    (alone,) = model.rank(model.encode(prompt), [" gate 5"])
    assert alone.text == " gate 5"
    (named,) = model.rank(model.encode(prompt), [list(alone.token_ids)])
    assert named.logprobs == alone.logprobs


@pytest.mark.parametrize(
    ("candidates", "told"),
    [
        ([], "there are no candidates"),
        ("yes", "give a list of texts"),
        (3, "give a list of texts"),
        (None, "give a list of texts"),
        ([[5], []], "candidate 1 is empty"),
        ([[5], 7], "candidate 1 is 7, a int"),
        ([[5], None], "candidate 1 is None"),
        ([b"yes"], "candidate 0 is b'yes'"),
        ([[5.5]], "candidate 0: prompt id 5.5"),
        ([[99_999]], "candidate 0: token id 99999 is outside"),
        (["\udcff"], "candidate 0 has a lone surrogate"),
    ],
)
def test_what_is_no_candidate(model: lengthwise.Model, candidates: Any, told: str) -> None:
    with pytest.raises(LengthwiseError, match=told):
        model.rank(PROMPT, candidates)


def test_other_arguments_that_are_none(model: lengthwise.Model) -> None:
    with pytest.raises(LengthwiseError, match="normalise='max': allowed are sum, mean"):
        model.rank(PROMPT, CANDIDATES, normalise="max")
    with pytest.raises(LengthwiseError, match="most=0"):
        model.rank(PROMPT, CANDIDATES, most=0)
    with pytest.raises(LengthwiseError, match="prompt is empty"):
        model.rank([], CANDIDATES)
    with pytest.raises(Refused, match="bm25 chooses"):
        model.rank(PROMPT, CANDIDATES, "bm25")


def test_a_candidate_beyond_the_positions_is_named() -> None:
    model = lengthwise.wrap(tiny_model("gpt2", max_position_embeddings=32))
    with pytest.raises(LengthwiseError, match="candidate 1 has 8 tokens behind a prompt of 30"):
        model.rank(tokens(30), [[5, 6], tokens(8)])
