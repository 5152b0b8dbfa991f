"""The static step is the ordinary one: its tokens, its logits, and the cache that it leaves."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.static import graphs
from lengthwise.models.adapt import adapt
from lengthwise.models.quantised import quantise
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens
from tests.engine.kernels.row_kernel import by_definition
from tests.engine.static.begun import (
    PLAIN,
    RECIPES,
    Steps,
    assert_same_cache,
    held,
    model,
    prompts,
)
from tests.engine.static.few_guesses import Few


@pytest.mark.parametrize("lengths", [(40,), (17, 40), (3, 30, 31, 90)], ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
def test_it_writes_what_the_ordinary_step_writes(
    recipe: str, lengths: tuple[int, ...], steps: Steps
) -> None:
    ours, right = (steps.begin(recipe, prompts(*lengths), 40) for _ in range(2))
    assert steps.run(ours, static=True) == steps.run(right, static=False)
    assert steps.static >= 36
    for mine, theirs in zip(ours, right, strict=True):
        assert_same_cache(mine, theirs)
        if len(lengths) == 1:
            spare = (40 + 16 + 4) * model().bytes_per_token * 2
            assert abs(mine.sequence.nbytes() - theirs.sequence.nbytes()) <= spare


@pytest.mark.parametrize("lengths", [(40,), (3, 90, 31)], ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
def test_by_the_kernel_of_a_gpu_it_writes_the_same(
    recipe: str, lengths: tuple[int, ...], steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def kernel(*given: Any) -> tuple[Tensor, Tensor]:
        asked.append(len(given[0]))
        return by_definition(*given)

    monkeypatch.setattr("lengthwise.engine.kernels.lengths._kernel", kernel)
    monkeypatch.setattr(graphs, "by_flash", lambda model, _: [True] * len(model.layers))
    monkeypatch.setattr(graphs, "_STEPS", WeakKeyDictionary())
    ours, drafted, right = (steps.begin(recipe, prompts(*lengths), 30) for _ in range(3))
    texts = steps.run(right, static=False)
    assert steps.run(ours, static=True) == texts
    for row, (request, text) in enumerate(zip(drafted, texts, strict=True)):
        request.drafters.append(Few(lengths[row], text))
    assert steps.run(drafted, static=True) == texts
    assert len(lengths) in asked
    assert (max(asked) > len(lengths)) == (recipe in PLAIN)


def test_weights_in_fewer_bits(steps: Steps) -> None:
    small = tiny_model("llama", initializer_range=0.15, head_dim=32, intermediate_size=128)
    quantise(small, "int8")
    adapted = adapt(small)
    plan, found = resolve("full", adapted), []
    for static in (True, False):
        sequence = Sequence(adapted, plan, expected=60)
        request = loop.begin(sequence, Sampling(), 20, ())
        loop.start(request, loop.prefill(sequence, tokens(30)))
        found.append(steps.run([request], static))
    assert found[0] == found[1]
    assert steps.static == 19


@pytest.mark.parametrize(
    ("recipe", "family"),
    [("full", "llama"), ("full", "mistral"), ("full", "qwen2"),
     ("streaming(sinks=2, window=24)", "llama"), ("streaming(sinks=2, window=24)", "qwen2")],
)  # fmt: skip
def test_its_logits_are_those_of_the_ordinary_step(
    recipe: str, family: str, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, right = (steps.begin(recipe, prompts(9, 33), 12, family) for _ in range(2))
    monkeypatch.setenv("LENGTHWISE_GRAPH", "twin")
    for _ in range(11):
        served = graphs.serve([r.sequence for r in ours], [[r.pending] for r in right])
        items = [(r.sequence, [r.pending], None) for r in right]
        found, metadata = loop.extend(items, "all")
        assert served is not None
        for row, (mine, theirs) in enumerate(zip(served.logits, found, strict=True)):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
            pending = right[row].pending
            ours[row].sequence.commit(served.steps[row], [pending])
            right[row].sequence.commit(metadata[row], [pending])
            right[row].pending = int(theirs[0].argmax())
            assert served.best[row] == (right[row].pending, float(mine.max()))


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=4),
    new=st.integers(2, 30),
    recipe=st.sampled_from(RECIPES),
    expected=st.booleans(),
)
def test_at_any_lengths(lengths: list[int], new: int, recipe: str, expected: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch)
        ours, right = (
            steps.begin(recipe, prompts(*lengths), new, expected=expected) for _ in range(2)
        )
        assert steps.run(ours, static=True) == steps.run(right, static=False)
        for mine, theirs in zip(ours, right, strict=True):
            assert_same_cache(mine, theirs)


@pytest.mark.parametrize("recipe", RECIPES)
def test_room_grows_in_the_midst(
    recipe: str, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.engine.static.rooms.GROWTH", 5)
    ours, right = (steps.begin(recipe, prompts(20, 33), 60, expected=False) for _ in range(2))
    assert steps.run(ours, static=True) == steps.run(right, static=False)
    assert steps.static >= 55


@pytest.mark.parametrize("recipe", ["full", "streaming(sinks=2, window=24)"])
def test_rows_join_and_leave(recipe: str, steps: Steps) -> None:
    def batch(static: bool) -> list[list[int]]:
        requests = steps.begin(recipe, prompts(12, 30, 45), 30)
        for number in range(8):
            requests[1].metrics.finish_reason = "stop" if number > 4 else ""
            steps.step(requests, static)
        requests += steps.begin(recipe, prompts(50), 20)
        for _ in range(5):
            steps.step(requests, static)
        requests[0].metrics.finish_reason = requests[2].metrics.finish_reason = "cancelled"
        requests[0].sequence.discard()
        return steps.run(requests, static)

    assert batch(True) == batch(False)
    assert steps.static > 20


def test_a_forward_that_is_dropped_leaves_the_cache_as_it_was(steps: Steps) -> None:
    ours, right = (steps.begin("full", prompts(20), 20) for _ in range(2))
    steps.patch.setenv("LENGTHWISE_GRAPH", "twin")
    for request in ours:
        assert graphs.serve([request.sequence], [[5]]) is not None
        request.sequence.discard()
    assert steps.run(ours, static=True) == steps.run(right, static=False)


def test_sampled_texts_are_the_same(steps: Steps) -> None:
    sampling = Sampling(temperature=0.8, top_k=20, repetition_penalty=1.1, seed=3)
    ours, right = (steps.begin("full", prompts(20, 25), 30, sampling=sampling) for _ in range(2))
    assert steps.run(ours, static=True) == steps.run(right, static=False)
    assert steps.static == 29


@pytest.mark.parametrize(
    "recipe",
    ["h2o(budget=24)", "kivi(bits=4, group=8, residual=16)", "quest(budget=24, window=8, page=4)",
     "self_extend", "razor", "sirllm(budget=24)", "dynamic_ntk"],
)  # fmt: skip
def test_other_plans_go_on_as_before(recipe: str, steps: Steps) -> None:
    ours, right = (steps.begin(recipe, prompts(30, 60), 12) for _ in range(2))
    assert steps.run(ours, static=True) == steps.run(right, static=False)
    assert steps.static == 0


def test_rows_of_different_recipes_go_on_as_before(steps: Steps) -> None:
    def batch(static: bool) -> list[list[int]]:
        requests = steps.begin("streaming(sinks=2, window=24)", prompts(40), 12)
        return steps.run(requests + steps.begin("full", prompts(30), 12), static)

    assert batch(True) == batch(False)
    assert steps.static == 0


def test_a_sequence_that_shares_memory_is_copied_by_a_fork(steps: Steps) -> None:
    requests = steps.begin("full", prompts(20, 30), 20)
    steps.step(requests, static=True)
    fork = requests[0].sequence.fork()
    assert fork.nbytes() == requests[0].sequence.nbytes()
    before = [t.clone() for tensors in held(requests[0]) for t in tensors]
    loop.teacher_force(fork, [7, 8, 9])
    after = [t for tensors in held(requests[0]) for t in tensors]
    assert all(map(torch.equal, before, after))
    (near,) = [group.near for _, group in list(fork.groups())[:1]]
    assert near.allocated is not None
    assert near.allocated.key.untyped_storage().nbytes() == near.allocated.key.nbytes


def test_weights_that_change_are_read_again(steps: Steps) -> None:
    adapted = adapt(tiny_model("llama", seed=5))
    plan = resolve("full", adapted)
    found = []
    for static in (True, False):
        torch.manual_seed(1)
        sequence = Sequence(adapted, plan, expected=60)
        request = loop.begin(sequence, Sampling(), 20, ())
        loop.start(request, loop.prefill(sequence, tokens(30)))
        weight = adapted.model.model.layers[0].mlp.gate_proj.weight
        before = weight.detach().clone()
        for number in range(19):
            if number == 7:
                with torch.no_grad():
                    weight.add_(torch.randn_like(weight))
            steps.step([request], static)
        with torch.no_grad():
            weight.copy_(before)
        found.append(request.output)
    assert found[0] == found[1]
    assert steps.static == 19


def test_a_hook_takes_the_ordinary_step(steps: Steps) -> None:
    adapted = adapt(tiny_model("llama", seed=6))
    sequence = Sequence(adapted, resolve("full", adapted), expected=60)
    request = loop.begin(sequence, Sampling(), 20, ())
    loop.start(request, loop.prefill(sequence, tokens(30)))
    steps.step([request], static=True)
    seen: list[int] = []
    handle = adapted.model.model.layers[0].register_forward_hook(lambda *_: seen.append(1))
    steps.step([request], static=True)
    handle.remove()
    steps.step([request], static=True)
    assert seen == [1] and steps.static == 2


def test_a_word_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from lengthwise.errors import LengthwiseError

    sequence = Sequence(model(), resolve("full", model()))
    monkeypatch.setenv("LENGTHWISE_GRAPH", "fast")
    with pytest.raises(LengthwiseError, match="allowed are on, off, twin"):
        graphs.serve([sequence], [[5]])


@pytest.mark.parametrize("word", ["on", "off"])
def test_on_a_cpu_nothing_is_static_unasked(
    word: str, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENGTHWISE_GRAPH", word)
    (request,) = steps.begin("full", prompts(20), 5)
    assert graphs.serve([request.sequence], [[5]]) is None
