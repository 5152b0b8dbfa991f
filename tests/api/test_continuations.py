"""Continuations of contexts: scored as one by one, contexts read once."""

from __future__ import annotations

import pytest
import torch

import lengthwise
from lengthwise.api import continuations as module
from lengthwise.api.continuations import Scored, score_continuations, score_text
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.testing.tiny import tiny_model, tokens

BASE = tokens(140)
# Contexts that begin alike, one that does not, and one twice; continuations of one token and more.
CONTEXTS = [BASE[:100], [*BASE[:90], *tokens(20, 1)], tokens(30, 2), [5], BASE[:100]]
PAIRS = [
    (context, tokens(length, length))
    for context in CONTEXTS
    for length in (1, 2, 25)
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15))


@pytest.mark.parametrize("recipe", ["full", "snapkv(budget=25%, window=8, floor=8)",
                                    "h2o(budget=40)", "kivi(bits=4, group=8, residual=16)",
                                    "yarn(factor=2) + lookup", "infllm(budget=32, window=16, "
                                    "block=4, init=2)"])  # fmt: skip
@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_is_what_the_model_gives_it_alone(
    model: lengthwise.Model, recipe: str, batch_size: int
) -> None:
    told: dict[int, Scored] = {}
    found = score_continuations(model, PAIRS, recipe, batch_size=batch_size, told=told.__setitem__)
    assert told == dict(enumerate(found))
    for (context, continuation), scored in zip(PAIRS, found, strict=True):
        alone = model.score([*context, *continuation], recipe, prompt=len(context))
        assert torch.allclose(torch.tensor(scored.logprobs), alone, atol=1e-4)
        assert scored.total == pytest.approx(float(alone.sum()), abs=1e-3)


def test_greedy_is_what_the_model_would_write(model: lengthwise.Model) -> None:
    written = model.generate(BASE, max_new_tokens=6, stop_ids=[]).token_ids
    other = [*written[:-1], (written[-1] + 1) % 128]
    right, wrong = score_continuations(model, [(BASE, written), (BASE, other)])
    assert right.greedy and not wrong.greedy


def test_what_is_common_is_read_once(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    extend = module.loop.extend

    def counting(items, *more, **options):  # type: ignore[no-untyped-def]
        read.extend(len(fed) for _, fed, _ in items)
        return extend(items, *more, **options)

    for place in ("lengthwise.engine.loop", "lengthwise.engine.branches"):
        monkeypatch.setattr(f"{place}.extend", counting)
    one_each = [(context, [7]) for context in CONTEXTS[:2]]
    score_continuations(model, [*one_each, *one_each, (CONTEXTS[0], [8])])
    # 100 tokens, and of the other context what is its own; one token is predicted and not fed.
    assert sum(read) == 100 + 20


def test_a_text_is_one_token_longer_than_positions() -> None:
    model = lengthwise.wrap(tiny_model("gpt2", max_position_embeddings=32))
    ids = tokens(33)
    assert torch.allclose(score_text(model, ids)[:-1], model.score(ids[:-1]), atol=1e-5)
    assert len(score_text(model, ids)) == 32
    with pytest.raises(Refused):
        score_text(model, tokens(34))
    with pytest.raises(Refused):
        score_continuations(model, [(tokens(32), [5]), (tokens(32), [5, 6])])
    assert len(score_continuations(model, [(tokens(31), [5, 6])])) == 1


def test_nothing_is_no_pair(model: lengthwise.Model) -> None:
    assert score_continuations(model, []) == []
    with pytest.raises(LengthwiseError, match="pair 1: its context is empty"):
        score_continuations(model, [([5], [6]), ([], [6])])
    with pytest.raises(LengthwiseError, match="pair 0: its continuation is empty"):
        score_continuations(model, [([5], [])])
    with pytest.raises(Refused, match="bm25 chooses"):
        score_continuations(model, [([5], [6])], "bm25")
    with pytest.raises(LengthwiseError, match="at least two"):
        score_text(model, [5])
