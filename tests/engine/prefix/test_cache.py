"""The prefix cache: what is reused changes nothing, and is reused only where that is so."""

from __future__ import annotations

import gc

import pytest
import torch

import lengthwise
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import begin, prefill
from lengthwise.engine.plan import whole
from lengthwise.engine.prefix import cache as module
from lengthwise.engine.prefix.cache import PrefixCache
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError
from lengthwise.recipes.registry import methods
from lengthwise.testing.tiny import tiny_model, tokens
from tests.api.test_session import recipe_with

TEXT, NEW = tokens(90), 6
# What reads a prompt as full attention does, and so may reuse all of it.
PLAIN = [
    "full",
    "yarn(factor=2)",
    "kivi",
    "int8",
    "think",
    "lookup",
    "snapkv(budget=32)",
    "sam + kivi",
]


@pytest.fixture(scope="module")
def held() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15, max_position_embeddings=64))


@pytest.fixture
def model(held: lengthwise.Model, monkeypatch: pytest.MonkeyPatch) -> lengthwise.Model:
    monkeypatch.setattr(module, "SHORT", 16)
    monkeypatch.setattr(held, "prefix_cache", PrefixCache(1 << 24))
    return held


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_says_what_it_says_without(
    held: lengthwise.Model, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(module, "SHORT", 16)
    prompts = [TEXT, TEXT[:70] + [1, 2, 3], TEXT[:88], TEXT + [4, 5]]
    recipe, asked = recipe_with(name), {"max_new_tokens": NEW, "stop_ids": [], "chunk": 16}
    try:
        alone = [held.generate(each, recipe, **asked).token_ids for each in prompts]
    except LengthwiseError:
        pytest.skip("refused for this model")
    monkeypatch.setattr(held, "prefix_cache", PrefixCache(1 << 24))
    again = [held.generate(each, recipe, **asked) for each in prompts]
    assert [each.token_ids for each in again] == alone
    for each in held.generate_batch(prompts, recipe, **asked):
        assert each.token_ids in alone


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_says_it_behind_what_full_attention_has_read(
    held: lengthwise.Model, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(module, "SHORT", 16)
    recipe, asked = recipe_with(name), {"max_new_tokens": NEW, "stop_ids": [], "chunk": 16}
    try:
        alone = held.generate(TEXT, recipe, **asked)
    except LengthwiseError:
        pytest.skip("refused for this model")
    monkeypatch.setattr(held, "prefix_cache", PrefixCache(1 << 24))
    held.generate(TEXT[:75], max_new_tokens=1, stop_ids=[])
    found = held.generate(TEXT, recipe, **asked)
    assert found.token_ids == alone.token_ids
    assert found.metrics.kv_bytes == alone.metrics.kv_bytes
    if name in ("quest", "squeezed", "tidal", "a2ats"):
        assert found.metrics.reused_tokens == 75


@pytest.mark.parametrize("recipe", ["quest(budget=32, window=8, page=4)", "tidal(dense=0)"])
def test_a_selection_is_given_what_was_read_whole_and_keeps_nothing(
    model: lengthwise.Model, recipe: str
) -> None:
    first = model.generate(TEXT, recipe, max_new_tokens=NEW, stop_ids=[])
    cache = model.prefix_cache
    assert cache is not None and cache.stats.nbytes == 0
    model.generate(TEXT[:80], max_new_tokens=1, stop_ids=[])
    second = model.generate(TEXT, recipe, max_new_tokens=NEW, stop_ids=[])
    queries = Sequence(model.adapted, whole(model.plan(recipe))).remembered
    assert (first.metrics.reused_tokens, second.metrics.reused_tokens) == (
        0, min(80, len(TEXT) - max(1, queries))
    )  # fmt: skip
    assert second.token_ids == first.token_ids


@pytest.mark.parametrize("recipe", PLAIN)
def test_a_beginning_is_read_once(model: lengthwise.Model, recipe: str) -> None:
    first = model.generate(TEXT, recipe, max_new_tokens=NEW, stop_ids=[])
    second = model.generate(TEXT[:80] + [1, 2, 3], recipe, max_new_tokens=NEW, stop_ids=[])
    again = model.generate(TEXT, recipe, max_new_tokens=NEW, stop_ids=[])
    assert first.metrics.reused_tokens == 0
    queries = Sequence(model.adapted, whole(model.plan(recipe))).remembered
    assert second.metrics.reused_tokens == min(80, 83 - max(1, queries))
    assert again.metrics.reused_tokens == len(TEXT) - max(1, queries)
    assert again.token_ids == first.token_ids
    assert model.prefix_cache is not None
    stats = model.prefix_cache.stats
    assert (stats.prompts, stats.hits) == (3, 2) and stats.tokens == 2 * len(TEXT) + 83


@pytest.mark.parametrize(
    "recipe",
    ["streaming", "h2o(budget=32)", "dynamic_ntk", "infllm", "sirllm(budget=48)"],
)
def test_what_depends_on_more_reuses_nothing(model: lengthwise.Model, recipe: str) -> None:
    for _ in range(2):
        found = model.generate(TEXT, recipe, max_new_tokens=2, stop_ids=[])
        assert found.metrics.reused_tokens == 0
    assert model.prefix_cache is not None and model.prefix_cache.stats.nbytes == 0


def test_logits_are_those_of_reading_all(model: lengthwise.Model) -> None:
    cache = model.prefix_cache
    assert cache is not None
    whole_text = Sequence(model.adapted)
    wanted = prefill(whole_text, TEXT, 16)
    for cut in (3, 20, 50, 89):
        other = Sequence(model.adapted)
        cache.attach(other, TEXT[:cut])
        prefill(other, TEXT[len(other) : cut], 16)
        cache.insert(other)
        found = Sequence(model.adapted)
        assert cache.peek(found, TEXT) == cut
        assert cache.attach(found, TEXT) == cut == len(found)
        torch.testing.assert_close(prefill(found, TEXT[cut:], 16), wanted, rtol=0, atol=1e-5)
        assert cache.attach(other.empty(), []) == 0


def test_requests_share_memory_and_give_it_back(model: lengthwise.Model) -> None:
    cache = model.prefix_cache
    assert cache is not None
    first = Sequence(model.adapted)
    prefill(first, TEXT)
    cache.insert(first)
    second = Sequence(model.adapted)
    cache.attach(second, TEXT)
    blocks = [next(iter(s.groups()))[1].near.shared[0].key for s in (first, second)]
    assert blocks[0].data_ptr() == blocks[1].data_ptr()
    (node,) = list(cache._tree.nodes())
    assert len(node.users) == 2
    del first, second
    gc.collect()
    assert not node.users


def test_texts_that_were_said_are_reused(model: lengthwise.Model) -> None:
    said = model.generate(TEXT, max_new_tokens=NEW, stop_ids=[])
    longer = [*TEXT, *said.token_ids, 7, 8]
    found = model.generate(longer, max_new_tokens=2, stop_ids=[])
    # The last token that was said was never fed.
    assert found.metrics.reused_tokens == len(TEXT) + NEW - 1


def test_mixtures_that_were_fed_are_nobodys_tokens(model: lengthwise.Model) -> None:
    said = model.generate(TEXT, "superposed", max_new_tokens=NEW, stop_ids=[])
    cache = model.prefix_cache
    assert cache is not None
    held = Sequence(model.adapted)
    assert cache.peek(held, [*TEXT, *said.token_ids, 1]) <= len(TEXT)


def test_sessions_begin_with_what_is_held(model: lengthwise.Model) -> None:
    model.generate(TEXT, max_new_tokens=2, stop_ids=[])
    cache = model.prefix_cache
    assert cache is not None
    before = cache.stats.reused
    session = model.read(TEXT)
    assert cache.stats.reused > before
    found = session.ask([1, 2], max_new_tokens=NEW, stop_ids=[])
    assert (
        found.token_ids == model.generate([*TEXT, 1, 2], max_new_tokens=NEW, stop_ids=[]).token_ids
    )


def test_other_weights_are_another_model() -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15), cache_bytes="16MiB")
    model.generate(TEXT, max_new_tokens=2, stop_ids=[])
    with torch.no_grad():
        for weight in model.adapted.model.parameters():
            weight.mul_(1.5)
    assert model.generate(TEXT, max_new_tokens=2, stop_ids=[]).metrics.reused_tokens == 0
    assert model.generate(TEXT, max_new_tokens=2, stop_ids=[]).metrics.reused_tokens > 0


def test_too_small_a_budget_keeps_nothing_and_says_so_in_its_stats() -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15), cache_bytes=1000)
    for _ in range(2):
        assert model.generate(TEXT, max_new_tokens=2, stop_ids=[]).metrics.reused_tokens == 0
    assert model.prefix_cache is not None and model.prefix_cache.stats.nbytes == 0


def test_queries_that_a_retention_asks_for_are_read(model: lengthwise.Model) -> None:
    cache = model.prefix_cache
    assert cache is not None
    plan = model.plan("snapkv(budget=32)")
    sequence = Sequence(model.adapted, whole(plan))
    begin(sequence, Sampling(), 4, ())
    prefill(sequence, TEXT)
    cache.insert(sequence)
    other = Sequence(model.adapted, whole(plan))
    assert cache.attach(other, TEXT) == len(TEXT) - sequence.remembered
    assert cache.attach(Sequence(model.adapted, whole(plan)), TEXT[: sequence.remembered]) == 0


@pytest.mark.parametrize("given", ["two", -1, 1.5, True, "", "1 GB extra"])
def test_bytes_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(LengthwiseError, match="cache_bytes"):
        lengthwise.wrap(tiny_model("llama"), cache_bytes=given)  # type: ignore[arg-type]


def counting(cache: PrefixCache, marks: list[str]) -> PrefixCache:
    """The same, of which every look at the weights is noted."""
    mark = cache._mark_now

    def noted() -> str:
        marks.append(mark())
        return marks[-1]

    cache._mark_now = noted
    return cache


def test_weights_are_looked_at_once_until_they_change() -> None:
    model, marks = lengthwise.wrap(tiny_model("llama"), cache_bytes="16MiB"), list[str]()
    assert model.prefix_cache is not None
    counting(model.prefix_cache, marks)
    asked = {"max_new_tokens": 2, "stop_ids": []}
    # Nothing can be reused, so nothing is looked at.
    model.generate(TEXT, "streaming", **asked)
    assert marks == []
    for _ in range(3):
        model.generate(TEXT, **asked)
    assert len(marks) == 1
    # As adapters are merged: torch does not count it.
    model.adapted.model.model.layers[0].self_attn.k_proj.weight.data += 0.5
    assert model.generate(TEXT, **asked).metrics.reused_tokens == 0
    assert len(marks) == 2 and marks[0] != marks[1]
    assert model.generate(TEXT, **asked).metrics.reused_tokens > 0


def test_a_text_too_large_for_it_leaves_what_is_held(model: lengthwise.Model) -> None:
    cache = model.prefix_cache
    assert cache is not None
    model.generate(TEXT[:20], max_new_tokens=2, stop_ids=[])
    cache.capacity = cache._tree.capacity = 2 * cache.stats.nbytes
    model.generate(tokens(91)[::-1], max_new_tokens=2, stop_ids=[])
    assert cache.stats.evicted == 0
    found = model.generate(TEXT[:25], max_new_tokens=2, stop_ids=[])
    assert found.metrics.reused_tokens == 20


def test_who_is_over_keeps_what_it_holds_and_others_find_it(model: lengthwise.Model) -> None:
    cache = model.prefix_cache
    assert cache is not None
    for over in (True, False):
        cache.clear()
        sequence = Sequence(model.adapted)
        prefill(sequence, TEXT)
        stores = [group.near for _, group in sequence.groups()]
        before = [store.allocated for store in stores]
        cache.insert(sequence, over=over)
        after = [store.allocated for store in stores]
        assert all((a is b) == over for a, b in zip(before, after, strict=True))
        assert all(bool(store.shared) == (not over) for store in stores)
        assert cache.peek(Sequence(model.adapted), [*TEXT, 1]) == len(TEXT)
