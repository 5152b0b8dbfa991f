"""What a selection reads is counted where it says it, copies of the cache included."""

from __future__ import annotations

import pytest
import torch

import lengthwise
from lengthwise.engine import loop
from lengthwise.engine.forced import forced
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.evaluation.metrics.reads import counted
from lengthwise.methods.base import Method, Question
from lengthwise.recipes.registry import methods
from tests.evaluation.shelf_runs import tiny


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return tiny()


def read_of(model: lengthwise.Model, recipe: str, length: int = 400) -> float | None:
    plan, reads = counted(model.plan(recipe))
    sequence = Sequence(model.adapted, plan)
    ids = torch.arange(length).remainder(256).tolist()
    loop.prefill(sequence, ids)
    sequence.end_prefill()
    assert reads.plans == 0
    reads.on = True
    list(forced(sequence.fork(), ids[:8]))
    return reads.share


def test_without_a_selection_nothing_is_counted(model: lengthwise.Model) -> None:
    assert read_of(model, "snapkv(budget=50%)") is None


def test_tokens_read_are_those_of_the_budget(model: lengthwise.Model) -> None:
    found = read_of(model, "token_select(budget=100, window=32, init=4, query_block=32)")
    assert found is not None
    # A window overhangs by up to a quarter, which comes off what is chosen.
    assert 0.9 * 100 / 404 < found <= 100 / 400


def test_dense_layers_read_everything(model: lengthwise.Model) -> None:
    layers = len(model.adapted.layers)
    options = "budget=100, window=16, page=4"
    sparse = read_of(model, f"quest({options}, dense=0)")
    mixed = read_of(model, f"quest({options}, dense=1)")
    assert sparse is not None and mixed is not None
    assert mixed == pytest.approx((sparse * (layers - 1) + 1) / layers, rel=0.02)
    assert read_of(model, f"quest({options}, dense={layers})") is None


def test_counting_changes_nothing(model: lengthwise.Model) -> None:
    plan = model.plan("quest(budget=100, window=16, page=4, dense=0)")
    outs = []
    for each in (plan, counted(plan)[0]):
        sequence = Sequence(model.adapted, each)
        loop.prefill(sequence, list(range(200)))
        sequence.end_prefill()
        outs.append(torch.cat(list(forced(sequence, list(range(8))))))
    assert torch.equal(*outs)


SELECTIONS = [cls for cls in methods().values() if cls.question is Question.SELECTION]


@pytest.mark.parametrize("cls", SELECTIONS, ids=lambda cls: cls.name)
def test_copies_of_every_selection_on_the_shelf_count(
    model: lengthwise.Model, cls: type[Method]
) -> None:
    if cls().at_share(0.25, model.adapted, 400) is None:
        pytest.skip("it has no setting for a share")
    found = read_of(model, str(cls.example()))
    assert found is not None and 0 < found <= 1
