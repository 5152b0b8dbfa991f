"""A real model of 1.5B parameters in bf16, whose large activations once had it refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import lengthwise
from lengthwise.api.model import Model
from lengthwise.documents.files import read_document
from tests.scripts import script

FACT, ANSWER = "The password of the lighthouse is heliotrope.", "heliotrope"
ASKED = "What is the password of the lighthouse? Answer with one word."
LENGTH = 1200
RECIPES = ("full", "snapkv(budget=512) + lookup", "yarn(factor=4)")


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    # It fetches the model where it is not in the cache, and prints where it lies.
    done = script("benchmarks.coder")
    if done.returncode:
        assert "Traceback" not in done.stderr, done.stderr
        pytest.skip(done.stderr.strip().splitlines()[-1])
    with lengthwise.load(done.stdout.strip(), dtype="bf16", device="cpu") as model:
        yield model


def question(model: Model) -> list[dict[str, str]]:
    """Chat messages of about LENGTH tokens of text with FACT in the middle, and what is asked."""
    ids = model.encode(read_document().text)[:LENGTH]
    assert model.tokenizer is not None
    before, after = (
        model.tokenizer.decode(part) for part in (ids[: LENGTH // 2], ids[LENGTH // 2 :])
    )
    return [{"role": "user", "content": f"{before}\n\n{FACT}\n\n{after}\n\n{ASKED}"}]


@pytest.mark.slow
def test_a_real_model_is_rightly_adapted_and_fused(model: Model) -> None:
    adapted = model.adapted
    assert adapted.family == "qwen2"
    assert len(adapted.layers) == 28
    assert adapted.fast is not None
    # Whether its weights are packed hangs on the memory that is free.
    assert [note for note in adapted.notes if "pack=True" not in note] == []
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
