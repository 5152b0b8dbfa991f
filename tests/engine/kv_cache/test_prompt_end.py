"""What a selection is shown when a prompt is complete: when, how often, and all layers first."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import PromptSelector, Queries, SelectedKeys, Selector
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.plan import Plan
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.testing.tiny import tiny_model, tokens

WINDOW = 8


class Plain:
    """Reads everything."""

    query_block: int | None = None
    last_alone = False
    wants_attention_mass = 0

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        pass

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        return None

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        return None

    def tensors(self) -> list[Tensor | None]:
        return [None]


class Shown(Plain):
    """Notes what it is shown."""

    def __init__(self, layer: LayerFacts, log: list[tuple[str, int, object]], window: int) -> None:
        self.layer, self.log, self.window = layer, log, window
        self.index: Tensor | None = None

    def index_prompt(self, queries: Tensor, far: KVStore) -> None:
        self.log.append(("shown", self.layer.index, (queries.shape[1], len(far))))
        self.index = torch.zeros(100)

    def agree(self, layers: Seq[Shown]) -> None:
        self.log.append(("agree", self.layer.index, [each.layer.index for each in layers]))

    def tensors(self) -> list[Tensor | None]:
        return [self.index]


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def model(request: pytest.FixtureRequest) -> AdaptedModel:
    return adapt(tiny_model(request.param))


def read(
    model: AdaptedModel, length: int, window: int = WINDOW, dense: int = -1
) -> tuple[Sequence, list[tuple[str, int, object]]]:
    """A sequence of a prompt that has not ended, and what its selectors will note."""
    log: list[tuple[str, int, object]] = []

    def start(layer: LayerFacts) -> Selector | None:
        return Plain() if layer.index == dense else Shown(layer, log, window)

    placement = Placement(window=WINDOW, anchored=True)
    sequence = Sequence(model, Plan("shown", None, placement, selector=start))
    prefill(sequence, tokens(length), 16)
    return sequence, log


def test_all_layers_are_shown_the_prompt_before_they_agree_once(model: AdaptedModel) -> None:
    sequence, log = read(model, 40)
    assert not log
    full = [facts.index for facts in model.layers if facts.window is None]
    before = sequence.nbytes()
    sequence.end_prefill()
    far = len(next(g.far for layer, g in sequence.groups() if not layer.own_window))
    assert 40 - WINDOW - 2 < far <= 40 - WINDOW + 1
    shown = [("shown", index, (WINDOW, far)) for index in full]
    assert log == [*shown, ("agree", full[0], full)]
    assert sequence.nbytes() == before + 400 * len(full)
    sequence.end_prefill()
    assert len(log) == len(full) + 1


def test_a_prompt_within_the_window_is_not_shown(model: AdaptedModel) -> None:
    sequence, log = read(model, WINDOW)
    sequence.end_prefill()
    assert log == []


def test_queries_are_as_many_as_there_are_and_were_asked_for(model: AdaptedModel) -> None:
    for window, right in ((3, 3), (30, 30), (100, 40)):
        sequence, log = read(model, 40, window)
        sequence.end_prefill()
        assert log[0][2][0] == right  # type: ignore[index]


def test_selections_that_do_not_ask_are_left_alone(model: AdaptedModel) -> None:
    full = [facts.index for facts in model.layers if facts.window is None]
    sequence, log = read(model, 40, dense=full[0])
    sequence.end_prefill()
    assert log[-1:] == [("agree", full[1], full[1:])] if full[1:] else log == []
    assert not isinstance(Plain(), PromptSelector)


def test_a_fork_ends_its_prompt_by_itself(model: AdaptedModel) -> None:
    sequence, log = read(model, 40)
    fork = sequence.fork()
    prefill(fork, tokens(20, seed=2), 16)
    fork.end_prefill()
    kept = [g.selector for _, g in sequence.groups() if isinstance(g.selector, Shown)]
    assert log == [] and all(each.index is None for each in kept)
    copies = [g.selector for _, g in fork.groups() if isinstance(g.selector, Shown)]
    assert copies and all(each.index is not None for each in copies)
