"""What a request begins with, and what its books say at the end."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.held import held_bytes
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request, load_of
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed, policy_for
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.loading import drafting_model
from lengthwise.methods.decoding.grammar import Grammar
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import Recipe, parse, resolve
from lengthwise.testing.tiny import tiny_model, tokens
from tests.serving.batch_cases import model as talking

TEXT = tokens(40)


@pytest.fixture(scope="module")
def model() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15, num_hidden_layers=4))


def begun(model: AdaptedModel, plan: Plan) -> Request:
    return loop.begin(Sequence(model, plan), Sampling(), 8, ())


def written(model: AdaptedModel, recipe: Any, new: int = 12) -> Request:
    sequence = Sequence(model, resolve(recipe, model))
    request = loop.begin(sequence, Sampling(), new, ())
    loop.start(request, loop.prefill(sequence, TEXT, 16))
    for _ in loop.run(request, Fixed()):
        pass
    assert not any("failed" in note for note in loop.finish(request).notes)
    return request


def test_schemas_share_what_drafting_under_them_has_learned() -> None:
    adapted = talking().adapted
    schemas = [Grammar.of({"type": "integer", "maximum": n}) for n in range(50)]
    recipes = [Recipe((*parse("lookup").methods, each)) for each in schemas]
    requests = [begun(adapted, resolve(each, adapted)) for each in recipes]
    assert len({str(each) for each in recipes}) == 50
    populations = {id(request.acceptance.before) for request in requests}
    assert len(populations) == 1 and requests[0].acceptance.before is not None
    loads = {load_of([request]) for request in requests}
    assert [load.recipe for load in loads if load] == ["lookup + grammar"]
    # Another recipe is another matter, and so is one without a grammar.
    for recipe in ("lookup", "recycling"):
        other = begun(adapted, resolve(recipe, adapted))
        assert id(other.acceptance.before) not in populations
        load = load_of([other])
        assert load is not None and load.recipe == recipe


def test_who_drafts_nothing_leaves_nothing_behind() -> None:
    adapted = talking().adapted
    policy = policy_for(adapted)
    before = len(policy._population)
    for number in range(20):
        schema = {"type": "integer", "maximum": -number}
        request = begun(adapted, resolve([Grammar.of(schema)], adapted))
        # What a grammar forces is drafted where a recipe drafts at all.
        assert request.acceptance.before is None and not request.drafters
    assert len(policy._population) == before


def test_a_plan_is_learned_of_by_its_text_where_nothing_else_is_said() -> None:
    assert Plan().learned_as == "full" and Plan(text="own").learned_as == "own"


@pytest.mark.parametrize("cache", ["full", "snapkv(budget=12, window=4)"])
def test_the_cache_of_a_second_model_counts(model: AdaptedModel, cache: str) -> None:
    draft = adapt(tiny_model("llama", seed=3, num_hidden_layers=1))
    drafting = f"model(path={drafting_model(draft.model)})"
    request = written(model, drafting if cache == "full" else f"{cache} + {drafting}")
    more = request.metrics.kv_bytes - request.sequence.nbytes()
    # All but the newest tokens, with little room behind.
    least = len(TEXT) * draft.bytes_per_token
    assert least <= more <= 2 * least
    # Its prompt is read before anything of the target's is dropped.
    least += len(TEXT) * model.bytes_per_token
    assert request.metrics.kv_peak_bytes >= max(least, request.metrics.kv_bytes)


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("layers", False), ("lookup", False), ("swift(trials=0)", False),
        ("swift(skip=0.9)", True), ("window(sinks=2, window=8)", True),
        ("rapid(chunk=8, head=4, tail=8, budget=16)", True), ("rasd(layers=\"50%\")", False),
    ],
)  # fmt: skip
def test_what_a_drafter_holds_of_its_own_counts(
    model: AdaptedModel, recipe: str, more: bool
) -> None:
    request = written(model, recipe, 4)
    own = [each for drafter in request.drafters for each in drafter.held()]
    assert (held_bytes(own) > 0) is more
    assert request.metrics.kv_bytes == held_bytes([request.sequence, *own])


@pytest.mark.parametrize(
    ("recipe", "wholes"),
    [
        ("lookup", 1), ("layers", 1), ("swift(skip=0.9)", 2), ("window(sinks=2, window=8)", 2),
        ("window(retrieved=8) + lookup", 2), ("swift(skip=0.9) + window(window=8)", 3),
        ("window(window=8) + swift(skip=0.9)", 2),
        ("snapkv(budget=12, window=4) + swift(skip=0.9)", 2),
    ],
)  # fmt: skip
def test_a_copy_that_is_whole_for_a_moment_counts_for_the_peak(
    model: AdaptedModel, recipe: str, wholes: int
) -> None:
    whole = len(TEXT) * model.bytes_per_token
    peak = written(model, recipe, 4).metrics.kv_peak_bytes
    # Beside them stand four tokens more, a little room, and copies that were cut.
    assert wholes * whole <= peak < (wholes + 0.8) * whole


def test_a_drafter_that_cannot_say_what_it_holds_is_left_out(model: AdaptedModel) -> None:
    class Lost(Drafter):
        name = "lost"

        def propose(self, tokens: Any, tree: Any, limit: int) -> None:
            pass

        def held(self) -> Any:
            raise ValueError("nobody knows")

    plan = Plan(drafters=(Lost,))
    request = loop.begin(Sequence(model, plan), Sampling(), 4, ())
    loop.start(request, loop.prefill(request.sequence, TEXT))
    for _ in loop.run(request):
        pass
    metrics = loop.finish(request)
    assert any("lost failed and was left out: nobody knows" in note for note in metrics.notes)
    assert len(request.output) == 4 and metrics.kv_bytes == request.sequence.nbytes()
