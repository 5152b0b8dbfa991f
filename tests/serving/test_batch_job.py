"""A job of many texts: each as it is alone, what they share read once, memory held to."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence as Seq

import pytest

from lengthwise import recipes
from lengthwise.api.generation import Generation
from lengthwise.api.prefixes import prefix_cache_of
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError
from lengthwise.serving.batch_job import BatchJob, JobMetrics
from lengthwise.serving.batch_order import Prefix, Text
from lengthwise.serving.batch_plan import OutputLengths
from lengthwise.serving.job import Ask
from tests.serving.batch_cases import model

ROOM = 1 << 30
RECIPES = ("full", "lookup", "kivi", "snapkv(budget=40) + lookup", "streaming(window=48)",
           "dynamic_ntk", "infllm(window=32, block=8, budget=120)")  # fmt: skip


def asks(prompts: Seq[Seq[int]], recipe: str = "full", most: int = 10, **how: float) -> list[Ask]:
    parsed = recipes.recipe_of(recipe)
    return [
        Ask(list(ids), parsed, most, Sampling(**how, seed=number))  # type: ignore[arg-type]
        for number, ids in enumerate(prompts)
    ]


def prompts(groups: int = 3, each: int = 3, prefix: int = 60, own: int = 9) -> list[list[int]]:
    """Prompts of several groups in turn, as users would send them."""
    found = []
    for number in range(groups * each):
        group = number % groups
        found.append([(7 * group + 5 * n) % 250 + 1 for n in range(prefix)]
                     + [(11 * number + n * n) % 250 + 1 for n in range(own + number)])  # fmt: skip
    return found


def run(
    requests: Seq[Seq[Ask]], kv_bytes: int = ROOM, **options: object
) -> tuple[dict[int, list[Generation] | Exception], JobMetrics]:
    found: dict[int, list[Generation] | Exception] = {}
    job = BatchJob(model(), kv_bytes, found.__setitem__, **options)  # type: ignore[arg-type]
    return found, job.run(requests)


def tokens(found: list[Generation] | Exception) -> list[list[int]]:
    assert isinstance(found, list), found
    return [text.token_ids for text in found]


def alone(ask: Ask) -> list[int]:
    how = {"temperature": ask.sampling.temperature, "seed": ask.sampling.seed}
    done = model().generate(ask.ids, str(ask.recipe), max_new_tokens=ask.max_new_tokens, **how)  # type: ignore[arg-type]
    return done.token_ids


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_text_is_what_it_is_alone(recipe: str) -> None:
    each = asks(prompts(), recipe)
    found, cost = run([[ask] for ask in each])
    assert {number: tokens(texts)[0] for number, texts in found.items()} == {
        number: alone(ask) for number, ask in enumerate(each)
    }
    assert cost.texts == 9 and cost.groups == 3 and cost.again == 0


def test_prefixes_are_read_once_and_said_so() -> None:
    each = asks(prompts())
    found, cost = run([[ask] for ask in each])
    assert cost.prompt_tokens == sum(len(ask.ids) for ask in each)
    assert cost.read_tokens == cost.prompt_tokens - 3 * 2 * 60
    for texts in found.values():
        assert isinstance(texts, list) and texts[0].metrics.reused_tokens == 60


def test_sampling_has_the_seed_of_each_request() -> None:
    each = asks(prompts(2, 2), temperature=0.9)
    found, _ = run([[ask] for ask in each])
    assert [tokens(found[n])[0] for n in range(4)] == [alone(ask) for ask in each]


def test_texts_of_one_request_come_together_and_share_its_whole_prompt() -> None:
    ids = prompts(1, 1)[0]
    each = [Ask(ids, recipes.recipe_of("full"), 6, Sampling(0.9, seed=n)) for n in range(3)]
    found, cost = run([each])
    assert tokens(found[0]) == [alone(ask) for ask in each]
    assert cost.read_tokens == len(ids)


def test_rows_join_while_bytes_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of two or so rows gives what all at once give, and holds no more than it may."""
    each = asks(prompts(3, 4), most=12)
    free, wide = run([[ask] for ask in each])
    one = model().adapted.bytes_per_token * 100
    found, tight = run([[ask] for ask in each], 3 * one)
    assert {n: tokens(texts) for n, texts in found.items()} == {
        n: tokens(texts) for n, texts in free.items()
    }
    assert tight.kv_peak_bytes <= 3 * one < wide.kv_peak_bytes
    assert tight.steps > wide.steps


def test_rows_that_write_more_than_expected_give_up_their_room_and_run_again() -> None:
    each = asks(prompts(1, 4, prefix=20), most=60)
    free, _ = run([[ask] for ask in each])
    lengths = OutputLengths()
    # Those before them wrote nearly nothing, so many are let in.
    for _ in range(50):
        lengths.add(60, 1)
    budget = int(model().adapted.bytes_per_token * 190)
    found, cost = run([[ask] for ask in each], budget, lengths=lengths)
    assert cost.again > 0
    assert {n: tokens(texts) for n, texts in found.items()} == {
        n: tokens(texts) for n, texts in free.items()
    }


def test_a_prefix_is_freed_after_the_last_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    each = asks(prompts(3, 2))
    held: list[int] = []
    job: BatchJob | None = None

    def told(number: int, texts: object) -> None:
        assert job is not None
        held.append(len(job._open))
        for prefix in job._open:
            assert prefix.left > 0 and prefix.sequence is not None

    job = BatchJob(model(), 1, told)
    job.kv_bytes = int(model().adapted.bytes_per_token * 200)
    job.run([[ask] for ask in each])
    assert max(held) <= 2 and held[-1] == 0 and not job._open and not job._running


def test_decode_heavy_groups_come_first() -> None:
    heavy = asks(prompts(1, 2), most=40)
    light = [
        Ask([200 + n % 5 for n in range(80)] + [n, n + 1], heavy[0].recipe, 2, Sampling())
        for n in (3, 5)
    ]
    order: list[list[int]] = []
    job = BatchJob(model(), ROOM, lambda *_: None)
    held = job._held

    def noted(text: Text, prefix: Prefix) -> Sequence:
        order.append(text.ask.ids)
        return held(text, prefix)

    job._held = noted  # type: ignore[method-assign]
    job.run([[ask] for ask in (*light, *heavy)])
    assert order[:2] == [ask.ids for ask in heavy] or order[:2] == [a.ids for a in heavy[::-1]]
    # What is light was read while those still wrote.
    assert job.metrics.steps < 45


def test_an_error_of_one_is_told_of_that_one() -> None:
    each = asks(prompts(1, 3))
    wrong = Ask(list(range(1, 200)) * 20, each[0].recipe, 8, Sampling())
    budget = int(model().adapted.bytes_per_token * 400)
    found, _ = run([[each[0]], [wrong], [each[1]], [each[2]]], budget)
    assert isinstance(found[1], Exception) and "--kv-bytes" in str(found[1])
    assert [tokens(found[n])[0] for n in (0, 2, 3)] == [alone(ask) for ask in each]


def test_a_recipe_that_cannot_run_here_is_told_of_its_requests() -> None:
    right, wrong = asks(prompts(1, 2))
    other = Ask(wrong.ids, recipes.recipe_of("model(path=nope)"), 4, Sampling())
    found, _ = run([[right], [other]])
    assert isinstance(found[1], LengthwiseError)
    assert tokens(found[0])[0] == alone(right)


def test_first_come_first_served_shares_what_the_prefix_cache_still_holds() -> None:
    """What the plan is measured against: the same texts, in the order they came in."""
    each = asks(prompts(4, 3), most=6)
    one = model().adapted.bytes_per_token
    planned, with_plan = run([[ask] for ask in each])
    model().prefix_cache = prefix_cache_of(model().adapted, 150 * one)
    try:
        found, cost = run([[ask] for ask in each], planned=False)
    finally:
        model().prefix_cache = None
    assert {n: tokens(texts) for n, texts in found.items()} == {
        n: tokens(texts) for n, texts in planned.items()
    }
    assert with_plan.read_tokens < cost.read_tokens <= cost.prompt_tokens
    assert cost.groups == 0


def test_members_hold_their_prefix_by_reference() -> None:
    each = asks(prompts(1, 8, prefix=400, own=2), most=4)
    found, cost = run([[ask] for ask in each])
    one = model().adapted.bytes_per_token
    assert 400 * one < cost.kv_peak_bytes < 2 * 400 * one
    assert [tokens(found[n])[0] for n in range(8)] == [alone(ask) for ask in each]


def test_rows_that_are_done_or_relieved_hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gives up its room has given it up when the next step is made."""
    living: weakref.WeakSet[Sequence] = weakref.WeakSet()
    lengths, kept, step = OutputLengths(), BatchJob._held, BatchJob._step
    for _ in range(50):
        lengths.add(60, 1)

    def noted(self: BatchJob, text: Text, prefix: Prefix) -> Sequence:
        found = kept(self, text, prefix)
        living.add(found)
        return found

    def watched(self: BatchJob) -> None:
        step(self)
        assert len(living) <= len(self._running) + len(self._reading)

    monkeypatch.setattr(BatchJob, "_held", noted)
    monkeypatch.setattr(BatchJob, "_step", watched)
    each = asks(prompts(1, 4, prefix=20), most=60)
    gc.collect()
    gc.disable()
    try:
        _, cost = run(
            [[ask] for ask in each], int(model().adapted.bytes_per_token * 190), lengths=lengths
        )
    finally:
        gc.enable()
    assert cost.again > 0 and not living


def test_a_window_that_fits_is_not_refused_for_its_prompt() -> None:
    each = asks([[n % 250 + 1 for n in range(1600)]] * 2)
    sliding = Ask(each[0].ids, recipes.recipe_of("streaming(window=48)"), 8, Sampling())
    found, _ = run([[sliding], [each[1]]], int(model().adapted.bytes_per_token * 400))
    assert tokens(found[0])[0] == alone(sliding)
    assert isinstance(found[1], LengthwiseError) and "--kv-bytes" in str(found[1])


def test_every_text_of_a_mode_is_counted() -> None:
    """Beams that go on from one prompt hold its entries once, and their own each."""
    prompt = prompts(1, 1)
    _, one = run([asks(prompt, "beam(width=1)", most=30)])
    _, five = run([asks(prompt, "beam(width=5)", most=30)])
    assert five.kv_peak_bytes > one.kv_peak_bytes + 2 * 20 * model().adapted.bytes_per_token
