"""A real model of 1.5B parameters in bf16, whose large activations once had it refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from benchmarks.coder import ANSWER, RECIPES, coder, question

import lengthwise
from lengthwise.api import Model
from lengthwise.errors import ModelError


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    try:
        path = coder()
    except ModelError as error:
        pytest.skip(str(error))
    with lengthwise.load(str(path), dtype="bf16", device="cpu") as model:
        yield model


@pytest.mark.slow
def test_a_real_model_is_rightly_adapted_and_fused(model: Model) -> None:
    adapted = model.adapted
    assert adapted.family == "qwen2"
    assert len(adapted.layers) == 28
    assert adapted.fast is not None
    assert adapted.notes == []
    ids = model.encode("The keeper of the lighthouse wrote down every ship that passed.")
    with torch.no_grad():
        stock = adapted.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    theirs = stock[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0]
    assert float((model.score(ids) - theirs).abs().mean()) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_real_model_answers(model: Model, recipe: str) -> None:
    found = model.generate(question(model), recipe, max_new_tokens=12)
    assert ANSWER in found.text.lower(), found.text
