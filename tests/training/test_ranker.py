"""Training of rankers: what pairs are, and that it learns what goes behind what."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from lengthwise.api.model import Model
from lengthwise.retrieval.ranker import Shape, load_ranker
from lengthwise.training.config import TrainingError
from lengthwise.training.progress import TrainingProgress
from lengthwise.training.ranker import (
    Book,
    Settings,
    batch_of,
    fit,
    library,
    negatives,
    ranks_in,
    train,
)
from tests.training.cartridge_cases import talker

SHAPE = Shape(width=16, layers=1, heads=2, prefix=24, suffix=12)


WORDS = ["apple", "river", "stone", "cloud", "horse", "piano", "green", "seven"]


def text(name: str, count: int = 60) -> str:
    """Sentences of a few words each."""
    chance = Random(name)
    return " ".join(" ".join(chance.sample(WORDS, 4)).capitalize() + "." for _ in range(count))


@pytest.fixture(scope="module")
def model() -> Model:
    return talker()


def test_pairs_meet_where_a_sentence_ends(model: Model) -> None:
    data = library(model, [text("Ada"), text("Grace")], SHAPE, least=8)
    for book in (*data.train, *data.held):
        for pair in book.draw(20, Random(0)):
            assert 8 <= len(pair.prefix) <= 24 and len(pair.suffix) == 12
            before, behind = (model.tokenizer.decode(each) for each in (pair.prefix, pair.suffix))
            assert before.rstrip().endswith(".") and behind.lstrip()[0].isupper()
    # What is held out is not trained on.
    assert all(len(b.ids) > 5 * len(h.ids) for b, h in zip(data.train, data.held, strict=True))


def test_a_batch_has_pairs_of_one_document_and_what_was_written(model: Model) -> None:
    data = library(model, [text("Ada"), text("Grace")], SHAPE, least=8)
    written = negatives(model, data.train, 3, Random(0))
    assert all(each.written and len(each.written) == 12 for each in written)
    assert len({tuple(each.written or ()) for each in written}) == 3
    settings = Settings(batch=12, together=4)
    found = batch_of(data.train, written, settings, Random(0))
    assert len(found) == 12 and sum(each.written is not None for each in found) == 3
    assert len(batch_of(data.train, [], settings, Random(0), in_book=False)) == 12


class Losses(TrainingProgress):
    """Notes the loss of every step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def step(self, step: int, steps: int, record: dict[str, Any]) -> None:
        self.found.append(record["loss"])


def test_it_learns_what_goes_behind_what(model: Model) -> None:
    shape, told = Shape(width=32, layers=1, heads=2, prefix=24, suffix=12), Losses()
    books = library(model, [text("Ada"), text("Grace")], shape, 8).train
    few = [Book(each.ids, each.starts[:8], shape, 8) for each in books]
    settings = Settings(steps=120, batch=8, together=4, least=8, lr=5e-3)
    fit(model, few, [], shape, settings, told)
    assert len(told.found) == 120 and sum(told.found[-20:]) < 0.6 * sum(told.found[:20])


def test_what_is_trained_is_stored_with_how(model: Model, tmp_path: Path) -> None:
    out, settings = tmp_path / "a.ranker", Settings(steps=2, batch=8, generated=2, least=8)
    found = train(model, [text("Ada"), text("Grace")], out, SHAPE, settings)
    stored = load_ranker(out)
    assert stored.trained["steps"] == 2 and stored.trained["model"] == model.name
    assert stored.scores([5, 6], [[7, 8]]) == found.ranker.scores([5, 6], [[7, 8]])
    assert 0 <= found.ranks.first <= 1 and found.ranks.mean >= 1
    # The same again is the same, whatever was drawn meanwhile.
    torch.rand(1)
    again = train(model, [text("Ada"), text("Grace")], out, SHAPE, settings).ranker
    assert again.scores([5, 6], [[7, 8]]) == found.ranker.scores([5, 6], [[7, 8]])
    held = library(model, [text("Ada"), text("Grace")], SHAPE, 8).held
    assert ranks_in(again, held, 4, others=2, elsewhere=True).count == 4


def test_documents_that_are_too_short(model: Model) -> None:
    with pytest.raises(TrainingError, match="1 documents are too short"):
        library(model, ["Ada keeps bees."], SHAPE)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch": 1}, {"lr": 0.0}, {"warmup": 2.0}, {"generated": -1}]
)
def test_settings_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match=next(iter(wrong))):
        Settings(**wrong)
