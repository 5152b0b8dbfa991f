"""When a step is captured, replayed and dropped. In place of graphs stands what runs again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.static import graphs
from lengthwise.engine.static.graphs import FIRST_STEPS, StaticSteps
from lengthwise.engine.static.step import StaticStep
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens
from tests.engine.static.few_guesses import Few


class Recorded:
    """What a graph does: the same operators on the same memory, whoever holds that now."""

    def __init__(self, step: StaticStep, taken: str | None) -> None:
        self.taken = taken
        self.step: StaticStep | None = step
        self.replays = 0
        with torch.no_grad():
            self.out = tuple(torch.zeros_like(each) for each in step())

    def pool(self) -> str:
        return "memory of all"

    def replay(self) -> None:
        self.replays += 1
        assert self.step is not None
        for mine, new in zip(self.out, self.step(), strict=True):
            mine.copy_(new)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recorded]]:
    """Every step of the loop is served as on a GPU; the graphs that were made."""
    found: list[Recorded] = []

    def captured(step: StaticStep, pool: str | None) -> tuple[Recorded, tuple[Tensor, ...]]:
        found.append(Recorded(step, pool))
        return found[-1], found[-1].out

    steps = StaticSteps()
    monkeypatch.setattr(graphs, "captured", captured)
    monkeypatch.setenv("LENGTHWISE_GRAPH", "on")
    monkeypatch.setattr(loop, "serve", partial(steps.serve, capturing=True))
    yield found


@pytest.fixture
def model() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15))


@lru_cache
def plan(recipe: str, model: AdaptedModel) -> Plan:
    """One for all rows of a batch, whose placements are compared."""
    return resolve(recipe, model)


def begin(
    model: AdaptedModel, recipe: str, prompt: int, new: int, expected: int | None = None
) -> Request:
    size = prompt + new if expected is None else expected
    sequence = Sequence(model, plan(recipe, model), expected=size)
    request = loop.begin(sequence, Sampling(), new, ())
    loop.start(request, loop.prefill(sequence, tokens(prompt, seed=prompt)))
    return request


def texts(requests: list[Request]) -> list[list[int]]:
    while active := [request for request in requests if not request.done]:
        loop.step(active)
    return [request.output for request in requests]


def ordinary(monkeypatch: pytest.MonkeyPatch, requests: list[Request]) -> list[list[int]]:
    with monkeypatch.context() as patch:
        patch.delenv("LENGTHWISE_GRAPH")
        return texts(requests)


@pytest.mark.parametrize(
    "recipe", ["full", "streaming(sinks=2, window=24)", "snapkv(budget=50%, window=8, floor=8)"]
)
def test_replayed_steps_write_the_same_text(
    recipe: str, model: AdaptedModel, made: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, right = ([begin(model, recipe, n, 40) for n in (60, 33)] for _ in range(2))
    assert texts(ours) == ordinary(monkeypatch, right)
    assert sum(graph.replays for graph in made) >= 39 - FIRST_STEPS * (1 + len(made))
    assert len(made) <= 2


def test_trees_have_graphs_by_their_size(
    model: AdaptedModel, made: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, right = ([begin(model, "full", 60, 90)] for _ in range(2))
    (text,) = ordinary(monkeypatch, right)
    ours[0].drafters.append(Few(60, text))
    while not ours[0].done:
        loop.step(ours, Fixed())
    assert ours[0].output == text
    sizes = [graph.step.inputs.visible.shape[1] for graph in made if graph.step is not None]
    assert len(sizes) == len(set(sizes)) >= 2
    assert all(graph.replays for graph in made)


def test_where_memory_moves_another_graph_is_made(
    model: AdaptedModel, made: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.engine.static.rooms.GROWTH", 8)
    ours, right = ([begin(model, "full", 20, 60, expected=0)] for _ in range(2))
    assert texts(ours) == ordinary(monkeypatch, right)
    assert len(made) >= 2
    assert all(graph.replays for graph in made)


def test_rows_that_lie_where_others_lay_use_their_graph(
    model: AdaptedModel, made: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = begin(model, "full", 20, 12)
    texts([first])
    second, right = (begin(model, "full", 21, 11) for _ in range(2))
    # As an allocator does that gives the memory of a request that is over to the next one.
    for old, new in zip(first.sequence.layers, second.sequence.layers, strict=True):
        memory = old.groups[0].near.allocated
        assert memory is not None
        new.groups[0].near.move(memory)
    assert texts([second]) == ordinary(monkeypatch, [right])
    assert len(made) == 1


def near_memory(request: Request) -> weakref.ref[KVEntries]:
    memory = request.sequence.layers[0].groups[0].near.allocated
    assert memory is not None
    return weakref.ref(memory)


def test_graphs_hold_no_cache(model: AdaptedModel, made: list[Recorded]) -> None:
    request = begin(model, "full", 20, 12)
    texts([request])
    memory = near_memory(request)
    # A graph holds no step.
    made[0].step = None
    del request
    gc.collect()
    assert memory() is None


def test_entries_that_move_are_held_no_longer(model: AdaptedModel, made: list[Recorded]) -> None:
    requests = [begin(model, "full", 20 + n, 30) for n in range(2)]
    loop.step(requests[:1])
    loop.step(requests[1:])
    alone = [near_memory(request) for request in requests]
    loop.step(requests)
    gc.collect()
    assert [memory() for memory in alone] == [None, None]


@pytest.mark.parametrize(
    "name",
    ["layers.0.mlp.gate_proj", "layers.1.mlp.down_proj", "layers.1.input_layernorm", "norm",
     "embed_tokens"],
)  # fmt: skip
def test_other_weights_are_captured_anew(
    name: str, model: AdaptedModel, made: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner: Any = model.model
    weight = inner.model.get_submodule(name).weight
    kept = weight.detach().clone()
    found = []
    for graph in (True, False):
        request = begin(model, "full", 20, 20)
        for number in range(19):
            if number == 9:
                weight.data = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
            if graph:
                loop.step([request])
            else:
                with monkeypatch.context() as patch:
                    patch.delenv("LENGTHWISE_GRAPH")
                    loop.step([request])
        weight.data = kept.clone()
        found.append(request.output)
    assert found[0] == found[1]
    assert len(made) == 2


def test_another_epsilon_is_captured_anew(model: AdaptedModel, made: list[Recorded]) -> None:
    inner: Any = model.model
    request = begin(model, "full", 20, 20)
    for number in range(19):
        if number == 9:
            inner.model.norm.variance_epsilon = 0.5
        loop.step([request])
    assert len(made) == 2


def test_steps_around_a_capture_tell_a_policy_nothing(
    model: AdaptedModel, made: list[Recorded]
) -> None:
    request, steps = begin(model, "full", 20, 20), StaticSteps()
    settled = []
    for _ in range(5):
        served = steps.serve([request.sequence], [[5]])
        assert served is not None
        request.sequence.commit(served.steps[0], [5])
        settled.append(served.settled)
    assert settled == [False] * (FIRST_STEPS + 1) + [True] * (4 - FIRST_STEPS)
    served = steps.serve([request.sequence], [[5]], capturing=False)
    assert served is not None and served.settled


def test_in_sixteen_bits_graphs_want_the_kernel_of_a_gpu(made: list[Recorded]) -> None:
    model = adapt(tiny_model("llama").to(torch.bfloat16))
    request, steps = begin(model, "full", 20, 20), StaticSteps()
    assert steps.serve([request.sequence], [[5]]) is None
    assert steps.serve([request.sequence], [[5]], capturing=False) is not None


def test_only_so_many_graphs_are_kept(
    model: AdaptedModel, made: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "KEPT", 2)
    steps = StaticSteps()
    monkeypatch.setattr(loop, "serve", partial(steps.serve, capturing=True))
    requests = [begin(model, "full", 20 + n, 9) for n in range(4)]
    for request in requests:
        texts([request])
    assert len(made) == 4 and len(steps._graphs) == 2
    assert [graph.taken for graph in made] == [None, *["memory of all"] * 3]
    # Each of the graphs that had to go served a few steps only, so the next ones wait longer.
    assert steps._patience == 4 * FIRST_STEPS


def test_a_capture_that_fails_is_said_once(
    model: AdaptedModel, made: list[Recorded], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("lengthwise._utils.saying._SAID", set())

    def failing(*_: object) -> None:
        raise RuntimeError("CUDA driver version is insufficient\nand more")

    monkeypatch.setattr(graphs, "captured", failing)
    ours, right = ([begin(model, "full", 20, 20)] for _ in range(2))
    assert texts(ours) == ordinary(monkeypatch, right)
    said = capsys.readouterr().err
    assert said.count("cannot be captured as CUDA graphs (CUDA driver version") == 1
    assert "and more" not in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU captures")
def test_without_a_gpu_nothing_is_captured(
    model: AdaptedModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lengthwise._utils.saying._SAID", set())
    steps, request = StaticSteps(), begin(model, "full", 20, 9)
    monkeypatch.setenv("LENGTHWISE_GRAPH", "on")
    monkeypatch.setattr(loop, "serve", partial(steps.serve, capturing=True))
    assert len(texts([request])[0]) == 9
    assert steps.serve([request.sequence], [[5]]) is None
    assert "cannot be captured" in capsys.readouterr().err


def test_a_graph_that_gives_something_else_is_not_believed(
    model: AdaptedModel, made: list[Recorded], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("lengthwise._utils.saying._SAID", set())
    right_way = graphs.captured

    def wrong(step: Any, pool: Any) -> Any:
        graph, (logits, best, states) = right_way(step, pool)
        return graph, (logits + logits.std(), best, states)

    monkeypatch.setattr(graphs, "captured", wrong)
    ours, right = ([begin(model, "full", 20, 20)] for _ in range(2))
    assert texts(ours) == ordinary(monkeypatch, right)
    assert "gives logits that are off by" in capsys.readouterr().err
