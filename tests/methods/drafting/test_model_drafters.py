"""A model that guesses for itself changes no text and leaves itself as it was."""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from lengthwise import recipes
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_depth import DraftDepth
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.token_view import TokenView
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Method
from lengthwise.methods.drafting._shared.model_drafter import ModelDrafter
from lengthwise.methods.drafting.layers import Layers, LayerSkipScorer, layer_subset
from lengthwise.methods.drafting.lookup import Lookup
from lengthwise.methods.drafting.window import Window
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model
from tests.cache_recipes import RECIPES

VOCAB = 16


@lru_cache
def model(family: str = "llama", layers: int = 4, vocab_size: int = VOCAB) -> AdaptedModel:
    return adapt(
        tiny_model(family, initializer_range=0.12, vocab_size=vocab_size, num_hidden_layers=layers)
    )


def tokens(count: int, seed: int = 0, vocab_size: int = VOCAB) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, vocab_size) for _ in range(count)]


def begin(
    prompt: Seq[int],
    *drafters: Method,
    recipe: str = "full",
    target: AdaptedModel | None = None,
    sampling: Sampling | None = None,
    new: int = 40,
) -> Request:
    target = target or model()
    plan = recipes.resolve(recipe, target)
    made = tuple(lambda method=method: method.start_drafter(target) for method in drafters)
    sequence = Sequence(target, replace(plan, drafters=made))
    request = loop.begin(sequence, sampling or Sampling(), new, ())
    loop.start(request, loop.prefill(sequence, prompt))
    return request


def generate(prompt: Seq[int], *drafters: Method, **settings: object) -> Request:
    request = begin(prompt, *drafters, **settings)  # type: ignore[arg-type]
    for _ in loop.run(request, Fixed()):
        pass
    loop.finish(request)
    return request


@lru_cache
def plain_output(recipe: str) -> list[int]:
    return generate(tokens(60), recipe=recipe, new=24).output


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "method",
    [
        Layers(keep="0,3"),
        Layers(skip="1", width=1, depth=7),
        Window(sinks=2, window=12),
        Window(recipe="snapkv(budget=40, window=4)", width=3),
    ],
    ids=str,
)
def test_greedy_with_the_model_as_its_own_drafter_is_token_equal(
    method: Method, recipe: str
) -> None:
    prompt = tokens(60)
    if isinstance(method, Window) and method.recipe and recipe.startswith(("duo", "lserve")):
        with pytest.raises(Refused, match="prunes a copy of what"):
            recipes.resolve(f"{recipe} + {method}", model())
        return
    drafted = generate(prompt, method, recipe=recipe, new=24)
    assert drafted.output == plain_output(recipe)
    cramped = any("no room for guesses" in note for note in drafted.metrics.notes)
    assert len(drafted.metrics.notes) == cramped and (not cramped or recipe.startswith("h2o"))
    # So small a budget is cut at every step, which leaves no room for guesses.
    assert drafted.metrics.drafted > 0 or recipe.startswith("h2o")


@pytest.mark.parametrize("method", [Layers(keep="0-2"), Window(sinks=2, window=24)], ids=str)
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_coupled_sampling_is_token_equal_for_the_same_seed(method: Method, penalty: float) -> None:
    sampling = Sampling(0.8, top_k=12, top_p=0.95, repetition_penalty=penalty, seed=3)
    prompt = tokens(40)
    plain = generate(prompt, sampling=sampling)
    drafted = generate(prompt, method, sampling=sampling)
    assert drafted.output == plain.output
    assert drafted.metrics.steps < plain.metrics.steps


@pytest.mark.parametrize("draws", ["coupled", "rejection"])
@pytest.mark.parametrize("cls", [Layers, Window])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_drafter_that_is_the_target_is_always_right(
    cls: type[Layers] | type[Window], draws: str, temperature: float
) -> None:
    method = replace(cls.identity(200), draws=draws, depth=4, width=1)
    metrics = generate(tokens(40), method, sampling=Sampling(temperature, seed=1), new=41).metrics
    assert metrics.decoded == 40 and metrics.steps == 8


def test_drawn_guesses_leave_the_distribution_of_the_target() -> None:
    prompt, draws = tokens(30), 500
    method = Layers(keep="0-0", draws="rejection", depth=1, width=2)
    (logits,), _ = loop.extend([(begin(prompt).sequence, [5], None)], "all")
    probs = logits[0].double().softmax(-1)
    counts = torch.zeros(VOCAB, dtype=torch.double)
    base = begin(prompt, method)
    for seed in range(draws):
        request = loop.begin(base.sequence.fork(), Sampling(1.0, seed=seed), 10, ())
        request.each_drafter(
            lambda drafter, r=request: drafter.begin(r.sequence, r.sampler.sampling)
        )
        request.pending = 5
        counts[loop.step([request], Fixed())[0][0]] += 1
    expected = probs * draws
    likely = expected >= 5
    pooled = torch.stack([expected[~likely].sum(), counts[~likely].sum()])
    terms = ((counts - expected) ** 2 / expected)[likely].sum()
    terms += (pooled[1] - pooled[0]) ** 2 / pooled[0].clamp_min(1)
    # The 99.9th percentile of chi-square with 15 degrees of freedom.
    assert float(terms) < 37.7


def test_asked_and_free_drafters_together_change_nothing_under_the_default_policy() -> None:
    prompt = tokens(40)
    drafted = begin(prompt, Lookup(), Layers(keep="0-2"), Window(sinks=2, window=24), new=60)
    for _ in loop.run(drafted):
        pass
    assert drafted.output == generate(prompt, new=60).output
    assert drafted.metrics.drafted > 0


class TwoLevels(DraftDepth):
    """Ends the guessing after two levels, and notes what it was told of them."""

    wants_state = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, float, Tensor | None]] = []

    def should_continue(self, bucket: int, prior: float, state: Tensor | None = None) -> bool:
        self.seen.append((bucket, prior, state))
        return super().should_continue(bucket, prior, state) and self.levels < 2


def test_the_policy_hears_of_every_level_and_ends_the_guessing() -> None:
    request = begin(tokens(40), Layers(keep="0-2", depth=8, width=3))
    (drafter,) = request.drafters
    drafter.draft_depth = draft_depth = TwoLevels()
    tree = Tree(request.pending)
    drafter.propose(request.context(), tree, 8)
    assert max(tree.depths) == 2 and len(tree) == 1 + 2 * 3
    level = 0
    for bucket, prior, state in draft_depth.seen:
        nodes = list(tree.children[level].values())
        level = nodes[0]
        assert tree.priors[level] == prior == max(tree.priors[node] for node in nodes)
        assert tree.buckets[level] == bucket
        assert state is not None and state.shape == (64,)
    assert draft_depth.levels == 2


# Layers.


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"keep": "2"}, (0, 3)),
        ({"keep": "75%"}, (0, 1, 3)),
        ({"keep": "100%"}, (0, 1, 2, 3)),
        ({"keep": "3, 0-1"}, (0, 1, 3)),
        ({"keep": "1%"}, (0,)),
        ({"skip": "1-2"}, (0, 3)),
    ],
)
def test_kept_layers_are_written_as_numbers_ranges_or_shares(
    options: dict[str, str], kept: tuple[int, ...]
) -> None:
    assert Layers(**options).kept(model()) == kept


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"keep": "5"}, "1 to 4 layers"),
        ({"keep": "0%"}, "1 to 4 layers"),
        ({"keep": "0-4"}, "layers 0 to 3"),
        ({"keep": "2-1"}, "layers 0 to 3"),
        ({"keep": "first"}, "no layer and no range"),
        ({"skip": "0-3"}, "no layer is left"),
    ],
)
def test_layers_that_are_not_there_are_refused(options: dict[str, str], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        Layers(**options).check(model())


def test_a_family_whose_layers_need_each_other_is_refused() -> None:
    with pytest.raises(Refused, match="longcat_flash.*use a drafter that needs no model"):
        Layers(keep="1").check(adapt(tiny_model("longcat_flash")))


def test_keep_and_skip_together_are_refused() -> None:
    with pytest.raises(RecipeError, match="give one"):
        Layers(keep="2", skip="1")


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "gpt_oss", "deepseek_v3"])
def test_a_cut_model_shares_its_parameters_and_harms_nothing(family: str) -> None:
    whole = adapt(tiny_model(family))
    ids = torch.tensor([tokens(20, vocab_size=100)])
    before = whole.model(ids).logits
    some = layer_subset(whole, (0,))
    mine = {p.data_ptr() for p in whole.model.parameters()}
    assert {p.data_ptr() for p in some.model.parameters()} <= mine
    assert len(some.layers) == 1 and len(whole.layers) == whole.model.config.num_hidden_layers > 1
    assert torch.equal(whole.model(ids).logits, before)
    assert not torch.equal(some.model(ids).logits, before)
    assert layer_subset(whole, (0,)) is some


def test_a_layer_skip_scorer_leaves_the_sequence_as_it_was() -> None:
    prompt = tokens(50)
    for recipe in RECIPES:
        sequence = begin(prompt, recipe=recipe).sequence
        untouched = sequence.fork()
        tree = Tree(7)
        tree.add_chain([5, 6])
        tree.add(0, 9)
        LayerSkipScorer(sequence, layer_subset(model(), (0, 2)), (0, 2)).score([*prompt, 7], tree)
        (found,), _ = loop.extend([(sequence, [7], None)], "all")
        (expected,), _ = loop.extend([(untouched, [7], None)], "all")
        assert torch.equal(found, expected)


# Window.


def fork(method: Window, request: Request) -> Sequence:
    (drafter,) = request.drafters
    assert isinstance(drafter, ModelDrafter)
    return drafter.runner.sequence  # type: ignore[attr-defined, no-any-return]


def test_the_fork_holds_first_and_latest_tokens_and_is_cut_as_it_grows() -> None:
    method = Window(sinks=3, window=16)
    request = begin(tokens(60), method, new=60)
    view = fork(method, request)
    index = view.layers[0].groups[0].near.index()[0].tolist()
    assert index == [0, 1, 2, *range(44, 60)]
    assert len(request.sequence.layers[0].groups[0].near) == 60
    held = []
    while not request.done:
        loop.step([request], Fixed())
        index = view.layers[0].groups[0].near.index()[0].tolist()
        # A guess under way may stand there too.
        index = [entry for entry in index if entry < len(view)]
        assert index[:3] == [0, 1, 2]
        assert index[3:] == list(range(index[3], len(view)))
        held.append(len(index))
    assert min(held) >= 19 and max(held) <= 19 + 3


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("streaming(window=8)", "only what is kept"),
        ("infllm", "only what is kept"),
        ("yarn(factor=2)", "only what is kept"),
        ("lookup", "only what is kept"),
        ("h2o", "needs notes of every token"),
    ],
)
def test_a_view_that_would_read_the_prompt_otherwise_is_refused(recipe: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        Window(recipe=recipe).check(model())


def test_a_view_that_votes_has_the_prompts_last_queries_noted() -> None:
    drafter = Window(recipe="snapkv(budget=16, window=4)").start_drafter(model())
    assert drafter.remember == 4
    assert Window().start_drafter(model()).remember == 0


def test_a_text_is_copied_once_and_its_end_exchanged() -> None:
    class Still(ModelDrafter):
        def open(self, sequence: Sequence) -> None:  # type: ignore[override]
            return None

    drafter, text = Still("still", 3), [4, 5, 6]
    found = drafter._context(TokenView(text), [7, 8])
    assert found == [4, 5, 6, 7, 8]
    assert drafter._context(TokenView(text), [9]) == [4, 5, 6, 9]
    text += [9, 3]
    assert drafter._context(TokenView(text), []) == [4, 5, 6, 9, 3]
    assert drafter._context(TokenView(text), [1, 2]) is found and found == [4, 5, 6, 9, 3, 1, 2]
